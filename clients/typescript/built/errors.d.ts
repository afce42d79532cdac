import type { EventState } from "./types.js";
/** A problem document (RFC 9457). */
export interface Problem {
    type?: string;
    title?: string;
    status?: number;
    detail?: string;
    instance?: string;
    errors?: {
        pointer?: string;
        parameter?: string;
        detail: string;
    }[];
    [member: string]: unknown;
}
/** The base of what this client throws. */
export declare class MeshError extends Error {
    name: string;
}
/** The API refused the request; nothing was changed. */
export declare class ApiError extends MeshError {
    readonly status: number;
    readonly problem: Problem;
    /** Seconds after which it may be asked again, where it said so. */
    readonly retryAfter: number | null;
    name: string;
    constructor(status: number, problem: Problem, 
    /** Seconds after which it may be asked again, where it said so. */
    retryAfter: number | null);
}
/** The API cannot be reached; the same call may be made again. */
export declare class MeshUnavailable extends MeshError {
    name: string;
}
/** What answers at the URL is not a mesh's API. */
export declare class UnexpectedAnswer extends MeshError {
    name: string;
}
/** The event has not ended in the time given; it goes on without whoever waited. */
export declare class NotEnded extends MeshError {
    readonly eventId: string;
    readonly state: EventState | null;
    name: string;
    constructor(eventId: string, state: EventState | null, seconds: number);
}
