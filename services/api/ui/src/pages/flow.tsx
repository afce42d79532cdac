// One subscription's limits: what waits for its turn, key by key; and other limits, without a deployment.
import { useState } from "preact/hooks";
import { ask, get, key } from "../api";
import { ago, count } from "../format";
import { useAction } from "../parts/actions";
import { Empty, Facts, PageHead, Panel, Trouble } from "../parts/basic";
import { Dialog } from "../parts/dialog";
import { useLoaded } from "../parts/hooks";
import { List } from "../parts/list";
import { useFresh, usePages } from "../parts/pages";
import { Refused } from "../parts/problem";
import { link } from "../router";
import type { FlowKey, FlowState, Limits } from "../types";

const NUMBERS = ["concurrency", "total"] as const;
const RATES = ["throttle", "drop"] as const;
const MEANINGS = {
  concurrency: "Running at once, of one key",
  total: "Running at once, of all keys",
  throttle: "Starts in a time; what is beyond waits",
  drop: "Starts in a time; what is beyond is skipped",
};
const PAGE = 100;
const KEPT = 5_000;

/** Limits in a few words. */
export function limited(limits: Partial<Limits> | null | undefined): string {
  const said = Object.entries(limits ?? {}).flatMap(([name, value]) => (value === null || value === false ? [] : [value === true ? name : `${name} ${String(value)}`]));
  return said.join(", ");
}

export function Flow({ task }: { task: string }) {
  const path = `v1/subscriptions/${encodeURIComponent(task)}`;
  const head = useLoaded<FlowState>((signal) => get(`${path}/keys`, { limit: 1 }, signal), [task], 3_000);
  const [changing, setChanging] = useState(false);
  const state = head.value;
  const set = Object.keys(state?.set ?? {}).length > 0;
  return (
    <>
      <PageHead
        title={task}
        note={
          <>
            <a href={link("subscriptions")}>All subscriptions</a> · <a href={link("services", task.split(".")[0])}>its service</a>
          </>
        }
      >
        {key.value?.admin && state && (state.limits || set) && (
          <button class="button primary" onClick={() => setChanging(true)}>
            Change limits …
          </button>
        )}
      </PageHead>
      <Trouble text={head.error} again={head.reload} />
      {state && (
        <Panel title="Its line">
          <div class="service-now two-columns">
            <Facts
              of={[
                ["In line", count(state.waiting)],
                ["Have a place", `${count(state.running)}, queued or with a worker`],
                ["Skipped", count(state.skipped)],
                ["Folded", `${count(state.folded)} into runs of their key`],
                ["Slow keys", `${count(state.slow_keys)} wait for their rate or their quiet period`],
              ]}
            />
            <Facts
              of={[
                ["Declared", limited(state.limits) || "no limits"],
                ["Set by hand", set ? limited(state.set as Partial<Limits>) : "nothing"],
              ]}
            />
          </div>
        </Panel>
      )}
      {state && <Keys task={task} path={path} />}
      {changing && state && (
        <Change
          path={path}
          state={state}
          close={() => {
            setChanging(false);
            head.reload();
          }}
        />
      )}
    </>
  );
}

function Keys({ task, path }: { task: string; path: string }) {
  const pages = usePages<FlowKey>(task, KEPT, async (cursor, signal) => {
    const page = await get<{ keys: FlowKey[]; next: string | null }>(`${path}/keys`, { limit: PAGE, cursor }, signal);
    return { rows: page.keys, next: page.next };
  });
  const { rows, next, error, loading, again, further, atEnd } = pages;
  useFresh(pages, task, PAGE);
  return (
    <Panel
      title="Keys"
      side={<span>{`${count(rows.length)}${next ? "+" : ""}`}</span>}
      flush
    >
      <Trouble text={error} again={again} />
      <List<FlowKey>
        label="Keys, those that wait first"
        rows={rows}
        id={(one) => one.key}
        atEnd={atEnd}
        empty={
          loading ? (
            <Empty title="Asking …" />
          ) : (
            <Empty title="No key waits or runs">
              {next && (
                <button class="button" onClick={further}>
                  Look further
                </button>
              )}
            </Empty>
          )
        }
        columns={[
          { name: "Key", width: "minmax(120px, 2fr)", class: "mono", cell: (one) => <span title={one.key}>{one.key || "(all)"}</span> },
          { name: "Waiting", width: "80px", class: "number", cell: (one) => count(one.waiting) },
          { name: "Have a place", width: "96px", class: "number", cell: (one) => count(one.running) },
          { name: "Turn", width: "110px", class: "number", cell: turn },
          { name: "Next may start", width: "120px", class: "number", cell: (one) => (one.starts_at ? ago(one.starts_at) : "–"), phone: false },
        ]}
        foot={next && rows.length ? <button class="button small" onClick={further}>Further keys</button> : undefined}
      />
    </Panel>
  );
}

function turn(one: FlowKey): string {
  if (one.turn === null) return "–";
  return one.turn === 0 ? "next" : `after ${count(one.turn)}`;
}

function Change({ path, state, close }: { path: string; state: FlowState; close: () => void }) {
  const [said, setSaid] = useState<Record<string, string>>(() => Object.fromEntries(Object.entries(state.set).map(([name, value]) => [name, String(value)])));
  const action = useAction();
  const store = async (event: Event) => {
    event.preventDefault();
    const body: Record<string, number | string | null> = {};
    for (const name of [...NUMBERS, ...RATES]) {
      const text = said[name]?.trim() ?? "";
      if (text === String(state.set[name] ?? "")) continue;
      body[name] = text === "" ? null : (NUMBERS as readonly string[]).includes(name) ? Number(text) : text;
    }
    if (await action.run(() => ask("PATCH", path, { body }))) close();
  };
  const field = (name: (typeof NUMBERS | typeof RATES)[number]) => {
    const declared = state.limits?.[name];
    const isNumber = (NUMBERS as readonly string[]).includes(name);
    return (
      <label class="field" key={name}>
        <span>
          {MEANINGS[name]} ({name})
        </span>
        <input
          inputMode={isNumber ? "numeric" : undefined}
          pattern={isNumber ? "[0-9]+" : undefined}
          value={said[name] ?? ""}
          placeholder={declared === null || declared === undefined ? (isNumber ? "none" : "none; such as 100/m") : `as declared: ${declared}`}
          onInput={(event) => setSaid({ ...said, [name]: event.currentTarget.value })}
        />
      </label>
    );
  };
  return (
    <Dialog title={`Limits of ${state.task}`} close={close}>
      <form class="form" onSubmit={store}>
        <Refused error={action.error} />
        <p>They count at once, for what waits too, and over restarts and deployments until they are taken back. An empty field is as its service declares it.</p>
        <div class="two">{[...NUMBERS, ...RATES].map(field)}</div>
        <footer class="dialog-foot">
          <button class="button primary" disabled={action.busy}>
            Set the limits
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
