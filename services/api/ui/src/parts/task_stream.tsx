// What a handler streams while it runs, by the name that it gave the stream.
import { useEffect, useState } from "preact/hooks";
import { count } from "../format";
import { follow, type StreamState } from "../stream";
import { Trouble } from "./basic";

const MOST = 100_000; // characters that are kept: the newest

interface Chunk {
  kind: "text" | "bytes" | "json";
  data: unknown;
}

function text(chunk: Chunk): string {
  if (chunk.kind === "text") return String(chunk.data);
  return chunk.kind === "json" ? `${JSON.stringify(chunk.data)}\n` : `[base64] ${String(chunk.data)}\n`;
}

export function TaskStream({ id, name: task }: { id: string; name: string }) {
  const [name, setName] = useState("tokens");
  const [followed, setFollowed] = useState("");
  return (
    <details>
      <summary>Streams</summary>
      <form
        class="id-line"
        onSubmit={(event) => {
          event.preventDefault();
          setFollowed(name.trim());
        }}
      >
        <label class="field compact">
          <span>Name of a stream of {task}</span>
          <input value={name} required pattern="[A-Za-z0-9_.\-]{1,64}" spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <button class="button small">Follow</button>
      </form>
      {followed && <Followed key={followed} id={id} name={followed} />}
    </details>
  );
}

function Followed({ id, name }: { id: string; name: string }) {
  const [told, setTold] = useState("");
  const [end, setEnd] = useState("");
  const [state, setState] = useState<[StreamState, string]>(["connecting", ""]);
  useEffect(() => {
    const stop = follow({
      path: `v1/tasks/${encodeURIComponent(id)}/streams/${encodeURIComponent(name)}`,
      state: (now, detail) => setState([now, detail]),
      frames: (frames) => {
        let anew = false;
        let more = "";
        for (const frame of frames) {
          if (frame.event === "epoch") {
            anew = true; // another attempt: what came before is void
            more = "";
          } else if (frame.event === "chunk") {
            more += text(JSON.parse(frame.data) as Chunk);
          } else if (frame.event === "end") {
            setEnd(String((JSON.parse(frame.data) as { state: unknown }).state));
            setTimeout(() => stop());
          }
        }
        setTold((kept) => ((anew ? "" : kept) + more).slice(-MOST));
      },
    });
    return stop;
  }, [id, name]);
  return (
    <>
      <Trouble text={state[0] === "refused" ? state[1] : ""} />
      <p class="muted" role="status">
        {end ? `The task has ended: ${end}.` : state[0] === "ended" ? "The task has ended." : state[0] === "open" ? "Live." : "Connecting …"} {count(told.length)} characters.
      </p>
      <pre class="json stream" tabIndex={0} role="region" aria-label={`The stream ${name}`}>
        {told || "Nothing was streamed."}
      </pre>
    </>
  );
}
