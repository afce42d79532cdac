/** Aborts a request after so many seconds of silence, or with the caller's signal. */
export declare class Watch {
    #private;
    silent: boolean;
    constructor(seconds: number, outer: AbortSignal | undefined);
    get signal(): AbortSignal;
    heard(): void;
    end(): void;
}
