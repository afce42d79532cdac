import { ApiError, MeshError, MeshUnavailable, NotEnded, UnexpectedAnswer } from "./errors.js";
import type { Problem } from "./errors.js";
import { newId } from "./ids.js";
import { Backoff, RETRIED, retryAfter, sleep } from "./retry.js";
import { SseParser } from "./sse.js";
import type { ServerSentEvent } from "./sse.js";
import type { Cancelled, CloudEvent, EventState, Note, Sent, StreamChunk, Task } from "./types.js";
import { Watch } from "./watch.js";
import type {
  Webhook,
  WebhookAttempt,
  WebhookChanges,
  WebhookMade,
  WebhookDeliveries,
  WebhookReplay,
  NewWebhookSecret,
  WebhookWanted,
} from "./webhooks.js";

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

/** A stream broke; after `wait` seconds it is asked for again, for the `tries`-th time in a row, from `after` on. */
export interface Reconnect {
  reason: string;
  tries: number;
  wait: number;
  after: string | null;
}

export interface Options {
  /** An API key, or in a browser a token of `POST /v1/tokens`. */
  key: string;
  /** The source of what is published; else the key's name. */
  source?: string;
  /** Seconds for which a call is made again that got no answer, 408, 429, 500, 502, 503 or 504; 0: never. Default 30. */
  retryFor?: number;
  /** Seconds that one try may take. Default 30. */
  timeout?: number;
  /** Seconds of silence after which a stream counts as broken; three heartbeats of the API. Default 45. */
  silence?: number;
  /** Called each time a stream breaks. */
  onReconnect?: (reconnect: Reconnect) => void;
  /** In place of the global `fetch`. */
  fetch?: Fetch;
}

/** Attributes of an event beside its type and data: known ones, and extensions. */
export interface Attributes {
  id?: string;
  source?: string;
  subject?: string;
  signal?: AbortSignal;
  [extension: string]: string | number | boolean | AbortSignal | undefined;
}

export interface Waited {
  source?: string;
  /** Seconds. Default 30. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface Followed {
  /** One event: what happened already comes first, and the stream ends when all of it has ended. */
  event?: string;
  /** With `event`, where several sources used its id. */
  source?: string;
  task?: string;
  /** A glob over the notification's type (`task.*`) or the event's (`order.*`); of several, one has to fit. */
  type?: string | readonly string[];
  service?: string;
  subject?: string;
  /** What the subject begins with: `user/`. */
  subjectPrefix?: string;
  /** In CEL, over the notification: `data.result.total > 100`; not with `event`. */
  where?: string;
  /** Begin at this time (RFC 3339), not now; not with `event`. A position goes before it. */
  since?: string | Date;
  /** The position after which to begin. */
  after?: string;
  signal?: AbortSignal;
}

const LONGEST_POLL = 30; // seconds of one question with `wait`
const LAST = new Set(["event.completed", "event.unrouted"]);
const BATCH = "application/cloudevents-batch+json";

/** A client of one mesh's API. Calls throw MeshError: ApiError, MeshUnavailable, UnexpectedAnswer, NotEnded. */
export class MeshClient {
  readonly #url: string;
  readonly #key: string;
  readonly #options: Options;
  readonly #fetch: Fetch;
  #source: string | undefined;

  constructor(url: string, options: Options) {
    const parsed = new URL(url);
    if (!/^https?:$/.test(parsed.protocol) || parsed.search || parsed.username || parsed.password) {
      throw new TypeError("the URL of the API should be like https://mesh.example");
    }
    if (!/^[\x21-\x7e]+$/.test(options.key)) throw new TypeError("the API key has characters that no key has");
    this.#url = url.replace(/\/+$/, "");
    this.#key = options.key;
    this.#source = options.source;
    this.#options = options;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** Publishes one event; resolves when the mesh has it for good. Its id is made before the first try. */
  async publish(type: string, data?: unknown, attributes: Attributes = {}): Promise<Sent> {
    const { signal, ...more } = attributes;
    const event = { id: newId(), ...(this.#source ? { source: this.#source } : {}), ...more, type, data };
    return this.#call<Sent>("POST", "/v1/events", { body: event, signal });
  }

  /** Publishes events in the JSON event format, all or none: at most 1,000. What is left out is filled in. */
  async publishMany(events: readonly CloudEvent[], options: { signal?: AbortSignal } = {}): Promise<Sent[]> {
    if (!this.#source && events.some((event) => event.source === undefined)) {
      this.#source = (await this.#call<{ name: string }>("GET", "/v1/key", options)).name; // as the API would
    }
    const body = events.map((event) => ({ specversion: "1.0", id: newId(), source: this.#source, ...event }));
    const answer = await this.#call<{ events: Sent[] }>("POST", "/v1/events", { ...options, body, type: BATCH });
    return answer.events;
  }

  /** Returns the event and everything that came of it. */
  event(id: string, options: { source?: string; signal?: AbortSignal } = {}): Promise<EventState> {
    const query = options.source === undefined ? "" : `?source=${encodeURIComponent(options.source)}`;
    return this.#call("GET", `/v1/events/${encodeURIComponent(id)}${query}`, { signal: options.signal });
  }

  /** Returns one task. */
  task(id: string, options: { signal?: AbortSignal } = {}): Promise<Task> {
    return this.#call("GET", `/v1/tasks/${encodeURIComponent(id)}`, options);
  }

  /** Cancels a task. Throws ApiError (409) where it has ended otherwise. */
  async cancel(id: string, options: { signal?: AbortSignal } = {}): Promise<Cancelled> {
    try {
      return await this.#call<Cancelled>("POST", `/v1/tasks/${encodeURIComponent(id)}/cancel`, options);
    } catch (error) {
      if (error instanceof ApiError && error.status === 409 && error.problem["state"] === "cancelled") {
        return { id, state: "cancelled", detail: "It has ended." }; // by us: an answer was lost
      }
      throw error;
    }
  }

  /** Answers a handler that waits for a signal; returns whether this is the answer: the first of its name counts. */
  async signal(id: string, data: unknown = true, options: { name?: string; signal?: AbortSignal } = {}): Promise<boolean> {
    const body = { name: options.name ?? "approval", data };
    const path = `/v1/tasks/${encodeURIComponent(id)}/signal`;
    return !(await this.#call<{ duplicate: boolean }>("POST", path, { body, signal: options.signal })).duplicate;
  }

  /** Waits until every task of an event has ended, by long polls. Throws NotEnded. */
  async wait(id: string, options: Waited = {}): Promise<EventState> {
    const seconds = options.timeout ?? 30;
    const end = Date.now() + seconds * 1000;
    let state: EventState | null = null;
    for (let left = seconds; left > 0; left = (end - Date.now()) / 1000) {
      const poll = Math.min(left, LONGEST_POLL);
      const query = new URLSearchParams({ wait: `${Math.max(1, Math.round(poll * 1000))}ms` });
      if (options.source !== undefined) query.set("source", options.source);
      state = await this.#call<EventState>("GET", `/v1/events/${encodeURIComponent(id)}?${query}`, {
        signal: options.signal,
        timeout: poll + (this.#options.timeout ?? 30),
        retryFor: Math.min(left, this.#options.retryFor ?? 30),
      });
      if (state.state === "completed" || state.state === "unrouted") return state;
    }
    throw new NotEnded(id, state, seconds);
  }

  /** Publishes and waits until every task of the event has ended. Throws NotEnded. */
  async run(type: string, data?: unknown, options: Attributes & { timeout?: number } = {}): Promise<EventState> {
    const { timeout, ...attributes } = options;
    const sent = await this.publish(type, data, attributes);
    const waited: Waited = { source: sent.source };
    if (timeout !== undefined) waited.timeout = timeout;
    if (options.signal) waited.signal = options.signal;
    return this.wait(sent.id, waited);
  }

  /**
   * Follows notifications. When the connection breaks, reconnects and goes on where it was: nothing is left out and
   * nothing comes twice. A note of type `resync` says that history asked for is gone. End it with `break` or `signal`.
   */
  async *follow(wanted: Followed = {}): AsyncGenerator<Note, void, undefined> {
    const { event, after, signal, since, subjectPrefix, ...more } = wanted;
    const filters = { ...more, subject_prefix: subjectPrefix, since: since instanceof Date ? since.toISOString() : since };
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(filters)) {
      for (const one of typeof value === "string" ? [value] : value ?? []) query.append(name, one);
    }
    const path = event === undefined ? "/v1/notifications" : `/v1/events/${encodeURIComponent(event)}/notifications`;
    const ends = event === undefined ? new Set<string>() : LAST;
    for await (const one of this.#events(`${path}${query.size ? `?${query}` : ""}`, after ?? null, ends, signal)) {
      const note = noteOf(one.data, one.event);
      if (note) yield note;
    }
  }

  /**
   * Follows what a task's handler streams, from the beginning or after an offset, until the task has ended. A chunk of a
   * higher `epoch` is of another attempt, which has begun anew: what came before is void.
   */
  async *stream(
    id: string,
    name: string,
    options: { offset?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<StreamChunk, void, undefined> {
    const path = `/v1/tasks/${encodeURIComponent(id)}/streams/${encodeURIComponent(name)}`;
    for await (const one of this.#events(path, options.offset ?? null, new Set(["end"]), options.signal)) {
      if (one.event !== "chunk") continue;
      const chunk = chunkOf(one.data);
      if (chunk) yield chunk;
    }
  }

  async *#events(
    path: string,
    after: string | null,
    ends: ReadonlySet<string>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ServerSentEvent, void, undefined> {
    const url = this.#url + path;
    const backoff = new Backoff(null);
    let last = after;
    while (true) {
      const parser = new SseParser();
      const watch = new Watch(this.#options.silence ?? 45, signal);
      let asked: number | null = null;
      let reason = "the API ended the stream";
      try {
        const headers: Record<string, string> = { ...this.#headers(), Accept: "text/event-stream" };
        if (last) headers["Last-Event-ID"] = last;
        const answer = await this.#fetch(url, { headers, signal: watch.signal, redirect: "manual", cache: "no-store" });
        if (answer.status === 204) return; // all was told before `after`
        if (RETRIED.has(answer.status)) {
          asked = retryAfter(answer.headers);
          reason = `the API answers ${answer.status}`;
        } else {
          if (!answer.ok) throw await this.#refusal(answer);
          if (!answer.headers.get("content-type")?.startsWith("text/event-stream") || !answer.body) {
            throw this.#unexpected("no stream of events");
          }
          const reader = answer.body.getReader();
          read: while (true) {
            const { done, value } = await reader.read();
            if (done) break;
            watch.heard();
            for (const one of parser.feed(value)) {
              backoff.tries = 0;
              if (one.event === "closed") {
                reason = `the API closed it: ${one.data}`; // which says why; come back
                break read;
              }
              yield one;
              if (ends.has(one.event)) return;
            }
          }
        }
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (error instanceof MeshError) throw error;
        if (error instanceof RangeError) throw this.#unexpected(error.message);
        reason = watch.silent ? "nothing comes any more" : whyOf(error);
      } finally {
        watch.end();
      }
      last = parser.lastId || last;
      const wait = backoff.next(asked) as number; // for ever
      this.#options.onReconnect?.({ reason, tries: backoff.tries, wait, after: last });
      await sleep(wait, signal);
    }
  }

  /** Has notifications pushed to a URL from now on. Its secret is shown this once, so a lost answer is not asked for again. */
  createWebhook(wanted: WebhookWanted, options: { signal?: AbortSignal } = {}): Promise<WebhookMade> {
    return this.#call("POST", "/v1/webhooks", { ...options, body: wanted, retryFor: 0 });
  }

  /** Returns the webhooks of the key, the oldest first; all, for an admin key. */
  async webhooks(options: { signal?: AbortSignal } = {}): Promise<Webhook[]> {
    return (await this.#call<{ webhooks: Webhook[] }>("GET", "/v1/webhooks", options)).webhooks;
  }

  /** Returns one webhook, and how its deliveries stand. */
  webhook(id: string, options: { signal?: AbortSignal } = {}): Promise<Webhook> {
    return this.#call("GET", webhookPath(id), options);
  }

  /** Changes what is given of a webhook: null takes a filter away; `enabled: true` has it go on where it stopped. */
  updateWebhook(id: string, changes: WebhookChanges, options: { signal?: AbortSignal } = {}): Promise<Webhook> {
    return this.#call("PATCH", webhookPath(id), { ...options, body: changes });
  }

  /** Deletes a webhook; returns what it was. What waits for it is not delivered any more. */
  deleteWebhook(id: string, options: { signal?: AbortSignal } = {}): Promise<Webhook> {
    return this.#call("DELETE", webhookPath(id), options);
  }

  /** Replaces the secret; deliveries are signed with both for `overlap` ("24h"). A lost answer is not asked for again. */
  rotateWebhookSecret(id: string, options: { overlap?: string; signal?: AbortSignal } = {}): Promise<NewWebhookSecret> {
    const { signal, ...body } = options;
    return this.#call("POST", webhookPath(id, "/secret"), { body, signal, retryFor: 0 });
  }

  /** Gives what became of its deliveries, newest first, page by page. */
  async *webhookAttempts(id: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<WebhookAttempt, void, undefined> {
    let cursor: string | null = "";
    while (cursor !== null) {
      const path = webhookPath(id, `/attempts${cursor && `?cursor=${encodeURIComponent(cursor)}`}`);
      const page: { attempts: WebhookAttempt[]; next: string | null } = await this.#call("GET", path, options);
      yield* page.attempts;
      cursor = page.next;
    }
  }

  /** Delivers again: all since a time or after a notification, or some by their ids. */
  replayWebhook(id: string, wanted: WebhookReplay, options: { signal?: AbortSignal } = {}): Promise<WebhookDeliveries> {
    return this.#call("POST", webhookPath(id, "/replay"), { ...options, body: wanted });
  }

  /** Delivers a notification of type `webhook.test`; what came of it is among the attempts. */
  testWebhook(id: string, options: { signal?: AbortSignal } = {}): Promise<WebhookDeliveries> {
    return this.#call("POST", webhookPath(id, "/test"), { ...options, retryFor: 0 });
  }

  async #call<T>(
    method: string,
    path: string,
    request: {
      body?: unknown;
      type?: string;
      timeout?: number;
      retryFor?: number;
      signal?: AbortSignal | undefined;
    } = {},
  ): Promise<T> {
    const backoff = new Backoff(request.retryFor ?? this.#options.retryFor ?? 30);
    const init: RequestInit = { method, headers: this.#headers(), redirect: "manual" };
    if (request.body !== undefined) {
      init.body = JSON.stringify(request.body);
      init.headers = { ...this.#headers(), "Content-Type": request.type ?? "application/json" };
    }
    while (true) {
      const watch = new Watch(request.timeout ?? this.#options.timeout ?? 30, request.signal);
      let failure: MeshError;
      let asked: number | null = null;
      try {
        const answer = await this.#fetch(this.#url + path, { ...init, signal: watch.signal });
        if (answer.ok) return (await this.#document(answer)) as T;
        const refused = await this.#refusal(answer);
        if (!RETRIED.has(answer.status)) throw refused;
        failure = refused;
        asked = retryAfter(answer.headers);
      } catch (error) {
        if (request.signal?.aborted) throw request.signal.reason;
        if (error instanceof MeshError) throw error;
        const why = watch.silent ? "no answer in time" : whyOf(error);
        failure = new MeshUnavailable(`${this.#url} cannot be reached: ${why}`, { cause: error });
      } finally {
        watch.end();
      }
      const wait = backoff.next(asked);
      if (wait === null) throw failure;
      await sleep(wait, request.signal);
    }
  }

  async #document(answer: Response): Promise<unknown> {
    const text = await answer.text(); // what breaks here is a broken connection
    try {
      const found: unknown = JSON.parse(text);
      if (typeof found === "object" && found !== null && !Array.isArray(found)) return found;
    } catch {
      // not JSON: below
    }
    throw this.#unexpected("not its JSON");
  }

  async #refusal(answer: Response): Promise<MeshError> {
    if (answer.type === "opaqueredirect" || (answer.status >= 300 && answer.status < 400)) {
      return this.#unexpected("a redirect; give the URL that it leads to");
    }
    let problem: unknown = null;
    try {
      problem = JSON.parse(await answer.text());
    } catch {
      // a proxy's page, or cut off: the status says enough
    }
    const known = typeof problem === "object" && problem !== null ? (problem as Problem) : { title: answer.statusText };
    return new ApiError(answer.status, known, retryAfter(answer.headers));
  }

  #headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.#key}` };
  }

  #unexpected(what: string): UnexpectedAnswer {
    return new UnexpectedAnswer(`what answers at ${this.#url} is not a mesh's API: it sent ${what}`);
  }
}

function webhookPath(id: string, more = ""): string {
  return `/v1/webhooks/${encodeURIComponent(id)}${more}`;
}

function noteOf(data: string, kind: string): Note | null {
  try {
    const { id = "", type = kind, time = "", event = null, task = null, data: more = {} } = JSON.parse(data);
    return { id, type, time, event, task, data: more };
  } catch {
    return null; // somebody else wrote it; the next one may be read
  }
}

function chunkOf(data: string): StreamChunk | null {
  try {
    const { epoch, offset, kind, data: raw } = JSON.parse(data);
    const bytes = kind === "bytes" ? Uint8Array.from(atob(raw), (letter) => letter.charCodeAt(0)) : null;
    return { epoch, offset, data: bytes ?? raw };
  } catch {
    return null;
  }
}

function whyOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof Error && cause.message) return cause.message;
  return error instanceof Error ? error.message : String(error);
}
