import type { EventState } from "./types.js";

/** A problem document (RFC 9457). */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  instance?: string;
  errors?: { pointer?: string; parameter?: string; detail: string }[];
  [member: string]: unknown;
}

/** The base of what this client throws. */
export class MeshError extends Error {
  override name = "MeshError";
}

/** The API refused the request; nothing was changed. */
export class ApiError extends MeshError {
  override name = "ApiError";

  constructor(
    readonly status: number,
    readonly problem: Problem,
    /** Seconds after which it may be asked again, where it said so. */
    readonly retryAfter: number | null,
  ) {
    super(`${status}: ${problem.detail ?? problem.title ?? "no reason given"}`);
  }
}

/** The API cannot be reached; the same call may be made again. */
export class MeshUnavailable extends MeshError {
  override name = "MeshUnavailable";
}

/** What answers at the URL is not a mesh's API. */
export class UnexpectedAnswer extends MeshError {
  override name = "UnexpectedAnswer";
}

/** The event has not ended in the time given; it goes on without whoever waited. */
export class NotEnded extends MeshError {
  override name = "NotEnded";

  constructor(
    readonly eventId: string,
    readonly state: EventState | null,
    seconds: number,
  ) {
    super(`event ${eventId} has not ended after ${seconds} s${state ? `: ${state.detail}` : ""}`);
  }
}
