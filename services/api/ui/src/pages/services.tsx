// Services: how each stands, what it declares, what it takes; and taking one away.
import { useState } from "preact/hooks";
import { ask, get, key, told } from "../api";
import { ago, conditions, count, rate, span } from "../format";
import * as live from "../live";
import { Badge, Empty, Facts, Json, PageHead, Panel, Sparkline, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useLoaded } from "../parts/hooks";
import { go, link, place } from "../router";
import type { Limits, Service, ServiceDetail } from "../types";
import { limited } from "./flow";
import { standing } from "./overview";

interface Declared {
  task: string;
  type: string;
  where: Record<string, unknown> | string;
  timeout: number | null;
  retries: number;
  expires: number | null;
  priority: number | null;
  queue: string;
  flow: Partial<Limits> | null;
  schema: unknown;
}

export interface Manifest {
  service: string;
  version: string;
  queues: string[];
  subscriptions: Declared[];
}

export function Services() {
  live.beat();
  const id = place.value.id;
  const mayAsk = key.value?.role !== "limited";
  const states = useLoaded<Service[]>(
    async (signal) => (mayAsk ? (await get<{ services: Service[] }>("v1/services", {}, signal)).services : []),
    [mayAsk],
    3_000,
  );
  const manifests = useLoaded<{ manifests: Manifest[]; broken: string[] }>((signal) => get("v1/manifests", {}, signal), [], 10_000);
  const declared = manifests.value?.manifests ?? [];
  const names = [...new Set([...(states.value ?? []).map((one) => one.service), ...declared.map((one) => one.service)])].sort();
  const chosen = id ? names.filter((name) => name === id) : names;
  return (
    <>
      <PageHead title={id || "Services"} note={id ? <a href={link("services")}>All services</a> : `${count(names.length)} in the mesh`} />
      <Trouble text={states.error || manifests.error} />
      {manifests.value?.broken.map((name) => <Trouble key={name} text={`The manifest of ${name} cannot be read.`} />)}
      {!chosen.length && states.value && manifests.value && <Empty title={id ? `There is no service ${id}` : "No service has joined yet"} />}
      {chosen.map((name) => (
        <One
          key={name}
          name={name}
          state={states.value?.find((one) => one.service === name)}
          manifest={declared.find((one) => one.service === name)}
          whole={Boolean(id)}
        />
      ))}
    </>
  );
}

function One({ name, state, manifest, whole }: { name: string; state?: Service; manifest?: Manifest; whole: boolean }) {
  live.beat();
  const [removing, setRemoving] = useState(false);
  const done = `service:${name}:task.succeeded`;
  return (
    <Panel
      title={whole ? "Now" : <a href={link("services", name)}>{name}</a>}
      side={
        <>
          {state && <Badge state={standing(state)} />}
          {manifest && <span>version {manifest.version}</span>}
          {whole && key.value?.admin && state && state.workers === 0 && (
            <button class="button small danger" onClick={() => setRemoving(true)}>
              Remove …
            </button>
          )}
        </>
      }
    >
      {state && (
        <div class="service-now">
          <Facts
            of={[
              ["Workers", state.workers ? count(state.workers) : state.last_seen ? `none, last seen ${ago(state.last_seen)}` : "none"],
              ["In its queue", `${count(state.waiting)} wait, ${count(Math.max(0, state.queued - state.waiting))} with workers`],
              ["Not handed over", `${state.lag_exact ? "" : "at least "}${count(state.lag)}`],
            ]}
          />
          <Facts
            of={[
              ["Oldest waits", state.oldest_waiting_seconds === null ? "nothing waits" : span(state.oldest_waiting_seconds * 1000)],
              ["Gone in", state.gone_in_seconds === null ? "not known" : state.gone_in_seconds === 0 ? "nothing waits" : span(state.gone_in_seconds * 1000)],
              ["Set aside", count(state.held)],
              ["Dead letters", <a href={link("dead-letters", "", { service: name })}>{count(state.dead_letters)}</a>],
            ]}
          />
          <div>
            <p class="muted">{rate(live.series.rate(done))}/s done</p>
            <Sparkline points={live.series.points(done)} tone="ok" label={`Tasks of ${name} done, last minute`} />
            <p>
              <a href={link("tasks", "", { service: name, order: "oldest" })}>Open tasks</a>
            </p>
          </div>
        </div>
      )}
      {whole && state && <Holding name={name} />}
      {manifest && (
        <div class="scrolls" tabIndex={0} role="region" aria-label={`What ${name} wants`}>
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Task</th>
                <th scope="col">Event type</th>
                <th scope="col">Only where</th>
                <th scope="col" class="number">Retries</th>
                <th scope="col" class="number">Timeout</th>
                <th scope="col">Limits</th>
                <th scope="col">Queue</th>
              </tr>
            </thead>
            <tbody>
              {manifest.subscriptions.map((one) => (
                <tr key={one.task}>
                  <td class="strong">{one.task}</td>
                  <td>
                    <a href={link("events", "", { type: one.type })}>{one.type}</a>
                  </td>
                  <td class="mono">{conditions(one.where) || "–"}</td>
                  <td class="number">{one.retries}</td>
                  <td class="number">{one.timeout === null ? "–" : span(one.timeout * 1000)}</td>
                  <td>{one.flow ? <a href={link("subscriptions", one.task)}>{limited(one.flow)}</a> : "–"}</td>
                  <td>{one.queue}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {whole &&
        manifest?.subscriptions
          .filter((one) => one.schema)
          .map((one) => (
            <details key={one.task}>
              <summary>What {one.task} takes</summary>
              <Json value={one.schema} label={`JSON Schema of ${one.task}`} />
            </details>
          ))}
      {removing && <Remove name={name} close={() => setRemoving(false)} />}
    </Panel>
  );
}

/** What has waited the longest, and what each process has in hand. */
function Holding({ name }: { name: string }) {
  const found = useLoaded<ServiceDetail>((signal) => get(`v1/services/${encodeURIComponent(name)}`, {}, signal), [name], 3_000);
  const one = found.value;
  if (!one) return <Trouble text={found.error} />;
  const oldest = one.oldest;
  return (
    <>
      {oldest && (
        <p>
          The oldest waits {oldest.where === "stream" ? "to be handed over" : "in its queue"}, for {span(Date.now() - Date.parse(oldest.since))}:{" "}
          {oldest.event ? <a href={link("event", oldest.event.id, { source: oldest.event.source })}>{oldest.event.type}</a> : "it cannot be read"}
        </p>
      )}
      {one.holding.length > 0 && (
        <div class="scrolls" tabIndex={0} role="region" aria-label={`What the workers of ${name} hold`}>
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Process</th>
                <th scope="col" class="number">Took from the queue</th>
                <th scope="col">Runs</th>
              </tr>
            </thead>
            <tbody>
              {one.holding.map((hands) => (
                <tr key={hands.process}>
                  <td class="mono">{hands.process}</td>
                  <td class="number">{count(hands.taken)}</td>
                  <td>
                    {hands.running.slice(0, 8).map((task) => (
                      <p key={task.id}>
                        <a href={link("event", task.event.id, { source: task.event.source })}>{task.name}</a>
                        {task.started_at && <span class="muted"> for {span(Date.now() - Date.parse(task.started_at))}</span>}
                      </p>
                    ))}
                    {hands.running.length > 8 && <p class="muted">and {count(hands.running.length - 8)} more</p>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function Remove({ name, close }: { name: string; close: () => void }) {
  const [backlog, setBacklog] = useState("dead-letter");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const remove = async () => {
    setBusy(true);
    try {
      let answer: { removed: boolean };
      do {
        answer = await ask("DELETE", `v1/services/${encodeURIComponent(name)}`, { query: { backlog } });
      } while (!answer.removed);
      go("services");
    } catch (problem) {
      setError(told(problem));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Remove ${name}`} close={close}>
      <Trouble text={error} />
      <p>Nothing of it is left but its dead letters. It joins again when one of its workers starts.</p>
      <label class="field">
        <span>What waits for it</span>
        <select value={backlog} onChange={(event) => setBacklog(event.currentTarget.value)}>
          <option value="dead-letter">becomes dead letters</option>
          <option value="drop">is dropped</option>
        </select>
      </label>
      <footer class="dialog-foot">
        <button class="button danger" disabled={busy} onClick={() => void remove()}>
          {busy ? "Removing …" : `Remove ${name}`}
        </button>
      </footer>
    </Dialog>
  );
}
