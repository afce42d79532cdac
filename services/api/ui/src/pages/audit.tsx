// What operators did.
import { get, key } from "../api";
import { count, date } from "../format";
import { Badge, Empty, PageHead, Trouble } from "../parts/basic";
import { usePages } from "../parts/pages";
import { link, place, refine } from "../router";

interface Action {
  id: string;
  at: string;
  actor: string;
  action: string;
  about: string;
  request_id: string;
  said: unknown;
  status: number | null;
  answer: unknown;
}

const KEPT = 2_000;

export function Audit() {
  const actor = place.value.query.get("actor") ?? "";
  const about = place.value.query.get("about") ?? "";
  const pages = usePages<Action>(JSON.stringify([actor, about]), KEPT, async (cursor, signal) => {
    const asks = { actor: actor || null, about: about || null, limit: 500, cursor };
    const page = await get<{ actions: Action[]; next: string | null }>("v1/audit", asks, signal);
    return { rows: page.actions, next: page.next };
  });
  const { rows: actions, next, error, loading, further } = pages;
  if (!key.value?.admin) {
    return (
      <>
        <PageHead title="Audit" />
        <Empty title="This key is no operator's">Only an admin key may see what operators did.</Empty>
      </>
    );
  }
  return (
    <>
      <PageHead title="Audit" note={`${count(actions.length)}${next ? "+" : ""}, newest first`}>
        <label class="field compact">
          <span>By the key</span>
          <input type="search" value={actor} spellcheck={false} onInput={(event) => refine({ about, actor: event.currentTarget.value })} />
        </label>
        <label class="field compact">
          <span>Done to</span>
          <input type="search" value={about} spellcheck={false} onInput={(event) => refine({ actor, about: event.currentTarget.value })} />
        </label>
      </PageHead>
      <Trouble text={error} />
      {!actions.length && !loading && <Empty title={actor || about ? "Nothing fits" : "Nobody has done anything"}>Replays, pauses, changed schedules and removed services stand here.</Empty>}
      {actions.length > 0 && (
        <div class="panel scrolls" tabIndex={0} role="region" aria-label="What operators did">
          <table class="plain spaced">
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">Who</th>
                <th scope="col">What</th>
                <th scope="col">To what</th>
                <th scope="col">Asked for</th>
                <th scope="col">Came of it</th>
              </tr>
            </thead>
            <tbody>
              {actions.map((one) => (
                <tr key={one.id}>
                  <td class="mono nowrap">{date(one.at)}</td>
                  <td class="strong">{one.actor}</td>
                  <td class="nowrap">{one.action.replaceAll("_", " ")}</td>
                  <td>{one.about || "–"}</td>
                  <td class="mono clip">{shown(one.said)}</td>
                  <td>
                    <Badge
                      state={one.status === null ? "warning" : one.status < 400 ? "ok" : "failed"}
                      label={one.status === null ? "not known" : String(one.status)}
                    />{" "}
                    <span class="muted clip">{summary(one)}</span>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {next && actions.length < KEPT && (
        <button class="button" disabled={loading} onClick={further}>
          Older ones
        </button>
      )}
    </>
  );
}

function shown(said: unknown): string {
  if (said === null || said === undefined) return "–";
  const text = typeof said === "string" ? said : JSON.stringify(said);
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

function summary(one: Action) {
  const answer = one.answer as Record<string, unknown> | string | null;
  if (typeof answer === "string") return answer.slice(0, 160);
  if (!answer) return "";
  if (one.action === "trigger_schedule" && typeof answer.id === "string") return <a href={link("event", answer.id)}>its event</a>;
  const parts = (["replayed", "dropped", "matched"] as const).flatMap((name) => (typeof answer[name] === "number" ? [`${answer[name]} ${name}`] : []));
  return parts.join(", ");
}
