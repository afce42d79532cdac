// Work that was given up: looked at, replayed, changed and sent anew, dropped.
import { useState } from "preact/hooks";
import { get, key, post, told } from "../api";
import { ago, count, date, when } from "../format";
import { Badge, Copy, Empty, Facts, Json, PageHead, Panel, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useLoaded } from "../parts/hooks";
import { List } from "../parts/list";
import { usePages } from "../parts/pages";
import { go, link, place, refine } from "../router";
import type { DeadLetter, FailureGroup } from "../types";

interface Page {
  dead_letters: DeadLetter[];
  next: string | null;
}

interface Done {
  dry_run: boolean;
  matched: number;
  replayed?: number;
  dropped?: number;
  left?: Record<string, number>;
  more: boolean;
  seconds?: number;
  by: { service: string; task: string | null; kind: string; count: number }[];
}

type Choice = { ids: string[] } | { filter: Record<string, string> };

const NAMES = ["service", "task", "type", "kind", "reason"] as const;
const KEPT = 5_000;

export function DeadLetters() {
  return place.value.id ? <Letter id={place.value.id} /> : <Letters />;
}

function Letters() {
  const asked = place.value.query;
  const filter = Object.fromEntries(NAMES.flatMap((name) => (asked.get(name) ? [[name, asked.get(name)!]] : [])));
  const which = JSON.stringify(filter);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [acting, setActing] = useState<"replay" | "drop" | null>(null);
  const admin = Boolean(key.value?.admin);
  const pages = usePages<DeadLetter>(
    which,
    KEPT,
    async (cursor, signal) => {
      const page = await get<Page>("v1/dead-letters", { ...filter, limit: 100, cursor }, signal);
      return { rows: page.dead_letters, next: page.next };
    },
    () => setChosen(new Set()),
  );
  const { rows: letters, next, error, loading, again, atEnd } = pages;

  const toggle = (id: string) => {
    const now = new Set(chosen);
    if (!now.delete(id)) now.add(id);
    setChosen(now);
  };
  const choice: Choice = chosen.size ? { ids: [...chosen].slice(0, 1_000) } : { filter };
  const what = chosen.size ? `the ${count(chosen.size)} chosen` : Object.keys(filter).length ? "all that fit the filters" : "all";

  return (
    <>
      <PageHead title="Dead letters" note={`${count(letters.length)}${next ? "+" : ""} shown, newest first`}>
        {admin && letters.length > 0 && (
          <>
            <button class="button primary" onClick={() => setActing("replay")}>
              Replay {what} …
            </button>
            <button class="button danger" onClick={() => setActing("drop")}>
              Drop {what} …
            </button>
          </>
        )}
      </PageHead>
      <form class="filters" role="search" aria-label="Filter dead letters" onSubmit={(event) => event.preventDefault()}>
        {NAMES.map((name) => (
          <label class="field compact" key={name}>
            <span>{{ service: "Service", task: "Task", type: "Event type", kind: "Error", reason: "Reason has" }[name]}</span>
            <input
              type="search"
              value={filter[name] ?? ""}
              spellcheck={false}
              onInput={(event) => refine({ ...filter, [name]: event.currentTarget.value })}
            />
          </label>
        ))}
      </form>
      <Trouble text={error} again={again} />
      <Most service={filter.service ?? ""} />
      <div class="panel">
        <List<DeadLetter>
          label="Dead letters, newest first"
          rows={letters}
          id={(one) => `${one.service} ${one.id}`}
          href={(one) => link("dead-letters", one.id)}
          height="calc(100vh - 300px)"
          atEnd={atEnd}
          empty={
            loading ? (
              <Empty title="Asking …" />
            ) : (
              <Empty title="No dead letter">{Object.keys(filter).length ? "None fits these filters." : "Everything that was begun has ended well, or is on its way."}</Empty>
            )
          }
          columns={[
            { name: "Task", width: "minmax(150px, 1.2fr)", cell: (one) => <span class="strong">{one.task ?? `(${one.form})`}</span> },
            ...(admin
              ? [
                  {
                    name: "Choose",
                    width: "64px",
                    phone: false,
                    class: "above",
                    cell: (one: DeadLetter) => (
                      <input type="checkbox" aria-label={`Choose ${one.id}`} checked={chosen.has(one.id)} onChange={() => toggle(one.id)} />
                    ),
                  },
                ]
              : []),
            { name: "Error", width: "110px", cell: (one) => <Badge state="failed" label={one.kind} /> },
            { name: "Reason", width: "minmax(160px, 2fr)", class: "muted", cell: (one) => one.reason, phone: false },
            { name: "Event", width: "minmax(110px, 1fr)", cell: (one) => one.event?.type ?? "–", phone: false },
            { name: "Attempts", width: "72px", class: "number", cell: (one) => one.attempts, phone: false },
            { name: "Parked", width: "112px", class: "number", cell: (one) => <time title={ago(one.at)}>{when(one.at)}</time> },
          ]}
        />
      </div>
      {acting && (
        <Act
          verb={acting}
          choice={choice}
          what={what}
          close={() => setActing(null)}
          done={again}
        />
      )}
    </>
  );
}

const MOST_SHOWN = 5;

/** What failed most in the last day, by handler and class of error. */
function Most({ service }: { service: string }) {
  const found = useLoaded<{ failures: FailureGroup[]; counted: number; complete: boolean }>(
    (signal) => get("v1/failures", { service: service || null, limit: MOST_SHOWN }, signal),
    [service],
    10_000,
  );
  const groups = found.value?.failures ?? [];
  if (!groups.length) return null;
  return (
    <Panel title="What failed most, last 24 hours" side={found.value!.complete ? undefined : <span>the newest {count(found.value!.counted)} counted</span>}>
      <ul class="plain-list">
        {groups.map((one) => (
          <li key={`${one.service} ${one.task} ${one.kind}`}>
            <a href={link("dead-letters", "", { service: one.service, task: one.task, kind: one.kind })}>
              {count(one.count)} × {one.task ?? one.service}
            </a>{" "}
            <Badge state="failed" label={one.kind} /> <span class="muted">{one.newest.reason.slice(0, 160)}</span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** First what would be done; then, when a person says so, it is done. */
function Act(props: { verb: "replay" | "drop"; choice: Choice; what: string; close: () => void; done: () => void }) {
  const [rate, setRate] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [done, setDone] = useState<Done>();
  const path = `v1/dead-letters/${props.verb}`;
  const dry = useLoaded<Done>(() => post(path, { ...props.choice, dry_run: true, limit: 10_000 }), [props.choice, path]);
  const act = async () => {
    setBusy(true);
    try {
      const paced = props.verb === "replay" && Number(rate) > 0 ? { rate: Number(rate) } : {};
      setDone(await post<Done>(path, { ...props.choice, limit: 10_000, ...paced }));
      setError("");
      props.done();
    } catch (problem) {
      setError(told(problem));
    }
    setBusy(false);
  };
  const plan = done ?? dry.value;
  const verb = props.verb === "replay" ? "Replay" : "Drop";
  return (
    <Dialog title={`${verb} ${props.what}`} close={props.close}>
      <Trouble text={error || dry.error} />
      {!plan && !dry.error && <p class="note">Counting …</p>}
      {plan && (
        <>
          <p class="lead">
            {done
              ? `${count(done.replayed ?? done.dropped ?? 0)} of ${count(done.matched)} ${props.verb === "replay" ? "replayed" : "dropped"}.`
              : `${count(plan.matched)} ${plan.matched === 1 ? "dead letter" : "dead letters"} would be ${props.verb === "replay" ? "replayed, each with a first attempt anew" : "dropped for good"}.`}
            {plan.more && " More fit than are done at once: do it again for the rest."}
          </p>
          {done && Object.entries(done.left ?? {}).map(([why, n]) => (
            <p class="wrong" key={why}>
              {count(n)} left: {why}
            </p>
          ))}
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Task</th>
                <th scope="col">Error</th>
                <th scope="col" class="number">
                  Letters
                </th>
              </tr>
            </thead>
            <tbody>
              {plan.by.map((one) => (
                <tr key={`${one.service} ${one.task} ${one.kind}`}>
                  <td>{one.task ?? one.service}</td>
                  <td>{one.kind}</td>
                  <td class="number">{count(one.count)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
      {!done && plan && plan.matched > 0 && (
        <footer class="dialog-foot">
          {props.verb === "replay" && (
            <label class="field compact">
              <span>Tasks a second</span>
              <input type="number" min="0" step="any" placeholder="all at once" value={rate} onInput={(event) => setRate(event.currentTarget.value)} />
            </label>
          )}
          <button class={`button ${props.verb === "replay" ? "primary" : "danger"}`} disabled={busy} onClick={() => void act()}>
            {busy ? "…" : `${verb} ${count(plan.matched)}`}
          </button>
        </footer>
      )}
    </Dialog>
  );
}

function Letter({ id }: { id: string }) {
  const found = useLoaded<DeadLetter>((signal) => get(`v1/dead-letters/${encodeURIComponent(id)}`, {}, signal), [id]);
  const [acting, setActing] = useState<"replay" | "drop" | null>(null);
  const [gone, setGone] = useState(false);
  const letter = found.value;
  if (!letter) {
    return (
      <>
        <PageHead title="Dead letter" />
        {found.error ? <Empty title={found.error}>It may have been replayed already.</Empty> : null}
      </>
    );
  }
  return (
    <>
      <PageHead
        title={letter.task ?? `A ${letter.form} that could not be read`}
        note={
          <span class="id-line">
            <span class="mono">{letter.id}</span>
            <Copy text={letter.id} label="Copy id" />
          </span>
        }
      >
        {key.value?.admin && !gone && (
          <>
            <button class="button primary" onClick={() => setActing("replay")}>
              Replay …
            </button>
            {letter.envelope && (
              <a class="button" href={link("send", "", { letter: letter.id })}>
                Edit and send anew
              </a>
            )}
            <button class="button danger" onClick={() => setActing("drop")}>
              Drop …
            </button>
          </>
        )}
      </PageHead>
      <p class="lead">
        <Badge state="failed" label={letter.kind} /> {letter.reason}
      </p>
      <div class="columns">
        <div>
          {letter.detail && (
            <Panel title={letter.form === "task" ? "Traceback" : "Where it lay"} flush>
              <Json value={letter.detail} label="Traceback" />
            </Panel>
          )}
          {letter.raw && (
            <Panel title="What lay there" flush>
              <Json value={letter.raw} label="What lay there" />
            </Panel>
          )}
        </div>
        <div>
          <Panel title="Facts">
            <Facts
              of={[
                ["Service", letter.service],
                ["Attempts", count(letter.attempts)],
                ["Parked", `${date(letter.at)} (${ago(letter.at)})`],
                [
                  "Event",
                  letter.event ? (
                    <a href={link("event", letter.event.id, { source: letter.event.source })}>{letter.event.type}</a>
                  ) : (
                    "not known"
                  ),
                ],
              ]}
            />
          </Panel>
          {letter.envelope && (
            <Panel title="The whole event" flush>
              <Json value={letter.envelope} label="The event's envelope" />
            </Panel>
          )}
        </div>
      </div>
      {acting && (
        <Act
          verb={acting}
          choice={{ ids: [letter.id] }}
          what="this dead letter"
          close={() => {
            setActing(null);
            if (gone) {
              if (letter.event && acting === "replay") go("event", letter.event.id, { source: letter.event.source });
              else go("dead-letters");
            }
          }}
          done={() => setGone(true)}
        />
      )}
    </>
  );
}
