export { MeshClient } from "./client.js";
export { ApiError, MeshError, MeshUnavailable, NotEnded, UnexpectedAnswer } from "./errors.js";
