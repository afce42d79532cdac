/** What is asked again: 408 and 429 say so, the rest is said by an API or a proxy that could not answer. */
export declare const RETRIED: Set<number>;
/** Returns the seconds that `Retry-After` asks to wait, as a number or a date; null where it says neither. */
export declare function retryAfter(headers: Headers, now?: number): number | null;
/** The waits of one call: growing, with jitter, until `seconds` from now are over; null for ever. */
export declare class Backoff {
    #private;
    readonly seconds: number | null;
    tries: number;
    constructor(seconds: number | null);
    /** Gives the time anew, since somebody answered. */
    reached(): void;
    /** Returns the seconds to wait before the next try; null when the time is over before. */
    next(asked: number | null): number | null;
}
/** Waits, or ends at once with what ended the signal. */
export declare function sleep(seconds: number, signal?: AbortSignal): Promise<void>;
