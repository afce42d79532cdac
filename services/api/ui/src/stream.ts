// Server-sent events over fetch, which can send the key. A block without data moves the position on, as the
// standard says; a browser's EventSource cannot send headers, and most libraries drop such blocks.
import { address, authorization, refusal, signOut, type Query } from "./api";

export interface Frame {
  id: string;
  event: string;
  data: string;
}

export type StreamState = "connecting" | "open" | "waiting" | "ended" | "refused";

export class FrameParser {
  lastId = "";
  retryMs = 1000;
  private rest = "";
  private event = "";
  private data: string[] = [];

  /** The whole events in what came; the rest is kept for the next piece. */
  push(chunk: string): Frame[] {
    const found: Frame[] = [];
    const lines = (this.rest + chunk).split("\n");
    this.rest = lines.pop() ?? "";
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (this.data.length) found.push({ id: this.lastId, event: this.event, data: this.data.join("\n") });
        this.event = "";
        this.data = [];
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (name === "event") this.event = value;
      else if (name === "data") this.data.push(value);
      else if (name === "id" && !value.includes("\0")) this.lastId = value;
      else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Math.min(Number(value), 30_000);
    }
    return found;
  }
}

interface Following {
  path: string;
  query?: Query;
  after?: string;
  frames: (frames: Frame[]) => void;
  state?: (state: StreamState, detail: string) => void;
}

const HIDDEN_MS = 30_000; // a tab that nobody looks at gives its connection back after this

/** Follow a stream until it ends or `stop()` is called; it comes back by itself after a break. */
export function follow(options: Following): () => void {
  const parser = new FrameParser();
  parser.lastId = options.after ?? "";
  let stopped = false;
  let request = new AbortController();
  let wake = () => {};
  const tell = (state: StreamState, detail = "") => options.state?.(state, detail);

  let hidden: ReturnType<typeof setTimeout> | undefined;
  let asleep = false;
  const watch = () => {
    clearTimeout(hidden);
    if (document.visibilityState === "hidden") {
      hidden = setTimeout(() => {
        asleep = true;
        request.abort();
      }, HIDDEN_MS);
    } else if (asleep) {
      asleep = false;
      wake();
    }
  };
  document.addEventListener("visibilitychange", watch);

  async function once(): Promise<boolean> {
    request = new AbortController();
    const headers: Record<string, string> = { ...authorization(), accept: "text/event-stream" };
    if (parser.lastId) headers["last-event-id"] = parser.lastId;
    tell("connecting");
    const answer = await fetch(address(options.path, options.query), {
      headers,
      signal: request.signal,
      cache: "no-store",
      credentials: "omit",
    });
    if (answer.status === 204) {
      tell("ended");
      return false;
    }
    if (!answer.ok) {
      const problem = await refusal(answer);
      if (answer.status === 401) signOut("The API key is not valid any more.");
      const again = answer.status === 429 || answer.status >= 500;
      tell(again ? "waiting" : "refused", problem.detail);
      return again;
    }
    tell("open");
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let clean = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const frames = parser.push(value);
      const closed = frames.find((one) => one.event === "closed");
      if (closed?.data.includes('"revoked"')) {
        signOut("The API key was revoked.");
        return false;
      }
      clean ||= frames.some((one) => one.event === "event.completed" || one.event === "event.unrouted");
      if (frames.length) options.frames(frames);
      if (closed) clean = false;
    }
    if (clean && options.path.endsWith("/notifications") && options.path.includes("/events/")) {
      tell("ended");
      return false;
    }
    return true;
  }

  void (async () => {
    let failures = 0;
    while (!stopped) {
      try {
        if (!(await once())) break;
        failures = 0;
      } catch {
        failures += 1;
      }
      if (stopped) break;
      if (asleep) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      tell("waiting");
      const pause = Math.min(parser.retryMs * 2 ** Math.min(failures, 4), 15_000);
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
    }
    document.removeEventListener("visibilitychange", watch);
  })();

  return () => {
    stopped = true;
    clearTimeout(hidden);
    request.abort();
    wake();
  };
}
