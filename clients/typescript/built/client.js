import { ApiError, MeshError, MeshUnavailable, NotEnded, UnexpectedAnswer } from "./errors.js";
import { newId } from "./ids.js";
import { Backoff, RETRIED, retryAfter, sleep } from "./retry.js";
import { SseParser } from "./sse.js";
import { Watch } from "./watch.js";
const LONGEST_POLL = 30; // seconds of one question with `wait`
const LAST = new Set(["event.completed", "event.unrouted"]);
const BATCH = "application/cloudevents-batch+json";
/** A client of one mesh's API. Calls throw MeshError: ApiError, MeshUnavailable, UnexpectedAnswer, NotEnded. */
export class MeshClient {
    #url;
    #key;
    #options;
    #fetch;
    #source;
    constructor(url, options) {
        const parsed = new URL(url);
        if (!/^https?:$/.test(parsed.protocol) || parsed.search || parsed.username || parsed.password) {
            throw new TypeError("the URL of the API should be like https://mesh.example");
        }
        if (!/^[\x21-\x7e]+$/.test(options.key))
            throw new TypeError("the API key has characters that no key has");
        this.#url = url.replace(/\/+$/, "");
        this.#key = options.key;
        this.#source = options.source;
        this.#options = options;
        this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    }
    /** Publishes one event; resolves when the mesh has it for good. Its id is made before the first try. */
    async publish(type, data, attributes = {}) {
        const { signal, ...more } = attributes;
        const event = { id: newId(), ...(this.#source ? { source: this.#source } : {}), ...more, type, data };
        return this.#call("POST", "/v1/events", { body: event, signal });
    }
    /** Publishes events in the JSON event format, all or none: at most 1,000. What is left out is filled in. */
    async publishMany(events, options = {}) {
        if (!this.#source && events.some((event) => event.source === undefined)) {
            this.#source = (await this.#call("GET", "/v1/key", options)).name; // as the API would
        }
        const body = events.map((event) => ({ specversion: "1.0", id: newId(), source: this.#source, ...event }));
        const answer = await this.#call("POST", "/v1/events", { ...options, body, type: BATCH });
        return answer.events;
    }
    /** Returns the event and everything that came of it. */
    event(id, options = {}) {
        const query = options.source === undefined ? "" : `?source=${encodeURIComponent(options.source)}`;
        return this.#call("GET", `/v1/events/${encodeURIComponent(id)}${query}`, { signal: options.signal });
    }
    /** Returns one task. */
    task(id, options = {}) {
        return this.#call("GET", `/v1/tasks/${encodeURIComponent(id)}`, options);
    }
    /** Cancels a task. Throws ApiError (409) where it has ended otherwise. */
    async cancel(id, options = {}) {
        try {
            return await this.#call("POST", `/v1/tasks/${encodeURIComponent(id)}/cancel`, options);
        }
        catch (error) {
            if (error instanceof ApiError && error.status === 409 && error.problem["state"] === "cancelled") {
                return { id, state: "cancelled", detail: "It has ended." }; // by us: an answer was lost
            }
            throw error;
        }
    }
    /** Answers a handler that waits for a signal; returns whether this is the answer: the first of its name counts. */
    async signal(id, data = true, options = {}) {
        const body = { name: options.name ?? "approval", data };
        const path = `/v1/tasks/${encodeURIComponent(id)}/signal`;
        return !(await this.#call("POST", path, { body, signal: options.signal })).duplicate;
    }
    /** Waits until every task of an event has ended, by long polls. Throws NotEnded. */
    async wait(id, options = {}) {
        const seconds = options.timeout ?? 30;
        const end = Date.now() + seconds * 1000;
        let state = null;
        for (let left = seconds; left > 0; left = (end - Date.now()) / 1000) {
            const poll = Math.min(left, LONGEST_POLL);
            const query = new URLSearchParams({ wait: `${Math.max(1, Math.round(poll * 1000))}ms` });
            if (options.source !== undefined)
                query.set("source", options.source);
            state = await this.#call("GET", `/v1/events/${encodeURIComponent(id)}?${query}`, {
                signal: options.signal,
                timeout: poll + (this.#options.timeout ?? 30),
                retryFor: Math.min(left, this.#options.retryFor ?? 30),
            });
            if (state.state === "completed" || state.state === "unrouted")
                return state;
        }
        throw new NotEnded(id, state, seconds);
    }
    /** Publishes and waits until every task of the event has ended. Throws NotEnded. */
    async run(type, data, options = {}) {
        const { timeout, ...attributes } = options;
        const sent = await this.publish(type, data, attributes);
        const waited = { source: sent.source };
        if (timeout !== undefined)
            waited.timeout = timeout;
        if (options.signal)
            waited.signal = options.signal;
        return this.wait(sent.id, waited);
    }
    /**
     * Follows notifications. When the connection breaks, reconnects and goes on where it was: nothing is left out and
     * nothing comes twice. A note of type `resync` says that history asked for is gone. End it with `break` or `signal`.
     */
    async *follow(wanted = {}) {
        const { event, after, signal, since, subjectPrefix, ...more } = wanted;
        const filters = { ...more, subject_prefix: subjectPrefix, since: since instanceof Date ? since.toISOString() : since };
        const query = new URLSearchParams();
        for (const [name, value] of Object.entries(filters)) {
            for (const one of typeof value === "string" ? [value] : value ?? [])
                query.append(name, one);
        }
        const path = event === undefined ? "/v1/notifications" : `/v1/events/${encodeURIComponent(event)}/notifications`;
        const ends = event === undefined ? new Set() : LAST;
        for await (const one of this.#events(`${path}${query.size ? `?${query}` : ""}`, after ?? null, ends, signal)) {
            const note = noteOf(one.data, one.event);
            if (note)
                yield note;
        }
    }
    /**
     * Follows what a task's handler streams, from the beginning or after an offset, until the task has ended. A chunk of a
     * higher `epoch` is of another attempt, which has begun anew: what came before is void.
     */
    async *stream(id, name, options = {}) {
        const path = `/v1/tasks/${encodeURIComponent(id)}/streams/${encodeURIComponent(name)}`;
        for await (const one of this.#events(path, options.offset ?? null, new Set(["end"]), options.signal)) {
            if (one.event !== "chunk")
                continue;
            const chunk = chunkOf(one.data);
            if (chunk)
                yield chunk;
        }
    }
    async *#events(path, after, ends, signal) {
        const url = this.#url + path;
        const backoff = new Backoff(null);
        let last = after;
        while (true) {
            const parser = new SseParser();
            const watch = new Watch(this.#options.silence ?? 45, signal);
            let asked = null;
            let reason = "the API ended the stream";
            try {
                const headers = { ...this.#headers(), Accept: "text/event-stream" };
                if (last)
                    headers["Last-Event-ID"] = last;
                const answer = await this.#fetch(url, { headers, signal: watch.signal, redirect: "manual", cache: "no-store" });
                if (answer.status === 204)
                    return; // all was told before `after`
                if (RETRIED.has(answer.status)) {
                    asked = retryAfter(answer.headers);
                    reason = `the API answers ${answer.status}`;
                }
                else {
                    if (!answer.ok)
                        throw await this.#refusal(answer);
                    if (!answer.headers.get("content-type")?.startsWith("text/event-stream") || !answer.body) {
                        throw this.#unexpected("no stream of events");
                    }
                    const reader = answer.body.getReader();
                    read: while (true) {
                        const { done, value } = await reader.read();
                        if (done)
                            break;
                        watch.heard();
                        for (const one of parser.feed(value)) {
                            backoff.tries = 0;
                            if (one.event === "closed") {
                                reason = `the API closed it: ${one.data}`; // which says why; come back
                                break read;
                            }
                            yield one;
                            if (ends.has(one.event))
                                return;
                        }
                    }
                }
            }
            catch (error) {
                if (signal?.aborted)
                    throw signal.reason;
                if (error instanceof MeshError)
                    throw error;
                if (error instanceof RangeError)
                    throw this.#unexpected(error.message);
                reason = watch.silent ? "nothing comes any more" : whyOf(error);
            }
            finally {
                watch.end();
            }
            last = parser.lastId || last;
            const wait = backoff.next(asked); // for ever
            this.#options.onReconnect?.({ reason, tries: backoff.tries, wait, after: last });
            await sleep(wait, signal);
        }
    }
    /** Has notifications pushed to a URL from now on. Its secret is shown this once, so a lost answer is not asked for again. */
    createWebhook(wanted, options = {}) {
        return this.#call("POST", "/v1/webhooks", { ...options, body: wanted, retryFor: 0 });
    }
    /** Returns the webhooks of the key, the oldest first; all, for an admin key. */
    async webhooks(options = {}) {
        return (await this.#call("GET", "/v1/webhooks", options)).webhooks;
    }
    /** Returns one webhook, and how its deliveries stand. */
    webhook(id, options = {}) {
        return this.#call("GET", webhookPath(id), options);
    }
    /** Changes what is given of a webhook: null takes a filter away; `enabled: true` has it go on where it stopped. */
    updateWebhook(id, changes, options = {}) {
        return this.#call("PATCH", webhookPath(id), { ...options, body: changes });
    }
    /** Deletes a webhook; returns what it was. What waits for it is not delivered any more. */
    deleteWebhook(id, options = {}) {
        return this.#call("DELETE", webhookPath(id), options);
    }
    /** Replaces the secret; deliveries are signed with both for `overlap` ("24h"). A lost answer is not asked for again. */
    rotateWebhookSecret(id, options = {}) {
        const { signal, ...body } = options;
        return this.#call("POST", webhookPath(id, "/secret"), { body, signal, retryFor: 0 });
    }
    /** Gives what became of its deliveries, newest first, page by page. */
    async *webhookAttempts(id, options = {}) {
        let cursor = "";
        while (cursor !== null) {
            const path = webhookPath(id, `/attempts${cursor && `?cursor=${encodeURIComponent(cursor)}`}`);
            const page = await this.#call("GET", path, options);
            yield* page.attempts;
            cursor = page.next;
        }
    }
    /** Delivers again: all since a time or after a notification, or some by their ids. */
    replayWebhook(id, wanted, options = {}) {
        return this.#call("POST", webhookPath(id, "/replay"), { ...options, body: wanted });
    }
    /** Delivers a notification of type `webhook.test`; what came of it is among the attempts. */
    testWebhook(id, options = {}) {
        return this.#call("POST", webhookPath(id, "/test"), { ...options, retryFor: 0 });
    }
    async #call(method, path, request = {}) {
        const backoff = new Backoff(request.retryFor ?? this.#options.retryFor ?? 30);
        const init = { method, headers: this.#headers(), redirect: "manual" };
        if (request.body !== undefined) {
            init.body = JSON.stringify(request.body);
            init.headers = { ...this.#headers(), "Content-Type": request.type ?? "application/json" };
        }
        while (true) {
            const watch = new Watch(request.timeout ?? this.#options.timeout ?? 30, request.signal);
            let failure;
            let asked = null;
            try {
                const answer = await this.#fetch(this.#url + path, { ...init, signal: watch.signal });
                if (answer.ok)
                    return (await this.#document(answer));
                const refused = await this.#refusal(answer);
                if (!RETRIED.has(answer.status))
                    throw refused;
                failure = refused;
                asked = retryAfter(answer.headers);
            }
            catch (error) {
                if (request.signal?.aborted)
                    throw request.signal.reason;
                if (error instanceof MeshError)
                    throw error;
                const why = watch.silent ? "no answer in time" : whyOf(error);
                failure = new MeshUnavailable(`${this.#url} cannot be reached: ${why}`, { cause: error });
            }
            finally {
                watch.end();
            }
            const wait = backoff.next(asked);
            if (wait === null)
                throw failure;
            await sleep(wait, request.signal);
        }
    }
    async #document(answer) {
        const text = await answer.text(); // what breaks here is a broken connection
        try {
            const found = JSON.parse(text);
            if (typeof found === "object" && found !== null && !Array.isArray(found))
                return found;
        }
        catch {
            // not JSON: below
        }
        throw this.#unexpected("not its JSON");
    }
    async #refusal(answer) {
        if (answer.type === "opaqueredirect" || (answer.status >= 300 && answer.status < 400)) {
            return this.#unexpected("a redirect; give the URL that it leads to");
        }
        let problem = null;
        try {
            problem = JSON.parse(await answer.text());
        }
        catch {
            // a proxy's page, or cut off: the status says enough
        }
        const known = typeof problem === "object" && problem !== null ? problem : { title: answer.statusText };
        return new ApiError(answer.status, known, retryAfter(answer.headers));
    }
    #headers() {
        return { Authorization: `Bearer ${this.#key}` };
    }
    #unexpected(what) {
        return new UnexpectedAnswer(`what answers at ${this.#url} is not a mesh's API: it sent ${what}`);
    }
}
function webhookPath(id, more = "") {
    return `/v1/webhooks/${encodeURIComponent(id)}${more}`;
}
function noteOf(data, kind) {
    try {
        const { id = "", type = kind, time = "", event = null, task = null, data: more = {} } = JSON.parse(data);
        return { id, type, time, event, task, data: more };
    }
    catch {
        return null; // somebody else wrote it; the next one may be read
    }
}
function chunkOf(data) {
    try {
        const { epoch, offset, kind, data: raw } = JSON.parse(data);
        const bytes = kind === "bytes" ? Uint8Array.from(atob(raw), (letter) => letter.charCodeAt(0)) : null;
        return { epoch, offset, data: bytes ?? raw };
    }
    catch {
        return null;
    }
}
function whyOf(error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause instanceof Error && cause.message)
        return cause.message;
    return error instanceof Error ? error.message : String(error);
}
