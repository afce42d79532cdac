// API keys: what each may do, when it was last used; made with a secret that is shown once, and revoked.
import { useState } from "preact/hooks";
import { ask, get, key, post } from "../api";
import { ago, count, date } from "../format";
import { useAction } from "../parts/actions";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useLoaded } from "../parts/hooks";
import { Refused } from "../parts/problem";
import type { ApiKey } from "../types";
import { SecretOnce } from "./webhook_dialogs";

const MOST_SHOWN = 500;
const DAY_MS = 86_400_000;
const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);
const listed = (globs: string[]) => globs.join(", ") || "nothing";

function rights(one: ApiKey): string {
  if (one.admin) return "may do everything";
  return [
    `publishes ${listed(one.publish)}`,
    `reads ${listed(one.subscribe)}`,
    ...(one.sources.length ? [`as ${one.name} and ${listed(one.sources)}`] : []),
    ...(one.rate === null ? [] : [`${count(one.rate)} events a second`]),
  ].join(" · ");
}

export function ApiKeys() {
  const found = useLoaded<ApiKey[]>(async (signal) => (await get<{ keys: ApiKey[] }>("v1/keys", {}, signal)).keys, [], 10_000);
  const [text, setText] = useState("");
  const [making, setMaking] = useState(false);
  const [secret, setSecret] = useState("");
  const [revoking, setRevoking] = useState("");
  const all = found.value ?? [];
  const fits = all.filter((one) => `${one.name} ${rights(one)}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <>
      <PageHead title="API keys" note={found.value && `${count(all.length)}; secrets are kept by their holders alone`}>
        <button class="button primary" onClick={() => setMaking(true)}>
          New key …
        </button>
      </PageHead>
      <Trouble text={found.error} again={found.reload} />
      <form class="filters" role="search" aria-label="Filter keys" onSubmit={(event) => event.preventDefault()}>
        <label class="field compact">
          <span>Name or rights have</span>
          <input type="search" value={text} spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
      </form>
      {all.length > 0 && !fits.length && <Empty title="No key fits" />}
      <ul class="cards">
        {fits.slice(0, MOST_SHOWN).map((one) => (
          <li class="panel card" key={`${one.name} ${one.created_at}`}>
            <div class="card-main">
              <p class="card-title">
                <span class="mono">{one.name}</span> <Badge state={one.expired ? "off" : one.admin ? "paused" : "ok"} label={one.expired ? "expired" : one.admin ? "admin" : "on"} />
              </p>
              <p>{rights(one)}</p>
              <p class="muted">
                made {one.created_at ? date(one.created_at) : "before keys had dates"} · {one.used_at ? `last used ${ago(one.used_at)}` : "never used"}
                {one.expires_at && ` · ${one.expired ? "ended" : "ends"} ${date(one.expires_at)}`}
              </p>
            </div>
            {one.name === key.value?.name ? (
              <span class="muted">you are signed in with it</span>
            ) : (
              <button class="button danger" onClick={() => setRevoking(one.name)} aria-label={`Revoke ${one.name}`}>
                Revoke …
              </button>
            )}
          </li>
        ))}
      </ul>
      {fits.length > MOST_SHOWN && <p class="note">{count(fits.length - MOST_SHOWN)} more: say what they have.</p>}
      {making && (
        <Form
          close={() => setMaking(false)}
          made={(fresh) => {
            setMaking(false);
            setSecret(fresh);
            found.reload();
          }}
        />
      )}
      {revoking && (
        <Revoke
          name={revoking}
          close={() => {
            setRevoking("");
            found.reload();
          }}
        />
      )}
      {secret && <SecretOnce secret={secret} close={() => setSecret("")} about="Its holder sends it with each request. It is shown once: give it to whom it is for, and keep no copy." />}
    </>
  );
}

function Form({ close, made }: { close: () => void; made: (secret: string) => void }) {
  const [name, setName] = useState("");
  const [publish, setPublish] = useState("");
  const [subscribe, setSubscribe] = useState("");
  const [sources, setSources] = useState("");
  const [days, setDays] = useState("");
  const [admin, setAdmin] = useState(false);
  const action = useAction();
  const store = async (event: Event) => {
    event.preventDefault();
    await action.run(async () => {
      const wanted = {
        name: name.trim(),
        publish: words(publish),
        subscribe: words(subscribe),
        sources: words(sources),
        admin,
        expires_at: days ? new Date(Date.now() + Number(days) * DAY_MS).toISOString() : null,
      };
      made((await post<{ secret: string }>("v1/keys", wanted)).secret);
    });
  };
  return (
    <Dialog title="New key" close={close}>
      <form class="form" onSubmit={store}>
        <Refused error={action.error} />
        <label class="field">
          <span>Name, also the source of what it publishes</span>
          <input required value={name} maxLength={64} spellcheck={false} placeholder="shop" onInput={(event) => setName(event.currentTarget.value)} autofocus />
        </label>
        <label class="field">
          <span>Types that it may publish</span>
          <input value={publish} spellcheck={false} disabled={admin} placeholder="order.*, cart.*" onInput={(event) => setPublish(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Types that it may read</span>
          <input value={subscribe} spellcheck={false} disabled={admin} placeholder="order.*" onInput={(event) => setSubscribe(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Sources beside its name</span>
          <input value={sources} spellcheck={false} placeholder="/shops/*" onInput={(event) => setSources(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Days until it ends; empty for none</span>
          <input type="number" min="1" max="36500" value={days} onInput={(event) => setDays(event.currentTarget.value)} />
        </label>
        <label class="switch">
          <input type="checkbox" checked={admin} onChange={(event) => setAdmin(event.currentTarget.checked)} />
          An operator's: it may do everything
        </label>
        <footer class="dialog-foot">
          <button class="button primary" disabled={action.busy}>
            Make it
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function Revoke({ name, close }: { name: string; close: () => void }) {
  const action = useAction();
  const revoke = async () => {
    if (await action.run(() => ask("DELETE", `v1/keys/${encodeURIComponent(name)}`))) close();
  };
  return (
    <Dialog title="Revoke the key" close={close}>
      <Refused error={action.error} />
      <p>Whoever sends {name} is refused within seconds, and the streams that it opened are closed. There is no way back.</p>
      <footer class="dialog-foot">
        <button class="button danger" disabled={action.busy} onClick={() => void revoke()}>
          Revoke
        </button>
      </footer>
    </Dialog>
  );
}
