// A notification in a few words.
import { span } from "./format";
import type { Note } from "./types";

function text(value: unknown, most = 160): string {
  const found = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return found.length > most ? `${found.slice(0, most)}…` : found;
}

/** What a durable handler waits for, from a notification or from its task. */
export function waits(about: Record<string, unknown>): string {
  const what = about.for ?? about.kind;
  if (what === "event") return `for ${text(about.type)} with ${text(about.match)}`;
  if (what === "signal") return about.question ? `${text(about.question)}${about.to ? ` (${text(about.to)})` : ""}` : `for the signal ${text(about.signal)}`;
  if (what === "version") return `for a worker that has version ${text(about.version)} of its handler`;
  return "until its time has come";
}

export function says(note: Note): string {
  const { data } = note;
  const error = data.error as { reason?: string; kind?: string } | undefined;
  switch (note.type) {
    case "task.progress":
      return `${Math.round(Number(data.progress ?? 0) * 100)} %  ${text(data.text ?? "")}`;
    case "task.retrying":
      return `again in ${span(Number(data.retry_in_seconds ?? 0) * 1000)}: ${text(error?.reason ?? "")}`;
    case "task.failed":
    case "task.cancelled":
    case "task.expired":
    case "task.skipped":
      return text(error?.reason ?? "");
    case "task.folded":
      return `into the run ${text((data.result as { run?: string } | undefined)?.run ?? "")}`;
    case "task.succeeded":
      return data.result === null || data.result === undefined ? "" : text(data.result);
    case "task.step":
      return data.kind === "step" ? text(data.step) : `${text(data.step)}: ${text(data.kind)}`;
    case "task.waiting":
      return waits(data);
    case "event.completed":
      return `${data.tasks} done${Number(data.failed) ? `, ${data.failed} without success` : ""}`;
    case "event.unrouted":
    case "subscription.paused":
      return text(data.reason ?? "");
    default:
      return "";
  }
}
