// One event: where it came from, its way, what came of it; and where nothing ran, why.
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, get, post, told } from "../api";
import { ago, clock, count, date, span } from "../format";
import { Badge, Copy, Empty, Facts, Json, PageHead, Panel, Trouble } from "../parts/basic";
import { useLoaded } from "../parts/hooks";
import { Lineage } from "../parts/lineage";
import { TaskStream } from "../parts/task_stream";
import { Waterfall } from "../parts/waterfall";
import { go, link, place } from "../router";
import { says, waits } from "../says";
import { follow, type StreamState } from "../stream";
import type { EventState, Note, Task } from "../types";

const NOTES_KEPT = 2_000;

export function EventPage() {
  const { id, query } = place.value;
  const source = query.get("source") ?? "";
  const found = useLoaded<EventState>((signal) => get(`v1/events/${encodeURIComponent(id)}`, { source }, signal), [id, source]);
  const { notes, state, whole } = useNotes(id, source, Boolean(found.value), found.reload);
  if (found.problem instanceof ApiError && found.problem.problem.status === 404) return <NoEvent id={id} text={found.error} />;
  if (found.problem instanceof ApiError && found.problem.problem.type.endsWith("ambiguous-event")) {
    const sources = (found.problem.problem.sources as string[] | undefined) ?? [];
    return (
      <>
        <PageHead title="Which one?" note={`Several sources published an event with the id ${id}.`} />
        <ul class="choices">
          {sources.map((one) => (
            <li key={one}>
              <a href={link("event", id, { source: one })}>{one}</a>
            </li>
          ))}
        </ul>
      </>
    );
  }
  const event = found.value;
  if (!event) return <Trouble text={found.error} again={found.reload} />;
  return <Whole event={event} notes={notes} live={state} whole={whole} reload={found.reload} />;
}

/** What the event's own stream tells: its past first, then what comes. */
function useNotes(id: string, source: string, ready: boolean, changed: () => void) {
  const [notes, setNotes] = useState<Note[]>([]);
  const [state, setState] = useState<StreamState>("connecting");
  const [whole, setWhole] = useState(true);
  useEffect(() => {
    setNotes([]);
    setWhole(true);
    if (!ready) return;
    let inbox: Note[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const flush = () => {
      timer = undefined;
      const fresh = inbox;
      inbox = [];
      setNotes((kept) => {
        const known = new Set(kept.map((one) => `${one.id} ${one.type} ${one.task?.id}`));
        const more = fresh.filter((one) => !known.has(`${one.id} ${one.type} ${one.task?.id}`));
        return [...kept, ...more].slice(-NOTES_KEPT);
      });
      changed();
    };
    const stop = follow({
      path: `v1/events/${encodeURIComponent(id)}/notifications`,
      query: { source },
      state: setState,
      frames: (frames) => {
        for (const frame of frames) {
          if (frame.event === "resync") setWhole(false);
          else if (frame.event !== "closed") inbox.push(JSON.parse(frame.data) as Note);
        }
        timer ??= setTimeout(flush, 300);
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [id, source, ready]);
  return { notes, state, whole };
}

function Whole(props: { event: EventState; notes: Note[]; live: StreamState; whole: boolean; reload: () => void }) {
  const { event, notes } = props;
  const tasks = event.deliveries.flatMap((one) => (one.task ? [one.task] : []));
  const envelope = event.event;
  const ends = tasks.map((task) => Date.parse(task.ended_at ?? "")).filter((at) => !Number.isNaN(at));
  const took = event.state === "completed" && ends.length ? Math.max(...ends) - Date.parse(event.published_at) : null;
  const failed = tasks.some((task) => task.state === "failed");
  const shown = event.state === "completed" && failed ? "failed" : event.state;
  return (
    <>
      <PageHead
        title={event.type ?? "(type not kept)"}
        note={
          <span class="id-line">
            <span class="mono">{event.id}</span>
            <Copy text={event.id} label="Copy id" />
          </span>
        }
      >
        <Badge state={shown} label={shown === "failed" ? "completed with failures" : shown} />
        {props.live === "open" && event.state !== "completed" && <span class="pill live-open"><span class="dot" aria-hidden="true" />Live</span>}
        {envelope && (
          <a class="button" href={link("send", "", { like: event.id, source: event.source })}>
            Send one like it
          </a>
        )}
      </PageHead>
      <p class="lead">{event.detail}</p>
      <NotRun event={event} />
      <div class="columns">
        <div>
          {tasks.length > 0 && (
            <Panel title="Its way" side={took === null ? undefined : `done in ${span(took)}`}>
              <Waterfall event={event} tasks={tasks} notes={notes} />
            </Panel>
          )}
          <Panel title="Timeline" side={props.whole ? `${count(notes.length)} told` : "the older part is not kept any more"}>
            <Timeline event={event} notes={notes} tasks={tasks} />
          </Panel>
          {tasks.map((task) => (
            <TaskPanel key={task.id} task={task} reload={props.reload} />
          ))}
        </div>
        <div>
          <Panel title="Facts">
            <Facts
              of={[
                ["Source", event.source],
                ["Subject", (envelope?.subject as string) ?? tasks[0]?.event.subject ?? "–"],
                ["Published", `${date(event.published_at)} (${ago(event.published_at)})`],
                ["Deliveries", count(event.deliveries.length)],
                ["Correlation", <span class="mono">{String(envelope?.correlationid ?? event.id)}</span>],
                ...(event.held_until ? ([["Held until", date(event.held_until)]] as [string, string][]) : []),
              ]}
            />
          </Panel>
          <Panel title="Where it came from, and what followed">
            <Lineage event={event} tasks={tasks} />
          </Panel>
          <Panel title="Envelope" side={envelope ? <Copy text={JSON.stringify(envelope)} label="Copy JSON" /> : undefined} flush>
            {envelope ? <Json value={envelope} label="The event's envelope" /> : <Empty title="Not kept any more">Its retention is over; what became of it is still known.</Empty>}
          </Panel>
        </div>
      </div>
    </>
  );
}

function NotRun({ event }: { event: EventState }) {
  if (!event.not_run.length && !event.not_delivered.length) return null;
  return (
    <section class="not-run" aria-label="What did not run, and why">
      {event.not_run.map((one) => (
        <p key={one.subscription}>
          <Badge state={one.why === "paused" ? "paused" : "waiting"} label={one.why} />
          <span>
            <strong>{one.subscription}</strong> {one.detail}
          </span>
          {one.why === "limited" && <a href={link("subscriptions", one.subscription)}>See its line</a>}
          {one.why === "paused" && <a href={link("subscriptions")}>See paused subscriptions</a>}
        </p>
      ))}
      {event.not_delivered.map((one) => (
        <p key={one.subscription}>
          <Badge state="filtered" label="not for it" />
          <span>
            <strong>{one.subscription}</strong> {one.reason}
          </span>
        </p>
      ))}
    </section>
  );
}

interface Moment {
  href?: string;
  at: string;
  kind: string;
  title: string;
  text: string;
  key: string;
}

function Timeline({ event, notes, tasks }: { event: EventState; notes: Note[]; tasks: Task[] }) {
  const moments = useMemo(() => timeline(event, notes, tasks), [event, notes]);
  const [all, setAll] = useState(false);
  const shown = all || moments.length <= 60 ? moments : [...moments.slice(0, 30), ...moments.slice(-30)];
  const begin = Date.parse(event.published_at);
  return (
    <>
      <ol class="timeline">
        {shown.map((one) => (
          <li key={one.key} class={`moment moment-${one.kind}`}>
            <time title={date(one.at)}>{clock(one.at)}</time>
            <span class="moment-after">+{span(Date.parse(one.at) - begin)}</span>
            <div>
              <p class="moment-title">{one.href ? <a href={one.href}>{one.title}</a> : one.title}</p>
              {one.text && <p class="moment-text">{one.text}</p>}
            </div>
          </li>
        ))}
      </ol>
      {shown.length < moments.length && (
        <button class="button small" onClick={() => setAll(true)}>
          Show all {count(moments.length)}
        </button>
      )}
    </>
  );
}

const WORDS: Record<string, string> = {
  "task.pending": "waits in line for its turn",
  "task.queued": "queued",
  "task.started": "started",
  "task.progress": "is on its way",
  "task.retrying": "failed, and is tried again",
  "task.step": "recorded a step",
  "task.waiting": "waits",
  "task.succeeded": "succeeded",
  "task.failed": "failed: it is a dead letter now",
  "task.cancelled": "was cancelled",
  "task.expired": "expired before a worker was free",
  "task.skipped": "was skipped, by the limits of its subscription",
  "task.folded": "was folded into a run of its key",
  "task.held": "set aside: its subscription is paused",
};

function timeline(event: EventState, notes: Note[], tasks: Task[]): Moment[] {
  const found: Moment[] = [
    { at: event.published_at, kind: "published", title: `Published by ${event.source}`, text: "", key: "published" },
  ];
  const matched = event.deliveries.length + event.not_run.filter((one) => !event.deliveries.some((d) => d.task_id === one.task_id)).length;
  const first = notes.find((one) => one.type === "task.queued" || one.type === "task.pending" || one.type === "task.skipped" || one.type === "task.held");
  if (first) {
    const names = [...new Set(tasks.map((task) => task.name))];
    found.push({ at: first.time, kind: "matched", title: `Matched ${matched} ${matched === 1 ? "subscription" : "subscriptions"}`, text: names.join(", "), key: "matched" });
  }
  const progress = new Map<string, Moment>();
  for (const note of notes) {
    const name = note.task?.name ?? "";
    const attempt = note.task && note.task.attempt > 1 ? ` (attempt ${note.task.attempt})` : "";
    const moment: Moment = {
      at: note.time,
      kind: note.type.split(".")[1] ?? "",
      title: note.task ? `${name} ${WORDS[note.type] ?? note.type}${note.type === "task.queued" || note.type === "task.pending" ? "" : attempt}` : said(note),
      text: says(note),
      key: `${note.id} ${note.type} ${note.task?.id ?? ""}`,
    };
    if (note.type === "task.progress") {
      const of = `${note.task?.id} ${note.task?.attempt}`;
      const before = progress.get(of);
      if (before) {
        Object.assign(before, moment);
        continue;
      }
      progress.set(of, moment);
    }
    found.push(moment);
    const follows = note.type === "task.succeeded" ? (note.data.events as { type: string; id: string; source: string }[] | undefined) : undefined;
    for (const one of follows ?? []) {
      found.push({ at: note.time, kind: "follow", title: `${one.type} followed`, href: link("event", one.id, { source: one.source }), text: one.id, key: `follow ${note.id} ${one.id}` });
    }
  }
  if (!notes.length) found.push(...fromRecords(tasks));
  return found;
}

function said(note: Note): string {
  if (note.type === "event.completed") return "Completed: every task has ended, and whoever listened was told";
  if (note.type === "event.unrouted") return "Nothing ran: no subscription wanted it";
  return note.type;
}

function fromRecords(tasks: Task[]): Moment[] {
  return tasks
    .flatMap((task) => [
      { at: task.queued_at, kind: "queued", what: "queued" },
      { at: task.started_at, kind: "started", what: `started (attempt ${task.attempt})` },
      { at: task.ended_at, kind: task.state, what: task.state },
    ].flatMap(({ at, kind, what }) => (at ? [{ at, kind, title: `${task.name} ${what}`, text: "", key: `${task.id} ${kind}` }] : [])))
    .sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
}

function TaskPanel({ task, reload }: { task: Task; reload: () => void }) {
  const [wrong, setWrong] = useState("");
  const cancel = async () => {
    try {
      await post(`v1/tasks/${encodeURIComponent(task.id)}/cancel`);
      setWrong("");
    } catch (error) {
      setWrong(told(error));
    }
    reload();
  };
  const answer = async (data: boolean) => {
    try {
      await post(`v1/tasks/${encodeURIComponent(task.id)}/signal`, { name: task.waits_for?.signal, data });
      setWrong("");
    } catch (error) {
      setWrong(told(error));
    }
    reload();
  };
  const open = !task.ended_at;
  return (
    <Panel
      title={task.name}
      side={
        <>
          <Badge state={task.state} />
          {open && (
            <button class="button small danger" onClick={() => void cancel()}>
              Cancel
            </button>
          )}
          {task.state === "failed" && <a href={link("dead-letters", task.id)}>Dead letter</a>}
        </>
      }
    >
      <Trouble text={wrong} />
      <Facts
        of={[
          ["Task", <span class="mono">{task.id}</span>],
          ["Attempt", String(task.attempt)],
          ["Worker", task.worker ?? "–"],
          ["Queued", clock(task.queued_at)],
          ["Started", clock(task.started_at)],
          ["Ended", clock(task.ended_at)],
          ...(task.next_attempt_at && !task.waits_for ? ([["Next attempt", `${clock(task.next_attempt_at)} (${ago(task.next_attempt_at)})`]] as [string, string][]) : []),
          ...(task.waits_for ? ([["Waits", `${waits(task.waits_for)}, at most to ${clock(task.waits_for.until)}`]] as [string, string][]) : []),
          ...(task.steps.length ? ([["Steps", task.steps.map((step) => step.name).join(", ")]] as [string, string][]) : []),
          ...(task.progress ? ([["Progress", `${Math.round((task.progress.progress ?? 0) * 100)} % ${task.progress.text ?? ""}`]] as [string, string][]) : []),
        ]}
      />
      {task.waits_for?.kind === "signal" && (
        <p class="asks">
          {waits(task.waits_for)}{" "}
          <button class="button small" onClick={() => void answer(true)}>
            Approve
          </button>{" "}
          <button class="button small danger" onClick={() => void answer(false)}>
            Refuse
          </button>
        </p>
      )}
      {task.error && <Json value={task.error.reason ?? task.error} label={`Why ${task.name} failed`} />}
      {task.result !== null && task.result !== undefined && <Json value={task.result} label={`The result of ${task.name}`} />}
      <TaskStream id={task.id} name={task.name} />
    </Panel>
  );
}

/** What was looked for may be a task's id, or a dead letter's. */
function NoEvent({ id, text }: { id: string; text: string }) {
  useEffect(() => {
    get<Task>(`v1/tasks/${encodeURIComponent(id)}`)
      .then((task) => go("event", task.event.id, { source: task.event.source }))
      .catch(() => {});
  }, [id]);
  return (
    <>
      <PageHead title="Not found" />
      <Empty title={text}>It may be an id that was never published here, or one of which nothing is kept any more.</Empty>
    </>
  );
}
