export { MeshClient } from "./client.js";
export type { Attributes, Fetch, Followed, Options, Reconnect, Waited } from "./client.js";
export { ApiError, MeshError, MeshUnavailable, NotEnded, UnexpectedAnswer } from "./errors.js";
export type { Problem } from "./errors.js";
export type { Cancelled, CloudEvent, Delivery, EventState, Note, NoteType, Sent, StreamChunk, Task } from "./types.js";
export type { Webhook, WebhookAttempt, WebhookChanges, WebhookMade, WebhookDeliveries, WebhookReplay, NewWebhookSecret, WebhookWanted, } from "./webhooks.js";
