// Reports: asked for, on their way, to be fetched.
import { useState } from "preact/hooks";
import { address, authorization, get, post, refusal, told } from "../api";
import { ago, when } from "../format";
import { Badge, Empty, PageHead, Panel, Trouble } from "../parts/basic";
import { useLoaded } from "../parts/hooks";
import { link } from "../router";

interface Report {
  report_id: string;
  state: string;
  detail: string;
  progress: { progress?: number; text?: string } | null;
}

interface Row {
  id: string;
  source: string;
  type: string;
  title: string;
  time: string;
  report: Report | null;
}

const TYPES = ["report.requested", "operations.report_requested"];
const SHOWN = 20;

async function recent(signal: AbortSignal): Promise<Row[]> {
  const pages = await Promise.all(
    TYPES.map((type) => get<{ events: Record<string, unknown>[] }>("v1/events", { type, limit: SHOWN }, signal)),
  );
  const rows = pages.flatMap((page) =>
    page.events.map((event) => ({
      id: String(event.id),
      source: String(event.source),
      type: String(event.type),
      title: String((event.data as { title?: unknown } | undefined)?.title ?? "Report"),
      time: String(event.time),
    })),
  );
  rows.sort((a, b) => Date.parse(b.time) - Date.parse(a.time));
  return Promise.all(
    rows.slice(0, SHOWN).map(async (row) => ({
      ...row,
      report: await get<Report>(`v1/reports/${encodeURIComponent(row.id)}`, {}, signal).catch(() => null),
    })),
  );
}

export function Reports() {
  const found = useLoaded<Row[]>(recent, [], 4_000);
  const [error, setError] = useState("");
  const fetchPdf = async (row: Row) => {
    try {
      const answer = await fetch(address(`v1/reports/${encodeURIComponent(row.id)}.pdf`), { headers: authorization() });
      if (!answer.ok) throw new Error((await refusal(answer)).detail);
      const file = URL.createObjectURL(await answer.blob());
      const anchor = document.createElement("a");
      anchor.href = file;
      anchor.download = `${row.title.replace(/[^\p{L}\p{N} ._-]/gu, "_").slice(0, 80)}.pdf`;
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(file), 10_000);
      setError("");
    } catch (problem) {
      setError(told(problem));
    }
  };
  return (
    <>
      <PageHead title="Reports" note="The newest twenty" />
      <Trouble text={error || found.error} again={found.reload} />
      <div class="columns">
        <div>
          {found.value && !found.value.length && <Empty title="No report was asked for yet" />}
          <ul class="cards">
            {(found.value ?? []).map((row) => (
              <li class="panel card" key={`${row.source} ${row.id}`}>
                <div class="card-main">
                  <p class="card-title">
                    {row.title} <Badge state={row.report?.state ?? "waiting"} />
                  </p>
                  <p class="muted">
                    {row.report?.detail} · asked for {when(row.time)} ({ago(row.time)}) by {row.source}
                  </p>
                </div>
                <div class="card-tools">
                  {row.report?.state === "ready" && (
                    <button class="button primary" onClick={() => void fetchPdf(row)} aria-label={`Fetch ${row.title} as PDF`}>
                      PDF
                    </button>
                  )}
                  <a class="button" href={link("event", row.id, { source: row.source })}>
                    Its event
                  </a>
                </div>
              </li>
            ))}
          </ul>
        </div>
        <Request done={found.reload} />
      </div>
    </>
  );
}

function Request({ done }: { done: () => void }) {
  const [title, setTitle] = useState("");
  const [csv, setCsv] = useState("");
  const [group, setGroup] = useState("");
  const [error, setError] = useState("");
  const [asked, setAsked] = useState("");
  const send = async (event: Event) => {
    event.preventDefault();
    try {
      const answer = await post<{ report_id: string }>("v1/reports", { title: title || "Report", csv, group_by: group });
      setAsked(answer.report_id);
      setError("");
      done();
    } catch (problem) {
      setError(told(problem));
    }
  };
  return (
    <Panel title="Ask for one">
      <form class="form" onSubmit={send}>
        <Trouble text={error} />
        {asked && (
          <p class="told" role="status">
            Asked for: <a href={link("event", asked)}>follow it</a>
          </p>
        )}
        <label class="field">
          <span>Title</span>
          <input value={title} maxLength={120} placeholder="Sales by region" onInput={(event) => setTitle(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Rows, as CSV</span>
          <textarea rows={8} required spellcheck={false} placeholder={"region,amount\nnorth,12\nsouth,7"} value={csv} onInput={(event) => setCsv(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Column to group by</span>
          <input value={group} required maxLength={200} placeholder="region" onInput={(event) => setGroup(event.currentTarget.value)} />
        </label>
        <button class="button primary">Ask for it</button>
      </form>
    </Panel>
  );
}
