// The event that caused this one, and those that followed, some steps deep.
import { useState } from "preact/hooks";
import { get } from "../api";
import { link } from "../router";
import type { EventState, FollowUp, Task } from "../types";
import { Badge } from "./basic";
import { useLoaded } from "./hooks";

const DEEPEST = 5;
const WIDEST = 50;

export function Lineage({ event, tasks }: { event: EventState; tasks: Task[] }) {
  const cause = event.event?.causationid;
  const follows = tasks.flatMap((task) => task.events.map((one) => ({ ...one, by: task.name })));
  return (
    <div class="lineage">
      {typeof cause === "string" ? (
        <p class="lineage-cause">
          Caused by <a class="mono" href={link("event", cause)}>{cause}</a>
        </p>
      ) : (
        <p class="lineage-cause muted">Published from outside: no event caused it.</p>
      )}
      {follows.length ? (
        <ul class="tree">
          {follows.slice(0, WIDEST).map((one) => (
            <Branch key={one.id} of={one} by={one.by} depth={1} />
          ))}
          {follows.length > WIDEST && <li class="muted">and {follows.length - WIDEST} more</li>}
        </ul>
      ) : (
        <p class="muted">{event.state === "completed" ? "No event followed." : "No event has followed yet."}</p>
      )}
    </div>
  );
}

function Branch({ of, by, depth }: { of: FollowUp; by: string; depth: number }) {
  const [open, setOpen] = useState(depth <= 2);
  const state = useLoaded<EventState | null>(
    (signal) => (open ? get(`v1/events/${encodeURIComponent(of.id)}`, { source: of.source }, signal) : Promise.resolve(null)),
    [of.id, of.source, open],
  );
  const event = state.value;
  const tasks = event?.deliveries.flatMap((one) => (one.task ? [one.task] : [])) ?? [];
  const follows = tasks.flatMap((task) => task.events.map((one) => ({ ...one, by: task.name })));
  return (
    <li>
      <span class="tree-line">
        <a href={link("event", of.id, { source: of.source })}>{of.type}</a>
        {event && <Badge state={event.state} />}
        {!open && (
          <button class="button quiet small" onClick={() => setOpen(true)}>
            Look
          </button>
        )}
      </span>
      <span class="tree-by muted">
        from {by}
        {tasks.length > 0 && `, to ${tasks.map((task) => task.name).join(", ")}`}
      </span>
      {follows.length > 0 && depth < DEEPEST && (
        <ul class="tree">
          {follows.slice(0, WIDEST).map((one) => (
            <Branch key={one.id} of={one} by={one.by} depth={depth + 1} />
          ))}
        </ul>
      )}
    </li>
  );
}
