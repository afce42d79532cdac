// The questions that stand before a change of a webhook.
import { useState } from "preact/hooks";
import { useAction } from "../parts/actions";
import { Copy } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { Refused } from "../parts/problem";
import { go } from "../router";
import type { Webhook, WebhookMade } from "../types";
import { changed, deleted, made, replayedSince, rotated, type Wanted } from "./webhook_calls";

const FILTERS = [
  ["event", "Event id"],
  ["task", "Task id"],
  ["service", "Service"],
  ["subject", "Subject"],
  ["where", "Where, in CEL"],
] as const;
const HOUR_MS = 3_600_000;

const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);

/** A new one, or another url and other filters of one. */
export function Form(props: { webhook?: Webhook; close: () => void; made: (made: WebhookMade) => void }) {
  const { webhook } = props;
  const [url, setUrl] = useState(webhook?.url ?? "");
  const [description, setDescription] = useState(webhook?.description ?? "");
  const [types, setTypes] = useState(webhook?.types.join(", ") ?? "");
  const [filters, setFilters] = useState<Record<string, string>>(() => Object.fromEntries(FILTERS.map(([name]) => [name, webhook?.[name] ?? ""])));
  const [ordered, setOrdered] = useState(webhook?.ordered ?? false);
  const action = useAction();
  const filter = (name: string) => filters[name]?.trim() || null;
  const store = async (event: Event) => {
    event.preventDefault();
    const wanted: Wanted = {
      url: url.trim(),
      description,
      types: words(types),
      event: filter("event"),
      task: filter("task"),
      service: filter("service"),
      subject: filter("subject"),
      where: filter("where"),
      ordered,
    };
    await action.run(async () => {
      const answer = webhook ? await changed(webhook.id, wanted) : await made(wanted);
      props.made(answer as WebhookMade);
    });
  };
  return (
    <Dialog title={webhook ? "Edit the webhook" : "New webhook"} close={props.close}>
      <form class="form" onSubmit={store}>
        <Refused error={action.error} />
        <label class="field">
          <span>URL</span>
          <input type="url" required value={url} maxLength={2048} placeholder="https://shop.example/hooks/mesh" onInput={(event) => setUrl(event.currentTarget.value)} autofocus />
        </label>
        <label class="field">
          <span>Types, of notifications or events; empty for all that its key may be told</span>
          <input value={types} spellcheck={false} placeholder="order.*, task.failed" onInput={(event) => setTypes(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>What it is for</span>
          <input value={description} maxLength={256} onInput={(event) => setDescription(event.currentTarget.value)} />
        </label>
        <details open={FILTERS.some(([name]) => webhook?.[name])}>
          <summary>Only of</summary>
          <div class="two">
            {FILTERS.map(([name, label]) => (
              <label class="field" key={name}>
                <span>{label}</span>
                <input value={filters[name] ?? ""} spellcheck={false} onInput={(event) => setFilters({ ...filters, [name]: event.currentTarget.value })} />
              </label>
            ))}
          </div>
        </details>
        <label class="switch">
          <input type="checkbox" checked={ordered} onChange={(event) => setOrdered(event.currentTarget.checked)} />
          One after the other, in their order; a failure holds up the rest
        </label>
        <footer class="dialog-foot">
          <button class="button primary" disabled={action.busy}>
            {webhook ? "Store" : "Make it"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** A secret as it is shown once: it stays until a person says that it is kept. */
export function SecretOnce({ secret, close, about }: { secret: string; close: () => void; about?: string }) {
  return (
    <Dialog title="Its secret" close={close} stays>
      <p>{about ?? "The receiver verifies the signature of each delivery with it. It is shown once: keep it where it belongs."}</p>
      <p class="secret">
        <output class="mono" aria-label="Secret">
          {secret}
        </output>{" "}
         <Copy text={secret} label="Copy" />
      </p>
    </Dialog>
  );
}

export function Replay({ id, close, done }: { id: string; close: () => void; done: (said: string) => void }) {
  const [since, setSince] = useState(() => local(new Date(Date.now() - HOUR_MS)));
  const action = useAction();
  const replay = async (event: Event) => {
    event.preventDefault();
    await action.run(async () => {
      const answer = await replayedSince(id, new Date(since));
      done(`All that it asks for after ${answer.after} is delivered again, in its order.`);
    });
  };
  return (
    <Dialog title="Deliver again" close={close}>
      <form class="form" onSubmit={replay}>
        <Refused error={action.error} />
        <p>All that it asks for since then, as far as it is kept. Each delivery has the id that it had before.</p>
        <label class="field">
          <span>Since, in your own time zone</span>
          <input type="datetime-local" required step="1" value={since} onInput={(event) => setSince(event.currentTarget.value)} />
        </label>
        <footer class="dialog-foot">
          <button class="button primary" disabled={action.busy}>
            Replay
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** As an input of date and time has it. */
function local(at: Date): string {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

export function Rotation({ id, close, made }: { id: string; close: () => void; made: (secret: string) => void }) {
  const [overlap, setOverlap] = useState("24h");
  const action = useAction();
  const rotate = async (event: Event) => {
    event.preventDefault();
    await action.run(async () => made((await rotated(id, overlap.trim())).secret));
  };
  return (
    <Dialog title="Replace the secret" close={close}>
      <form class="form" onSubmit={rotate}>
        <Refused error={action.error} />
        <p>Deliveries are signed with both until the old one ends, so that the receiver changes over without a gap.</p>
        <label class="field">
          <span>How long the old one stays valid: 0s to 30d</span>
          <input value={overlap} required onInput={(event) => setOverlap(event.currentTarget.value)} />
        </label>
        <footer class="dialog-foot">
          <button class="button primary" disabled={action.busy}>
            Make a new secret
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function Delete({ webhook, close }: { webhook: Webhook; close: () => void }) {
  const action = useAction();
  return (
    <Dialog title="Delete the webhook" close={close}>
      <Refused error={action.error} />
      <p>{webhook.url} is told nothing more. What waits for it is not delivered, and its attempts are forgotten.</p>
      <footer class="dialog-foot">
        <button
          class="button danger"
          disabled={action.busy}
          onClick={() =>
            void action.run(async () => {
              await deleted(webhook.id);
              go("webhooks");
            })
          }
        >
          Delete it
        </button>
      </footer>
    </Dialog>
  );
}
