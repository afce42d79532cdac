// What became of one webhook's deliveries.
import { get, key } from "../api";
import { ago, count, span, when } from "../format";
import { useAction } from "../parts/actions";
import { Badge, Empty, Panel, Trouble } from "../parts/basic";
import { List } from "../parts/list";
import { useFresh, usePages } from "../parts/pages";
import { Refused } from "../parts/problem";
import type { DeliveryAttempt } from "../types";
import { replayed } from "./webhook_calls";

const PAGE = 100;
const KEPT = 2_000;
const OUTCOMES = { delivered: ["ok", "delivered"], failed: ["retrying", "failed"], given_up: ["failed", "given up"] } as const;

export function Attempts({ id }: { id: string }) {
  const pages = usePages<DeliveryAttempt>(id, KEPT, async (cursor, signal) => {
    const page = await get<{ attempts: DeliveryAttempt[]; next: string | null }>(`v1/webhooks/${encodeURIComponent(id)}/attempts`, { limit: PAGE, cursor }, signal);
    return { rows: page.attempts, next: page.next };
  });
  const { rows, next, error, loading, again, atEnd } = pages;
  const action = useAction();
  useFresh(pages, id, PAGE);
  const tools = key.value?.admin
    ? [
        {
          name: "",
          width: "72px",
          phone: false,
          cell: (one: DeliveryAttempt) => (
            <button class="button quiet small" disabled={action.busy} aria-label={`Deliver ${one.notification} again`} onClick={() => void action.run(() => replayed(id, one.notification)).then(again)}>
              Again
            </button>
          ),
        },
      ]
    : [];
  return (
    <Panel title="Attempts" side={<span>{`${count(rows.length)}${next ? "+" : ""}, newest first`}</span>} flush>
      <Trouble text={error} again={again} />
      <Refused error={action.error} />
      <List<DeliveryAttempt>
        label="Attempts, newest first"
        rows={rows}
        id={(one) => `${one.delivery} ${one.attempt} ${one.at}`}
        atEnd={atEnd}
        empty={loading ? <Empty title="Asking …" /> : <Empty title="Nothing was delivered yet">The last 1,000 attempts or so are kept.</Empty>}
        columns={[
          { name: "Notification", width: "minmax(150px, 1fr)", class: "mono", cell: (one) => <span title={one.delivery}>{one.notification}</span> },
          { name: "Outcome", width: "104px", cell: (one) => <Badge state={OUTCOMES[one.outcome]?.[0] ?? ""} label={OUTCOMES[one.outcome]?.[1] ?? one.outcome} /> },
          { name: "Answer", width: "64px", class: "number", cell: (one) => one.status ?? "–", phone: false },
          { name: "Error", width: "minmax(120px, 1.6fr)", class: "muted", cell: (one) => <span title={one.error ?? ""}>{one.error ?? ""}</span>, phone: false },
          { name: "Attempt", width: "64px", class: "number", cell: (one) => one.attempt, phone: false },
          { name: "Took", width: "70px", class: "number", cell: (one) => span(one.seconds * 1000), phone: false },
          { name: "Next", width: "90px", class: "number", cell: (one) => (one.next_attempt && Date.parse(one.next_attempt) > Date.now() ? ago(one.next_attempt) : "–"), phone: false },
          { name: "At", width: "112px", class: "number", cell: (one) => <time title={ago(one.at)}>{when(one.at)}</time> },
          ...tools,
        ]}
      />
    </Panel>
  );
}
