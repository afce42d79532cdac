import { ApiError, told } from "../api";

/** A refusal where it happened: what is wrong, each member that is, and the request to ask about. */
export function Refused({ error }: { error: unknown }) {
  if (error === undefined) return null;
  const problem = error instanceof ApiError ? error.problem : undefined;
  const members = (problem?.errors ?? []).filter((one) => !problem?.detail?.includes(one.detail));
  return (
    <div class="trouble refused" role="alert">
      <p>{problem ? problem.detail || problem.title : told(error)}</p>
      {members.length > 0 && (
        <ul>
          {members.slice(0, 20).map((one, i) => (
            <li key={i}>
              {(one.pointer?.replace(/^\//, "") || one.parameter || one.header) && <strong>{one.pointer?.replace(/^\//, "") || one.parameter || one.header}: </strong>}
              {one.detail}
            </li>
          ))}
        </ul>
      )}
      {problem?.request_id && <p class="mono">request {problem.request_id}</p>}
    </div>
  );
}
