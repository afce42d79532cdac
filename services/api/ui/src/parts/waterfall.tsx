// Each task of an event as a bar over time: waiting, attempts, pauses between them.
import { span } from "../format";
import type { EventState, Note, Task } from "../types";

interface Piece {
  kind: "queued" | "pending" | "running" | "retrying" | "waiting" | "held";
  from: number;
  to: number;
  failed?: boolean;
}

const LEGEND = [
  ["pending", "waits for its turn"],
  ["queued", "in the queue"],
  ["running", "running"],
  ["failed", "attempt failed"],
  ["retrying", "waits for the next attempt"],
  ["waiting", "its handler waits"],
] as const;

export function Waterfall({ event, tasks, notes }: { event: EventState; tasks: Task[]; notes: Note[] }) {
  const begin = Date.parse(event.published_at);
  const open = tasks.some((task) => !task.ended_at);
  const last = Math.max(
    ...tasks.map((task) => Date.parse(task.ended_at ?? task.started_at ?? task.queued_at ?? event.published_at)),
    ...notes.slice(-1).map((note) => Date.parse(note.time)),
  );
  const end = Math.max(begin + 1, open ? Math.max(last, Date.now()) : last);
  const whole = end - begin;
  const percent = (at: number) => `${Math.min(100, Math.max(0, ((at - begin) / whole) * 100)).toFixed(3)}%`;
  return (
    <div class="waterfall">
      {tasks.slice(0, 100).map((task) => (
        <div class="fall" key={task.id}>
          <span class="fall-name" title={task.name}>
            {task.name}
          </span>
          <div class="fall-track" role="img" aria-label={`${task.name}: ${task.state}, attempt ${task.attempt}`}>
            {pieces(task, notes, end).map((piece, i) => (
              <span
                key={i}
                class={`fall-piece fall-${piece.kind}${piece.failed ? " fall-failed" : ""}`}
                title={`${piece.kind} for ${span(piece.to - piece.from)}`}
                style={{ left: percent(piece.from), width: `max(3px, ${(((piece.to - piece.from) / whole) * 100).toFixed(3)}%)` }}
              />
            ))}
          </div>
          <span class="fall-time">{task.ended_at ? span(Date.parse(task.ended_at) - begin) : "…"}</span>
        </div>
      ))}
      <div class="fall fall-scale" aria-hidden="true">
        <span />
        <div class="fall-track bare">
          <span>0</span>
          <span>{span(whole / 2)}</span>
          <span>{span(whole)}</span>
        </div>
        <span />
      </div>
      <p class="legend" aria-hidden="true">
        {LEGEND.map(([kind, meaning]) => (
          <span class="nowrap" key={kind}>
            <span class={`key fall-${kind}`} /> {meaning}
          </span>
        ))}
      </p>
    </div>
  );
}

function pieces(task: Task, notes: Note[], end: number): Piece[] {
  const own = notes.filter((note) => note.task?.id === task.id && note.type !== "task.progress" && note.type !== "task.step");
  const ended = task.ended_at ? Date.parse(task.ended_at) : end;
  if (!own.length) {
    const queued = task.queued_at ? Date.parse(task.queued_at) : ended;
    const started = task.started_at ? Date.parse(task.started_at) : ended;
    return [
      { kind: task.state === "pending" ? "pending" : "queued", from: queued, to: started },
      { kind: "running", from: started, to: ended, failed: task.state === "failed" },
    ];
  }
  const found: Piece[] = [];
  for (const [i, note] of own.entries()) {
    const from = Date.parse(note.time);
    const next = own[i + 1];
    const to = next ? Date.parse(next.time) : task.ended_at ? from : end;
    const kind = { "task.queued": "queued", "task.started": "running", "task.retrying": "retrying", "task.waiting": "waiting", "task.held": "held", "task.pending": "pending" }[note.type];
    if (!kind) continue;
    const failed = note.type === "task.started" && (next?.type === "task.retrying" || next?.type === "task.failed");
    found.push({ kind: kind as Piece["kind"], from, to, failed });
  }
  return found;
}
