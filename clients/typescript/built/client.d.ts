import type { Cancelled, CloudEvent, EventState, Note, Sent, StreamChunk, Task } from "./types.js";
import type { Webhook, WebhookAttempt, WebhookChanges, WebhookMade, WebhookDeliveries, WebhookReplay, NewWebhookSecret, WebhookWanted } from "./webhooks.js";
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
/** A client of one mesh's API. Calls throw MeshError: ApiError, MeshUnavailable, UnexpectedAnswer, NotEnded. */
export declare class MeshClient {
    #private;
    constructor(url: string, options: Options);
    /** Publishes one event; resolves when the mesh has it for good. Its id is made before the first try. */
    publish(type: string, data?: unknown, attributes?: Attributes): Promise<Sent>;
    /** Publishes events in the JSON event format, all or none: at most 1,000. What is left out is filled in. */
    publishMany(events: readonly CloudEvent[], options?: {
        signal?: AbortSignal;
    }): Promise<Sent[]>;
    /** Returns the event and everything that came of it. */
    event(id: string, options?: {
        source?: string;
        signal?: AbortSignal;
    }): Promise<EventState>;
    /** Returns one task. */
    task(id: string, options?: {
        signal?: AbortSignal;
    }): Promise<Task>;
    /** Cancels a task. Throws ApiError (409) where it has ended otherwise. */
    cancel(id: string, options?: {
        signal?: AbortSignal;
    }): Promise<Cancelled>;
    /** Answers a handler that waits for a signal; returns whether this is the answer: the first of its name counts. */
    signal(id: string, data?: unknown, options?: {
        name?: string;
        signal?: AbortSignal;
    }): Promise<boolean>;
    /** Waits until every task of an event has ended, by long polls. Throws NotEnded. */
    wait(id: string, options?: Waited): Promise<EventState>;
    /** Publishes and waits until every task of the event has ended. Throws NotEnded. */
    run(type: string, data?: unknown, options?: Attributes & {
        timeout?: number;
    }): Promise<EventState>;
    /**
     * Follows notifications. When the connection breaks, reconnects and goes on where it was: nothing is left out and
     * nothing comes twice. A note of type `resync` says that history asked for is gone. End it with `break` or `signal`.
     */
    follow(wanted?: Followed): AsyncGenerator<Note, void, undefined>;
    /**
     * Follows what a task's handler streams, from the beginning or after an offset, until the task has ended. A chunk of a
     * higher `epoch` is of another attempt, which has begun anew: what came before is void.
     */
    stream(id: string, name: string, options?: {
        offset?: string;
        signal?: AbortSignal;
    }): AsyncGenerator<StreamChunk, void, undefined>;
    /** Has notifications pushed to a URL from now on. Its secret is shown this once, so a lost answer is not asked for again. */
    createWebhook(wanted: WebhookWanted, options?: {
        signal?: AbortSignal;
    }): Promise<WebhookMade>;
    /** Returns the webhooks of the key, the oldest first; all, for an admin key. */
    webhooks(options?: {
        signal?: AbortSignal;
    }): Promise<Webhook[]>;
    /** Returns one webhook, and how its deliveries stand. */
    webhook(id: string, options?: {
        signal?: AbortSignal;
    }): Promise<Webhook>;
    /** Changes what is given of a webhook: null takes a filter away; `enabled: true` has it go on where it stopped. */
    updateWebhook(id: string, changes: WebhookChanges, options?: {
        signal?: AbortSignal;
    }): Promise<Webhook>;
    /** Deletes a webhook; returns what it was. What waits for it is not delivered any more. */
    deleteWebhook(id: string, options?: {
        signal?: AbortSignal;
    }): Promise<Webhook>;
    /** Replaces the secret; deliveries are signed with both for `overlap` ("24h"). A lost answer is not asked for again. */
    rotateWebhookSecret(id: string, options?: {
        overlap?: string;
        signal?: AbortSignal;
    }): Promise<NewWebhookSecret>;
    /** Gives what became of its deliveries, newest first, page by page. */
    webhookAttempts(id: string, options?: {
        signal?: AbortSignal;
    }): AsyncGenerator<WebhookAttempt, void, undefined>;
    /** Delivers again: all since a time or after a notification, or some by their ids. */
    replayWebhook(id: string, wanted: WebhookReplay, options?: {
        signal?: AbortSignal;
    }): Promise<WebhookDeliveries>;
    /** Delivers a notification of type `webhook.test`; what came of it is among the attempts. */
    testWebhook(id: string, options?: {
        signal?: AbortSignal;
    }): Promise<WebhookDeliveries>;
}
