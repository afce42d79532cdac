// Schedules: when they are due next; switched on and off, run now, stored, deleted.
import { useState } from "preact/hooks";
import { ask, get, key, post, told } from "../api";
import { ago, count, date, span } from "../format";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useFresh, usePages } from "../parts/pages";
import { link } from "../router";

const PAGE = 100; // schedules asked for at once
const KEPT = 2_000;

interface Schedule {
  name: string;
  cron: string | null;
  every_seconds: number | null;
  timezone: string | null;
  event: { type: string; data: Record<string, unknown>; subject: string | null; priority: number | null } | null;
  period: string | null;
  misfire: string | null;
  window_seconds: number | null;
  enabled: boolean | null;
  origin: "file" | "api" | null;
  next: string[];
  broken: string | null;
}

export function Schedules() {
  const pages = usePages<Schedule>("all", KEPT, async (cursor, signal) => {
    const page = await get<{ schedules: Schedule[]; next: string | null }>("v1/schedules", { limit: PAGE, cursor }, signal);
    return { rows: page.schedules, next: page.next };
  });
  useFresh(pages, "all", PAGE);
  const { rows, next, loading, again, further } = pages;
  const [error, setError] = useState("");
  const [ran, setRan] = useState<{ name: string; id: string; source: string }>();
  const [editing, setEditing] = useState<Schedule | "new">();
  const act = async (name: string, verb: "enable" | "disable" | "trigger") => {
    try {
      const answer = await post<{ id: string; source: string }>(`v1/schedules/${encodeURIComponent(name)}/${verb}`);
      if (verb === "trigger") setRan({ name, id: answer.id, source: answer.source });
      setError("");
    } catch (problem) {
      setError(told(problem));
    }
    again();
  };
  const admin = Boolean(key.value?.admin);
  return (
    <>
      <PageHead title="Schedules" note={rows.length ? `${count(rows.length)}${next ? " shown, there are more" : " known to the mesh"}` : undefined}>
        {admin && (
          <button class="button primary" onClick={() => setEditing("new")}>
            New schedule …
          </button>
        )}
      </PageHead>
      <Trouble text={error || pages.error} again={again} />
      {ran && (
        <p class="told" role="status">
          {ran.name} was run: <a href={link("event", ran.id, { source: ran.source })}>its event</a>
        </p>
      )}
      {!loading && !pages.error && !rows.length && <Empty title="No schedule is stored">The scheduler stores those of its file when it starts.</Empty>}
      <ul class="cards">
        {rows.map((one) => (
          <li class="panel card" key={one.name}>
            <div class="card-main">
              <p class="card-title">
                {one.name} <Badge state={one.broken ? "failed" : one.enabled ? "ok" : "off"} label={one.broken ? "broken" : one.enabled ? "on" : "off"} />
              </p>
              {one.broken ? (
                <p class="wrong">{one.broken}</p>
              ) : (
                <>
                  <p>
                    <span class="mono">{one.cron ?? `every ${span((one.every_seconds ?? 0) * 1000)}`}</span>
                    {one.cron && ` in ${one.timezone}`} publishes{" "}
                    <a href={link("events", "", { type: one.event!.type, subject: one.event!.subject ?? `schedule/${one.name}` })}>{one.event!.type}</a>
                  </p>
                  <p class="muted">
                    {one.next.length ? `Next: ${one.next.slice(0, 3).map((tick) => date(tick)).join(", ")} (${ago(one.next[0]!)})` : "Stands nowhere."}
                    {" · "}
                    {one.origin === "file" ? "from the scheduler's file" : "stored here"}
                    {" · "}
                    {one.misfire === "skip" ? "missed ticks are skipped" : one.misfire === "all" ? "every missed tick is made up for" : "the newest missed tick is made up for"}
                  </p>
                </>
              )}
            </div>
            {admin && (
              <div class="card-tools">
                {!one.broken && (
                  <>
                    <button class="button" onClick={() => void act(one.name, "trigger")} aria-label={`Run ${one.name} now`}>
                      Run now
                    </button>
                    <button class="button" onClick={() => void act(one.name, one.enabled ? "disable" : "enable")} aria-label={`${one.enabled ? "Switch off" : "Switch on"} ${one.name}`}>
                      {one.enabled ? "Switch off" : "Switch on"}
                    </button>
                  </>
                )}
                <a class="button quiet" href={link("audit", "", { about: one.name })} aria-label={`Who changed ${one.name}`}>
                  Who changed it
                </a>
                <button class="button quiet" onClick={() => setEditing(one)} aria-label={`Edit ${one.name}`}>
                  Edit …
                </button>
              </div>
            )}
          </li>
        ))}
      </ul>
      {next && (
        <button class="button" disabled={loading} onClick={further}>
          More schedules
        </button>
      )}
      {editing && (
        <Editor
          schedule={editing === "new" ? undefined : editing}
          close={() => {
            setEditing(undefined);
            again();
          }}
        />
      )}
    </>
  );
}

function asText(one: Schedule | undefined): string {
  const body = one?.event
    ? {
        ...(one.cron ? { cron: one.cron } : { every: one.every_seconds }),
        timezone: one.timezone,
        event: Object.fromEntries(Object.entries(one.event).filter(([, value]) => value !== null)),
        ...(one.period ? { period: one.period } : {}),
        misfire: one.misfire,
        ...(one.window_seconds ? { window: one.window_seconds } : {}),
        enabled: one.enabled,
      }
    : { cron: "0 9 * * MON", timezone: Intl.DateTimeFormat().resolvedOptions().timeZone, event: { type: "report.requested", data: {} }, misfire: "latest", enabled: true };
  return JSON.stringify(body, null, 2);
}

function Editor({ schedule, close }: { schedule?: Schedule; close: () => void }) {
  const [name, setName] = useState(schedule?.name ?? "");
  const [text, setText] = useState(() => asText(schedule));
  const [error, setError] = useState("");
  const path = `v1/schedules/${encodeURIComponent(name)}`;
  const tried = async (work: () => Promise<unknown>) => {
    try {
      await work();
      close();
    } catch (problem) {
      setError(problem instanceof SyntaxError ? `This is no JSON: ${problem.message}` : told(problem));
    }
  };
  return (
    <Dialog title={schedule ? `Edit ${schedule.name}` : "New schedule"} close={close}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void tried(async () => ask("PUT", path, { body: JSON.parse(text) as unknown }));
        }}
      >
        <Trouble text={error} />
        {!schedule && (
          <label class="field">
            <span>Name</span>
            <input value={name} pattern="[a-z0-9][a-z0-9_.\-]{0,63}" required placeholder="weekly-report" onInput={(event) => setName(event.currentTarget.value)} />
          </label>
        )}
        {schedule?.origin === "file" && <p class="note">It comes from the scheduler's file. Stored here, it does not follow the file until it is deleted here.</p>}
        <label class="field">
          <span>cron or every, timezone, event, period, misfire, window, enabled</span>
          <textarea rows={16} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <footer class="dialog-foot">
          {schedule && schedule.origin !== "file" && (
            <button type="button" class="button danger" onClick={() => void tried(() => ask("DELETE", path))}>
              Delete
            </button>
          )}
          <button class="button primary">Store</button>
        </footer>
      </form>
    </Dialog>
  );
}
