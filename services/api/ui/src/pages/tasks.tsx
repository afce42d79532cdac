// Tasks: what is open, who holds it, what ended how.
import { get } from "../api";
import { ago, count, span, when } from "../format";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { List } from "../parts/list";
import { useFresh, usePages } from "../parts/pages";
import { link, place, refine } from "../router";
import type { Task } from "../types";

const STATES = ["open", "ended", "pending", "queued", "started", "retrying", "waiting", "held", "succeeded", "failed", "cancelled", "expired", "skipped", "folded"];
const FIELDS = [
  ["service", "Service"],
  ["name", "Task"],
  ["type", "Event type"],
  ["worker", "Worker"],
] as const;
const KEPT = 5_000;

export function Tasks() {
  const asked = place.value.query;
  const state = asked.get("state") ?? "open";
  const filter = Object.fromEntries(FIELDS.flatMap(([name]) => (asked.get(name) ? [[name, asked.get(name)!]] : [])));
  const ended = ["ended", "succeeded", "failed", "cancelled", "expired", "skipped", "folded"].includes(state);
  const order = asked.get("order") === "oldest" && !ended ? "oldest" : "newest";
  const which = JSON.stringify([state, order, filter]);
  const pages = usePages<Task>(which, KEPT, async (cursor, signal) => {
    const asks = { ...filter, state, order, limit: 100, cursor };
    const page = await get<{ tasks: Task[]; next: string | null }>("v1/tasks", asks, signal);
    return { rows: page.tasks, next: page.next };
  });
  const { rows: tasks, next, error, loading, again, further, atEnd } = pages;
  useFresh(pages, which, 100); // what is open changes by itself

  return (
    <>
      <PageHead title="Tasks" note={`${count(tasks.length)}${next ? "+" : ""} ${ended ? "that ended" : "open"}, ${order} first`} />
      <form class="filters" role="search" aria-label="Filter tasks" onSubmit={(event) => event.preventDefault()}>
        <label class="field compact">
          <span>State</span>
          <select value={state} onChange={(event) => refine({ ...filter, order, state: event.currentTarget.value })}>
            {STATES.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <label class="field compact">
          <span>Order</span>
          <select value={order} disabled={ended} onChange={(event) => refine({ ...filter, state, order: event.currentTarget.value })}>
            <option value="newest">Newest first</option>
            <option value="oldest">Oldest first</option>
          </select>
        </label>
        {FIELDS.map(([name, label]) => (
          <label class="field compact" key={name}>
            <span>{label}</span>
            <input type="search" value={filter[name] ?? ""} spellcheck={false} onInput={(event) => refine({ ...filter, state, order, [name]: event.currentTarget.value })} />
          </label>
        ))}
      </form>
      <Trouble text={error} again={again} />
      <div class="panel">
        <List<Task>
          label={`Tasks, ${order} first`}
          rows={tasks}
          id={(one) => one.id}
          href={(one) => link("event", one.event.id, { source: one.event.source })}
          height="calc(100vh - 300px)"
          atEnd={atEnd}
          empty={
            loading ? (
              <Empty title="Asking …" />
            ) : (
              <Empty title={ended ? "None has ended" : "Nothing is open"}>
                {next ? "Nothing among those looked at so far." : Object.keys(filter).length ? "No task fits these filters." : "Every task has ended."}
                {next && (
                  <button class="button" onClick={further}>
                    Look further back
                  </button>
                )}
              </Empty>
            )
          }
          columns={[
            { name: "Task", width: "minmax(150px, 1.3fr)", cell: (one) => <span class="strong">{one.name}</span> },
            { name: "State", width: "112px", cell: (one) => <Badge state={one.state} /> },
            { name: "Attempt", width: "68px", class: "number", cell: (one) => one.attempt, phone: false },
            { name: "Worker", width: "minmax(110px, 1.2fr)", class: "mono muted", cell: (one) => one.worker ?? "–", phone: false },
            { name: "Event", width: "minmax(110px, 1fr)", cell: (one) => one.event.type, phone: false },
            { name: "", width: "minmax(100px, 1.3fr)", class: "muted", cell: about, phone: false },
            { name: ended ? "Took" : "For", width: "78px", class: "number", cell: lasted },
            { name: ended ? "Ended" : "Queued", width: "112px", class: "number", cell: (one) => when(ended ? one.ended_at : one.queued_at), phone: false },
          ]}
        />
      </div>
    </>
  );
}

function about(one: Task): string {
  if (one.state === "retrying" && one.next_attempt_at) return `again ${ago(one.next_attempt_at)}: ${one.error?.reason ?? ""}`;
  if (one.error?.reason) return one.error.reason;
  if (one.progress) return `${Math.round((one.progress.progress ?? 0) * 100)} % ${one.progress.text ?? ""}`;
  return one.result === null || one.result === undefined ? "" : JSON.stringify(one.result).slice(0, 200);
}

function lasted(one: Task): string {
  const from = Date.parse(one.queued_at ?? "");
  if (Number.isNaN(from)) return "–";
  return span((one.ended_at ? Date.parse(one.ended_at) : Date.now()) - from);
}
