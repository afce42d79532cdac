// How the mesh is now: what is wrong, what flows where, what waits.
import { get, key } from "../api";
import { ago, bytes, clock, count, rate, span } from "../format";
import * as live from "../live";
import { Badge, Empty, PageHead, Panel, Sparkline, Trouble } from "../parts/basic";
import { useLoaded } from "../parts/hooks";
import { List } from "../parts/list";
import { MeshPicture } from "../parts/mesh_picture";
import { link } from "../router";
import { says } from "../says";
import type { Finding, Note, Service, Status } from "../types";

export function Overview() {
  const mayAsk = key.value?.role !== "limited";
  const found = useLoaded<Status | undefined>(
    (signal) => (mayAsk ? get<Status>("v1/status", {}, signal) : Promise.resolve(undefined)),
    [key.value?.name],
    2_000,
  );
  const status = found.value;
  return (
    <>
      <PageHead title="Overview" note={status ? `As of ${clock(status.time, false)}` : undefined} />
      <Trouble text={found.error} again={found.reload} />
      {!mayAsk && (
        <p class="note">
          This key may not read every event, so only what it may read is shown here, and not the state of the mesh.
        </p>
      )}
      {status && <Findings of={status.findings} />}
      <Tiles status={status} />
      {status && (
        <Panel title="The mesh, now" class="mesh-panel" flush>
          <MeshPicture status={status} />
        </Panel>
      )}
      {status && <Services status={status} />}
      <Feed />
    </>
  );
}

function Findings({ of }: { of: Finding[] }) {
  if (!of.length) return null;
  return (
    <section aria-label="Findings" class="findings">
      {of.slice(0, 20).map((one) => (
        <article class={`finding tone-${one.severity === "error" ? "bad" : "warn"}`} key={`${one.code} ${one.about}`}>
          <Badge state={one.severity} />
          <div>
            <p class="finding-text">{one.text}</p>
            {one.do && <p class="finding-do">{one.do}</p>}
          </div>
          {one.code === "paused" && <a href={link("subscriptions")}>Resume</a>}
        </article>
      ))}
      {of.length > 20 && <p class="note">and {of.length - 20} more</p>}
    </section>
  );
}

function Tiles({ status }: { status: Status | undefined }) {
  live.beat();
  const { series } = live;
  const services = status?.services ?? [];
  const lag = services.reduce((sum, one) => sum + one.lag, 0);
  const waiting = services.reduce((sum, one) => sum + one.waiting, 0);
  const oldest = Math.max(0, ...services.map((one) => one.oldest_waiting_seconds ?? 0));
  const dead = services.reduce((sum, one) => sum + one.dead_letters, 0);
  const failures = series.total("type:task.failed");
  const share = status?.redis.memory_limit ? (100 * status.redis.memory) / status.redis.memory_limit : 0;
  const full = status?.redis.full_in_seconds ?? null;
  return (
    <section class="tiles" aria-label="Figures">
      <Tile name="Events" value={`${rate(series.rate("events"))}/s`} note="that reached a queue, last 10 s" points={series.points("events")} />
      <Tile name="Tasks done" value={`${rate(series.rate("type:task.succeeded"))}/s`} note={`${rate(series.rate("type:task.started"))}/s started`} points={series.points("type:task.succeeded")} tone="ok" />
      <Tile name="Failures" value={count(failures)} note={`${count(series.total("type:task.retrying"))} retries, last minute`} points={series.points("type:task.failed")} tone="bad" alarm={failures > 0} />
      <Tile name="Pushed" value={`${rate(series.rate("all"))}/s`} note="notifications that this key may read" points={series.points("all")} />
      {status && (
        <>
          <Tile name="Waiting" value={count(lag + waiting)} note={lag + waiting ? `oldest for ${span(oldest * 1000)}` : "nothing waits"} alarm={oldest > 60} />
          <Tile name="Dead letters" value={count(dead)} note="parked, can be replayed" href={link("dead-letters")} alarm={dead > 0} />
          <Tile name="Workers" value={count(services.reduce((sum, one) => sum + one.workers, 0))} note={`${status.dispatchers} dispatcher, ${status.beats} scheduler, ${status.apis} API`} />
          <Tile name="Redis" value={bytes(status.redis.memory)} note={`${share ? `${share.toFixed(0)} % of its limit, ` : ""}${full === null ? "" : `full in ${span(full * 1000)}, `}${status.redis.ping_ms.toFixed(1)} ms`} alarm={share > 75 || (full !== null && full < 3_600)} />
        </>
      )}
    </section>
  );
}

function Tile(props: { name: string; value: string; note: string; points?: number[]; tone?: string; href?: string; alarm?: boolean }) {
  const inside = (
    <>
      <span class="tile-name">{props.name}</span>
      <span class={props.alarm ? "tile-value alarm" : "tile-value"}>{props.value}</span>
      <span class="tile-note">{props.note}</span>
      {props.points && <Sparkline points={props.points} tone={props.tone} label={`${props.name}, each second of the last minute`} />}
    </>
  );
  return props.href ? (
    <a class="tile" href={props.href}>
      {inside}
    </a>
  ) : (
    <div class="tile">{inside}</div>
  );
}

/** How long until nothing waits, at the pace of the last ten seconds. */
function goneIn(one: Service): string {
  const backlog = one.lag + one.waiting;
  if (!backlog) return "–";
  const done = live.series.rate(`service:${one.service}:task.succeeded`) + live.series.rate(`service:${one.service}:task.failed`);
  const came = live.series.rate(`service:${one.service}:task.queued`);
  const pace = one.lag ? done : done - came;
  return pace > 0 ? `about ${span((backlog / pace) * 1000)}` : done ? "it grows" : "stands still";
}

function Services({ status }: { status: Status }) {
  live.beat();
  return (
    <Panel title="Services" flush>
      <List<Service>
        label="Services"
        rows={status.services}
        id={(one) => one.service}
        href={(one) => link("services", one.service)}
        empty={<Empty title="No service has joined yet">Start a worker, and it appears here.</Empty>}
        columns={[
          { name: "Service", width: "minmax(140px, 1.6fr)", cell: (one) => <span class="strong">{one.service}</span> },
          { name: "State", width: "120px", cell: (one) => <Badge state={standing(one)} /> },
          { name: "Workers", width: "76px", class: "number", cell: (one) => count(one.workers), phone: false },
          { name: "Running", width: "76px", class: "number", cell: (one) => count(Math.max(0, one.queued - one.waiting)), phone: false },
          { name: "Queue", width: "76px", class: "number", cell: (one) => count(one.waiting) },
          { name: "Lag", width: "76px", class: "number", cell: (one) => `${one.lag_exact ? "" : "≥ "}${count(one.lag)}`, phone: false },
          { name: "Oldest", width: "80px", class: "number", cell: (one) => (one.oldest_waiting_seconds === null ? "–" : span(one.oldest_waiting_seconds * 1000)), phone: false },
          { name: "Gone in", width: "110px", class: "number", cell: goneIn, phone: false },
          { name: "Done/s", width: "70px", class: "number", cell: (one) => rate(live.series.rate(`service:${one.service}:task.succeeded`)) },
          {
            name: "Last minute",
            width: "120px",
            phone: false,
            cell: (one) => <Sparkline points={live.series.points(`service:${one.service}:task.succeeded`)} tone="ok" label={`Tasks of ${one.service} done, last minute`} />,
          },
          { name: "Dead", width: "64px", class: "number", cell: (one) => count(one.dead_letters), phone: false },
        ]}
      />
    </Panel>
  );
}

export function standing(one: Service): string {
  if (!one.registered) return "left";
  if (!one.workers) return one.waiting || one.lag || one.queued ? "failing" : "no worker";
  if (live.series.total(`service:${one.service}:task.failed`)) return "degraded";
  return one.held ? "paused" : "ok";
}

function Feed() {
  live.beat();
  const shown: Note[] = live.notes.slice(-300).reverse();
  return (
    <Panel title="As it happens" side={live.skipped.value ? `${count(live.skipped.value)} counted and not shown` : undefined} flush>
      <List<Note>
        label="Notifications, newest first"
        rows={shown}
        id={(one) => one.id}
        href={(one) => (one.event ? link("event", one.event.id, { source: one.event.source }) : undefined)}
        height="360px"
        empty={<Empty title="Quiet">What happens is shown here as soon as it does.</Empty>}
        columns={[
          { name: "Time", width: "110px", cell: (one) => <time class="mono" title={ago(one.time)}>{clock(one.time)}</time> },
          { name: "What", width: "130px", cell: (one) => <Badge state={one.type.split(".")[1] ?? one.type} /> },
          { name: "Event", width: "minmax(120px, 1fr)", cell: (one) => one.event?.type ?? String(one.data.subscription ?? "") },
          { name: "Task", width: "minmax(120px, 1fr)", cell: (one) => one.task?.name ?? "", phone: false },
          { name: "", width: "minmax(100px, 1.2fr)", class: "muted", cell: (one) => says(one), phone: false },
        ]}
      />
    </Panel>
  );
}
