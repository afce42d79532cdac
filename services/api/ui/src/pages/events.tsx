// Events, newest first: what is kept, by filters, and on top of it what comes.
import { useMemo, useState } from "preact/hooks";
import { get } from "../api";
import { ago, count, when } from "../format";
import * as live from "../live";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { List } from "../parts/list";
import { usePages } from "../parts/pages";
import { link, place, refine } from "../router";

interface Row {
  id: string;
  source: string;
  type: string;
  subject: string | null;
  time: string;
  state: string;
  tasks: number | null;
  failed: number;
}

interface Standing {
  state: string;
  published_at: string;
  tasks: number | null;
  done: number;
  failed: number;
}

interface Page {
  events: Record<string, unknown>[];
  standings: Standing[];
  next: string | null;
}

const KEPT = 5_000;
const STATES = ["", "waiting", "running", "completed", "failed", "unrouted"];

export function Events() {
  const asked = place.value.query;
  const filter = {
    type: asked.get("type") ?? "",
    source: asked.get("source") ?? "",
    subject: asked.get("subject") ?? "",
    state: asked.get("state") ?? "",
    text: asked.get("text") ?? "",
  };
  const which = JSON.stringify(filter);
  const [follows, setFollows] = useState(true);
  const { rows, next, error, loading, again, further, atEnd } = usePages<Row>(
    which,
    KEPT,
    async (cursor, signal) => {
      const asks = { ...filter, type: filter.type || "*", standing: true, limit: 100, cursor };
      const page = await get<Page>("v1/events", asks, signal);
      return { rows: page.events.map((event, i) => row(event, page.standings[i])), next: page.next };
    },
    (clear) => clear(),
  );

  const version = live.beat();
  const shown = useMemo(() => (follows ? withLive(rows, filter) : rows), [rows, follows, follows ? version : 0, which]);
  const set = (name: string, value: string) => refine({ ...filter, [name]: value });

  return (
    <>
      <PageHead title="Events" note={`${count(shown.length)}${next ? "+" : ""} shown`}>
        <label class="switch">
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
          Follow
        </label>
        <button class="button" onClick={again}>
          Ask again
        </button>
      </PageHead>
      <form class="filters" role="search" aria-label="Filter events" onSubmit={(event) => event.preventDefault()}>
        <Field label="Type" hint="order.*" value={filter.type} set={(value) => set("type", value)} />
        <Field label="Source" hint="shop" value={filter.source} set={(value) => set("source", value)} />
        <Field label="Subject" hint="user/42" value={filter.subject} set={(value) => set("subject", value)} />
        <Field label="Text in it" hint="ada@example.com" value={filter.text} set={(value) => set("text", value)} />
        <label class="field compact">
          <span>State</span>
          <select value={filter.state} onChange={(event) => set("state", event.currentTarget.value)}>
            {STATES.map((state) => (
              <option key={state} value={state}>
                {state || "any"}
              </option>
            ))}
          </select>
        </label>
      </form>
      <Trouble text={error} again={again} />
      <div class="panel">
        <List<Row>
          label="Events, newest first"
          rows={shown}
          id={(one) => live.identity(one.source, one.id)}
          href={(one) => link("event", one.id, { source: one.source })}
          height="calc(100vh - 300px)"
          atEnd={atEnd}
          empty={
            loading ? (
              <Empty title="Asking …" />
            ) : (
              <Empty title="No event fits">
                {next ? "Nothing among those looked at so far." : "Publish one, or ask with fewer filters."}
                {next && (
                  <button class="button" onClick={further}>
                    Look further back
                  </button>
                )}
              </Empty>
            )
          }
          columns={[
            { name: "Type", width: "minmax(150px, 1.4fr)", cell: (one) => <span class="strong">{one.type}</span> },
            { name: "State", width: "118px", cell: (one) => <Badge state={one.state} /> },
            { name: "Tasks", width: "64px", class: "number", cell: (one) => one.tasks ?? "–", phone: false },
            { name: "Source", width: "minmax(90px, 0.8fr)", cell: (one) => one.source, phone: false },
            { name: "Subject", width: "minmax(90px, 1fr)", class: "muted", cell: (one) => one.subject ?? "", phone: false },
            { name: "Id", width: "minmax(120px, 1.2fr)", class: "mono muted", cell: (one) => one.id, phone: false },
            { name: "Published", width: "112px", class: "number", cell: (one) => <time title={`${when(one.time)}, ${ago(one.time)}`}>{when(one.time)}</time> },
          ]}
          foot={rows.length >= KEPT ? `${count(KEPT)} are shown; narrow the filters for older ones.` : loading && rows.length ? "Asking for older ones …" : undefined}
        />
      </div>
    </>
  );
}

function Field(props: { label: string; hint: string; value: string; set: (value: string) => void }) {
  return (
    <label class="field compact">
      <span>{props.label}</span>
      <input type="search" value={props.value} placeholder={props.hint} spellcheck={false} onInput={(event) => props.set(event.currentTarget.value)} />
    </label>
  );
}

const words = (value: unknown) => (typeof value === "string" ? value : "");

function row(event: Record<string, unknown>, standing: Standing | undefined): Row {
  return {
    id: words(event.id),
    source: words(event.source),
    type: words(event.type),
    subject: words(event.subject) || null,
    time: standing?.published_at ?? words(event.time),
    state: standing?.state ?? "",
    tasks: standing?.tasks ?? null,
    failed: standing?.failed ?? 0,
  };
}

function glob(pattern: string): RegExp {
  const text = pattern.replace(/[.+^${}()|\\[\]]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp(`^${text}$`);
}

/** What is known from the API with what was heard since, each event once. */
function withLive(rows: Row[], filter: Record<string, string>): Row[] {
  const fresh: Row[] = [];
  const known = new Set(rows.map((one) => live.identity(one.source, one.id)));
  const type = filter.type ? glob(filter.type) : null;
  for (const [name, one] of live.events) {
    if (known.has(name) || filter.text) continue;
    if (type && !type.test(one.type)) continue;
    if (filter.source && one.source !== filter.source) continue;
    if (filter.subject && one.subject !== filter.subject) continue;
    if (filter.state && one.state !== filter.state) continue;
    fresh.push(one);
  }
  const updated = rows.map((one) => {
    const heard = live.events.get(live.identity(one.source, one.id));
    return heard && one.state !== heard.state ? { ...one, state: heard.state, tasks: Math.max(one.tasks ?? 0, heard.tasks) } : one;
  });
  return fresh.length ? [...fresh.reverse(), ...updated] : updated;
}
