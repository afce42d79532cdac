/** The base of what this client throws. */
export class MeshError extends Error {
    name = "MeshError";
}
/** The API refused the request; nothing was changed. */
export class ApiError extends MeshError {
    status;
    problem;
    retryAfter;
    name = "ApiError";
    constructor(status, problem, 
    /** Seconds after which it may be asked again, where it said so. */
    retryAfter) {
        super(`${status}: ${problem.detail ?? problem.title ?? "no reason given"}`);
        this.status = status;
        this.problem = problem;
        this.retryAfter = retryAfter;
    }
}
/** The API cannot be reached; the same call may be made again. */
export class MeshUnavailable extends MeshError {
    name = "MeshUnavailable";
}
/** What answers at the URL is not a mesh's API. */
export class UnexpectedAnswer extends MeshError {
    name = "UnexpectedAnswer";
}
/** The event has not ended in the time given; it goes on without whoever waited. */
export class NotEnded extends MeshError {
    eventId;
    state;
    name = "NotEnded";
    constructor(eventId, state, seconds) {
        super(`event ${eventId} has not ended after ${seconds} s${state ? `: ${state.detail}` : ""}`);
        this.eventId = eventId;
        this.state = state;
    }
}
