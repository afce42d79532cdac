// Subscriptions: what each service wants; paused and resumed; those with limits lead to their lines.
import { useState } from "preact/hooks";
import { get, key, post, told } from "../api";
import { ago, conditions, count } from "../format";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useLoaded } from "../parts/hooks";
import { link, place } from "../router";
import type { Subscription } from "../types";
import { Flow, limited } from "./flow";
import type { Manifest } from "./services";

export function Subscriptions() {
  const task = place.value.id;
  return task ? <Flow key={task} task={task} /> : <All />;
}

function All() {
  const found = useLoaded<Subscription[]>(
    async (signal) => (await get<{ subscriptions: Subscription[] }>("v1/subscriptions", {}, signal)).subscriptions,
    [],
    3_000,
  );
  const declared = useLoaded<Map<string, string>>(
    async (signal) => {
      const { manifests } = await get<{ manifests: Manifest[] }>("v1/manifests", {}, signal);
      return new Map(manifests.flatMap((one) => one.subscriptions.flatMap((sub) => (sub.flow ? [[sub.task, limited(sub.flow)]] : []))));
    },
    [],
    10_000,
  );
  const [pausing, setPausing] = useState("");
  const [error, setError] = useState("");
  const all = [...(found.value ?? [])].sort((a, b) => Number(Boolean(b.paused)) - Number(Boolean(a.paused)) || (a.task < b.task ? -1 : 1));
  const paused = all.filter((one) => one.paused).length;
  const resume = async (task: string) => {
    try {
      await post(`v1/subscriptions/${encodeURIComponent(task)}/resume`);
      setError("");
    } catch (problem) {
      setError(told(problem));
    }
    found.reload();
  };
  return (
    <>
      <PageHead title="Subscriptions" note={found.value ? `${count(all.length)}, ${paused ? `${count(paused)} paused` : "none paused"}` : undefined} />
      <Trouble text={error || found.error || declared.error} again={found.reload} />
      {found.value && !all.length && <Empty title="No service wants anything yet" />}
      <ul class="cards">
        {all.slice(0, 500).map((one) => (
          <li class={one.paused ? "panel card card-paused" : "panel card"} key={one.task}>
            <div class="card-main">
              <p class="card-title">
                <a href={link("services", one.service)}>{one.task}</a> <Badge state={one.paused ? "paused" : "ok"} label={one.paused ? "paused" : "on"} />
              </p>
              <p class="muted">
                {one.type ? `wants ${one.type}` : "its service does not want it any more"}
                {conditions(one.where) && ` where ${conditions(one.where)}`}
                {one.failures > 0 && ` · ${count(one.failures)} dead letters in a row`}
              </p>
              {declared.value?.has(one.task) && (
                <p>
                  <a href={link("subscriptions", one.task)} aria-label={`Limits and keys of ${one.task}`}>
                    Limits and keys
                  </a>
                  : {declared.value.get(one.task)}
                </p>
              )}
              {one.paused && (
                <p>
                  Paused {ago(one.paused.since)} {one.paused.failures ? `by itself, after ${count(one.paused.failures)} failures in a row` : "by hand"}: {one.paused.reason}. {count(one.held)} tasks wait.
                </p>
              )}
            </div>
            {key.value?.admin &&
              (one.paused ? (
                <button class="button primary" onClick={() => void resume(one.task)} aria-label={`Resume ${one.task}`}>
                  Resume
                </button>
              ) : (
                <button class="button" onClick={() => setPausing(one.task)} aria-label={`Pause ${one.task}`}>
                  Pause …
                </button>
              ))}
          </li>
        ))}
      </ul>
      {pausing && (
        <Pause
          task={pausing}
          close={() => {
            setPausing("");
            found.reload();
          }}
        />
      )}
    </>
  );
}

function Pause({ task, close }: { task: string; close: () => void }) {
  const [reason, setReason] = useState("");
  const [error, setError] = useState("");
  const pause = async (event: Event) => {
    event.preventDefault();
    try {
      await post(`v1/subscriptions/${encodeURIComponent(task)}/pause`, { reason: reason.trim() || "paused by hand" });
      close();
    } catch (problem) {
      setError(told(problem));
    }
  };
  return (
    <Dialog title={`Pause ${task}`} close={close}>
      <form onSubmit={pause} class="form">
        <Trouble text={error} />
        <p>What runs runs on. What has not begun is set aside until it is resumed; nothing is lost.</p>
        <label class="field">
          <span>Why; shown to whoever wonders</span>
          <input value={reason} maxLength={500} placeholder="the mail server moves house" onInput={(event) => setReason(event.currentTarget.value)} autofocus />
        </label>
        <footer class="dialog-foot">
          <button class="button primary">Pause</button>
        </footer>
      </form>
    </Dialog>
  );
}
