/** One event of a stream of server-sent events; `id` is the last id seen so far. */
export interface ServerSentEvent {
    event: string;
    data: string;
    id: string;
}
/** Reads a stream as its bytes come, cut anywhere. Source: WHATWG HTML, section 9.2.6. */
export declare class SseParser {
    #private;
    /** Where to resume after all that was given: also a block with an id and no data moves it. */
    lastId: string;
    /** Returns the events that this chunk completes. Throws RangeError for one without an end. */
    feed(chunk: Uint8Array): ServerSentEvent[];
}
