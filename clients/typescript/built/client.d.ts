import type { Cancelled, CloudEvent, EventState, Note, Sent, Task } from "./types.js";
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
    /** A type or a glob over the types of events; several where the API takes several. */
    type?: string | readonly string[];
    service?: string;
    subject?: string;
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
}
