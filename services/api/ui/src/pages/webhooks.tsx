// Webhooks: to whom notifications are pushed, and how that goes; made, changed, tried, replayed, deleted.
import { useState } from "preact/hooks";
import { get, key } from "../api";
import { ago, count, date } from "../format";
import { Badge, Copy, Empty, Facts, PageHead, Panel, Trouble } from "../parts/basic";
import { useAction } from "../parts/actions";
import { useLoaded } from "../parts/hooks";
import { Refused } from "../parts/problem";
import { go, link, place } from "../router";
import type { Webhook, WebhookMade } from "../types";
import { Attempts } from "./webhook_attempts";
import { Delete, Form, Replay, Rotation, SecretOnce } from "./webhook_dialogs";
import { enabled, tested } from "./webhook_calls";

const MOST_SHOWN = 500;

export function Webhooks() {
  return place.value.id ? <One key={place.value.id} id={place.value.id} /> : <All />;
}

function standing(one: Webhook): [state: string, label: string] {
  if (one.disabled_reason) return ["failed", "disabled by the mesh"];
  if (!one.enabled) return ["off", "off"];
  return one.failing_since ? ["failing", "failing"] : ["ok", "on"];
}

const inARow = (n: number) => `${count(n)} ${n === 1 ? "time" : "times"} in a row`;

function asks(one: Webhook): string {
  const said = [
    one.types.length ? one.types.join(", ") : "all that its key may be told",
    ...(["event", "task", "service", "subject"] as const).flatMap((name) => (one[name] === null ? [] : [`${name} ${one[name]}`])),
    ...(one.where === null ? [] : [`where ${one.where}`]),
  ];
  return said.join(" · ");
}

function All() {
  const found = useLoaded<Webhook[]>(async (signal) => (await get<{ webhooks: Webhook[] }>("v1/webhooks", {}, signal)).webhooks, [], 5_000);
  const [text, setText] = useState("");
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<WebhookMade>();
  const admin = Boolean(key.value?.admin);
  const all = found.value ?? [];
  const fits = all.filter((one) => `${one.url} ${one.description} ${one.owner} ${asks(one)}`.toLowerCase().includes(text.toLowerCase()));
  const failing = all.filter((one) => one.failing_since || one.disabled_reason).length;
  return (
    <>
      <PageHead
        title="Webhooks"
        note={found.value ? `${count(all.length)}${admin ? "" : " of this key"}, ${failing ? `${count(failing)} failing or disabled` : "none failing"}` : undefined}
      >
        {admin && (
          <button class="button primary" onClick={() => setMaking(true)}>
            New webhook …
          </button>
        )}
      </PageHead>
      <Trouble text={found.error} again={found.reload} />
      {all.length > 0 && (
        <form class="filters" role="search" aria-label="Filter webhooks" onSubmit={(event) => event.preventDefault()}>
          <label class="field compact">
            <span>URL, filters or key have</span>
            <input type="search" value={text} spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />
          </label>
        </form>
      )}
      {found.value && !all.length && <Empty title="There is no webhook">Notifications go to those who follow a stream, and to nobody else.</Empty>}
      {all.length > 0 && !fits.length && <Empty title="No webhook fits" />}
      <ul class="cards">
        {fits.slice(0, MOST_SHOWN).map((one) => {
          const [state, label] = standing(one);
          return (
            <li class="panel card" key={one.id}>
              <div class="card-main">
                <p class="card-title">
                  <a href={link("webhooks", one.id)}>{one.url}</a> <Badge state={state} label={label} />
                </p>
                <p class="muted">
                  {one.description && `${one.description} · `}
                  {asks(one)} · of the key {one.owner}
                </p>
                <Health of={one} />
              </div>
            </li>
          );
        })}
      </ul>
      {fits.length > MOST_SHOWN && <p class="note">{count(fits.length - MOST_SHOWN)} more: say what they have.</p>}
      {making && (
        <Form
          close={() => setMaking(false)}
          made={(one) => {
            setMaking(false);
            setMade(one);
            found.reload();
          }}
        />
      )}
      {made && <SecretOnce secret={made.secret} close={() => go("webhooks", made.id)} />}
    </>
  );
}

/** What went wrong with it, and what waits. */
function Health({ of: one }: { of: Webhook }) {
  return (
    <p class={one.failing_since || one.disabled_reason ? "wrong" : "muted"}>
      {count(one.delivered)} delivered, {count(one.waiting)} waiting, {count(one.given_up)} given up
      {one.failing_since && ` · failing since ${date(one.failing_since)} (${ago(one.failing_since)}), ${inARow(one.failures_in_a_row)}`}
      {one.disabled_reason && ` · ${one.disabled_reason}`}
    </p>
  );
}

type Asked = "edit" | "replay" | "rotate" | "delete";

function One({ id }: { id: string }) {
  const found = useLoaded<Webhook>((signal) => get(`v1/webhooks/${encodeURIComponent(id)}`, {}, signal), [id], 3_000);
  const [asked, setAsked] = useState<Asked>();
  const [secret, setSecret] = useState("");
  const [news, setNews] = useState("");
  const action = useAction();
  const one = found.value;
  if (!one) {
    return (
      <>
        <PageHead title="Webhook" note={<a href={link("webhooks")}>All webhooks</a>} />
        {found.error && <Empty title={found.error}>It may have been deleted, or belong to another key.</Empty>}
      </>
    );
  }
  const close = () => setAsked(undefined);
  const did = async (work: () => Promise<unknown>, said: string) => {
    setNews("");
    if (await action.run(work)) setNews(said);
    found.reload();
  };
  const [state, label] = standing(one);
  return (
    <>
      <PageHead
        title={one.url}
        note={
          <span class="id-line">
            <a href={link("webhooks")}>All webhooks</a>
            <span class="mono">{one.id}</span>
            <Copy text={one.id} label="Copy id" />
          </span>
        }
      >
        {key.value?.admin && (
          <>
            <button class="button primary" disabled={action.busy} onClick={() => void did(() => tested(id), "A test is on its way: what becomes of it is below.")}>
              Send a test
            </button>
            <button class="button" onClick={() => setAsked("replay")}>
              Replay …
            </button>
            <button
              class="button"
              disabled={action.busy}
              onClick={() => void did(() => enabled(id, !one.enabled), one.enabled ? "Switched off: it is told nothing." : "Switched on: it goes on where it stopped.")}
            >
              {one.enabled ? "Switch off" : "Switch on"}
            </button>
            <button class="button" onClick={() => setAsked("edit")}>
              Edit …
            </button>
            <button class="button" onClick={() => setAsked("rotate")}>
              Replace secret …
            </button>
            <button class="button danger" onClick={() => setAsked("delete")}>
              Delete …
            </button>
          </>
        )}
      </PageHead>
      <Trouble text={found.error} again={found.reload} />
      <Refused error={action.error} />
      {news && (
        <p class="told" role="status">
          {news}
        </p>
      )}
      <Panel title="Now" side={<Badge state={state} label={label} />}>
        <div class="service-now two-columns">
          <Facts
            of={[
              ["Is told", asks(one)],
              ["Order", one.ordered ? "one after the other" : "as they come"],
              ["Key", one.owner],
              ["Made", date(one.created_at)],
              ["Secrets", one.secrets > 1 ? `${count(one.secrets)} are valid` : "one"],
            ]}
          />
          <Facts
            of={[
              ["Delivered", count(one.delivered)],
              ["Waiting", count(one.waiting)],
              ["Given up", count(one.given_up)],
              ["Failing", one.failing_since ? `since ${date(one.failing_since)}, ${inARow(one.failures_in_a_row)}` : "no"],
              ["Reads", one.behind === null ? "has caught up" : `behind, at ${one.behind}`],
            ]}
          />
        </div>
        {one.description && <p>{one.description}</p>}
        {one.disabled_reason && <p class="wrong">Disabled by the mesh: {one.disabled_reason}</p>}
      </Panel>
      <Attempts id={id} />
      {asked === "edit" && (
        <Form
          webhook={one}
          close={close}
          made={() => {
            close();
            found.reload();
          }}
        />
      )}
      {asked === "replay" && (
        <Replay
          id={id}
          close={close}
          done={(said) => {
            close();
            setNews(said);
            found.reload();
          }}
        />
      )}
      {asked === "rotate" && (
        <Rotation
          id={id}
          close={close}
          made={(fresh) => {
            close();
            setSecret(fresh);
            found.reload();
          }}
        />
      )}
      {asked === "delete" && <Delete webhook={one} close={close} />}
      {secret && <SecretOnce secret={secret} close={() => setSecret("")} />}
    </>
  );
}
