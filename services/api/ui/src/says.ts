// A notification in a few words.
import { span } from "./format";
import type { Note } from "./types";

function text(value: unknown, most = 160): string {
  const found = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return found.length > most ? `${found.slice(0, most)}…` : found;
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
      return text(error?.reason ?? "");
    case "task.succeeded":
      return data.result === null || data.result === undefined ? "" : text(data.result);
    case "event.completed":
      return `${data.tasks} done${Number(data.failed) ? `, ${data.failed} without success` : ""}`;
    case "event.unrouted":
    case "subscription.paused":
      return text(data.reason ?? "");
    default:
      return "";
  }
}
