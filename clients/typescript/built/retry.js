/** What is asked again: 408 and 429 say so, the rest is said by an API or a proxy that could not answer. */
export const RETRIED = new Set([408, 429, 500, 502, 503, 504]);
const LONGEST_WAIT = 5; // seconds between two tries, where the API does not say
/** Returns the seconds that `Retry-After` asks to wait, as a number or a date; null where it says neither. */
export function retryAfter(headers, now = Date.now()) {
    const text = headers.get("retry-after")?.trim() ?? "";
    if (/^\d{1,9}$/.test(text))
        return Number(text);
    const date = text === "" ? NaN : Date.parse(text);
    return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}
/** The waits of one call: growing, with jitter, until `seconds` from now are over; null for ever. */
export class Backoff {
    seconds;
    tries = 0;
    #end = Infinity;
    constructor(seconds) {
        this.seconds = seconds;
        this.reached();
    }
    /** Gives the time anew, since somebody answered. */
    reached() {
        this.#end = this.seconds === null ? Infinity : Date.now() + this.seconds * 1000;
    }
    /** Returns the seconds to wait before the next try; null when the time is over before. */
    next(asked) {
        this.tries += 1;
        const left = (this.#end - Date.now()) / 1000;
        if (asked !== null && asked > 0) {
            return asked <= left ? asked + Math.random() * Math.min(1, asked / 4) : null;
        }
        const wait = Math.min(LONGEST_WAIT, 0.05 * 2 ** Math.min(this.tries - 1, 10)) * (0.5 + Math.random() / 2);
        return left > 0 ? Math.min(wait, left) : null;
    }
}
/** Waits, or ends at once with what ended the signal. */
export function sleep(seconds, signal) {
    return new Promise((resolve, reject) => {
        if (signal?.aborted)
            return reject(signal.reason);
        const stop = () => {
            clearTimeout(timer);
            reject(signal?.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener("abort", stop);
            resolve();
        }, seconds * 1000);
        signal?.addEventListener("abort", stop, { once: true });
    });
}
