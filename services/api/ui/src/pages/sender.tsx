// Sends an event: one's own, one like another, or a dead letter's with its data changed.
import { useEffect, useState } from "preact/hooks";
import { ask, get, key, post, told } from "../api";
import { Badge, Json, PageHead, Panel, Trouble } from "../parts/basic";
import { useLoaded } from "../parts/hooks";
import { link, place } from "../router";
import { missing, sample } from "../schema";
import type { DeadLetter, EventState } from "../types";
import type { Manifest } from "./services";

interface Accepted {
  id: string;
  source: string;
  type: string;
  duplicate: boolean;
}

function glob(pattern: string): RegExp {
  const text = pattern.replace(/[.+^${}()|\\[\]]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp(`^${text}$`, "s");
}

export function Sender() {
  const like = place.value.query.get("like");
  const letter = place.value.query.get("letter");
  const [type, setType] = useState("");
  const [subject, setSubject] = useState("");
  const [source, setSource] = useState("");
  const [text, setText] = useState("{}");
  const [from, setFrom] = useState<string>("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [sent, setSent] = useState<Accepted>();
  const [dropped, setDropped] = useState(false);
  const manifests = useLoaded<{ manifests: Manifest[] }>((signal) => get("v1/manifests", {}, signal), []);

  useEffect(() => {
    const take = (envelope: Record<string, unknown> | null | undefined, where: string) => {
      if (!envelope) return;
      setType(String(envelope.type ?? ""));
      setSubject(typeof envelope.subject === "string" ? envelope.subject : "");
      if (key.value?.admin) setSource(String(envelope.source ?? ""));
      setText(JSON.stringify(envelope.data ?? {}, null, 2));
      setFrom(where);
    };
    setSent(undefined);
    if (letter) {
      get<DeadLetter>(`v1/dead-letters/${encodeURIComponent(letter)}`)
        .then((one) => take(one.envelope, `The event of the dead letter ${letter}, to be changed and sent under a new id.`))
        .catch((problem) => setError(told(problem)));
    } else if (like) {
      get<EventState>(`v1/events/${encodeURIComponent(like)}`, { source: place.value.query.get("source") })
        .then((one) => take(one.event, `As ${like}, to be sent under a new id.`))
        .catch((problem) => setError(told(problem)));
    }
  }, [like, letter]);

  const wants = (manifests.value?.manifests ?? []).flatMap((one) => one.subscriptions).filter((one) => type && glob(one.type).test(type));
  const types = [...new Set((manifests.value?.manifests ?? []).flatMap((one) => one.subscriptions.map((s) => s.type)))].filter((one) => !/[*?[]/.test(one)).sort();
  const schema = wants.find((one) => one.schema)?.schema;
  const data = parsed(text);
  const lacks = data.ok ? wants.flatMap((one) => missing(one.schema, data.value).map((name) => `${one.task} needs ${name}`)) : [];

  const send = async (event: Event) => {
    event.preventDefault();
    if (!data.ok) return;
    setBusy(true);
    try {
      const body = { type, data: data.value, ...(subject ? { subject } : {}), ...(source ? { source } : {}) };
      setSent(await post<Accepted>("v1/events", body));
      setError("");
    } catch (problem) {
      setError(told(problem));
    }
    setBusy(false);
  };
  const drop = async () => {
    try {
      await ask("POST", "v1/dead-letters/drop", { body: { ids: [letter] } });
      setDropped(true);
    } catch (problem) {
      setError(told(problem));
    }
  };

  return (
    <>
      <PageHead title="Send an event" note={from || "It goes the same way as any other: stored once, then to every subscription that wants it."} />
      <Trouble text={error} />
      {sent && (
        <div class="told" role="status">
          <p>
            Stored. <a href={link("event", sent.id, { source: sent.source })}>Follow {sent.type}</a>
          </p>
          {letter && key.value?.admin && (
            <p>
              {dropped ? "The dead letter was dropped." : <>The dead letter is still there. <button class="button small" onClick={() => void drop()}>Drop it</button></>}
            </p>
          )}
        </div>
      )}
      <form class="sender" onSubmit={send}>
        <Panel title="The event">
          <div class="two">
            <label class="field">
              <span>Type</span>
              <input value={type} list="types" required maxLength={256} spellcheck={false} placeholder="order.placed" onInput={(event) => setType(event.currentTarget.value)} />
            </label>
            <label class="field">
              <span>Subject</span>
              <input value={subject} spellcheck={false} placeholder="order/42" onInput={(event) => setSubject(event.currentTarget.value)} />
            </label>
          </div>
          <label class="field">
            <span>Source; {key.value?.name} if empty</span>
            <input value={source} spellcheck={false} onInput={(event) => setSource(event.currentTarget.value)} />
          </label>
          <datalist id="types">
            {types.map((one) => (
              <option key={one} value={one} />
            ))}
          </datalist>
          <label class="field">
            <span>Data, as JSON</span>
            <textarea rows={14} spellcheck={false} value={text} aria-invalid={!data.ok} aria-describedby="data-wrong" onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <p id="data-wrong" class="wrong" role="status">
            {data.ok ? lacks.slice(0, 5).join("; ") : data.why}
          </p>
          <div class="dialog-foot">
            {schema !== undefined && (
              <button type="button" class="button" onClick={() => setText(JSON.stringify(sample(schema), null, 2))}>
                Fill in from the schema
              </button>
            )}
            <button class="button primary" disabled={busy || !data.ok || !type}>
              {busy ? "Sending …" : "Send"}
            </button>
          </div>
        </Panel>
        <div>
          <Panel title="Who would get it">
            {!type && <p class="muted">Say a type, and who wants it stands here.</p>}
            {type && !wants.length && <p class="muted">No service subscribes to {type}: it would be stored, and nothing would run.</p>}
            <div class="hits">
              {wants.map((one) => (
                <p key={one.task}>
                  <Badge state={Object.keys(one.where).length ? "warning" : "ok"} label={Object.keys(one.where).length ? "if it fits" : "gets it"} /> {one.task}
                  {Object.keys(one.where).length > 0 && <span class="muted mono"> {JSON.stringify(one.where)}</span>}
                </p>
              ))}
            </div>
          </Panel>
          {schema !== undefined && (
            <Panel title="What its data should be" flush>
              <Json value={schema} label="JSON Schema of the data" />
            </Panel>
          )}
        </div>
      </form>
    </>
  );
}

function parsed(text: string): { ok: true; value: unknown } | { ok: false; why: string } {
  try {
    return { ok: true, value: text.trim() ? (JSON.parse(text) as unknown) : null };
  } catch (error) {
    return { ok: false, why: `This is no JSON: ${error instanceof Error ? error.message : error}` };
  }
}
