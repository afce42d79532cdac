/** An event in the JSON event format of CloudEvents 1.0; extensions stand beside the known members. */
export interface CloudEvent {
  specversion?: "1.0";
  id?: string;
  source?: string;
  type: string;
  time?: string;
  subject?: string;
  datacontenttype?: string;
  dataschema?: string;
  data?: unknown;
  data_base64?: string;
  [extension: string]: unknown;
}

/** What a publish was answered: the event's identity, and whether it was known already. */
export interface Sent {
  id: string;
  source: string;
  type: string;
  duplicate: boolean;
  links: { self: string; notifications: string };
}

/** One delivery of an event to one subscription. */
export interface Task {
  id: string;
  name: string;
  service: string;
  state: "pending" | "held" | "queued" | "started" | "retrying" | "waiting" | "succeeded" | "failed" | "cancelled" | "expired" | "skipped" | "folded";
  attempt: number;
  event: { id: string; source: string; type: string; subject: string | null };
  queued_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  next_attempt_at: string | null;
  worker: string | null;
  progress: { progress: number; text: string | null } | null;
  result: unknown;
  left_out: boolean;
  error: { reason: string; kind: string } | null;
  events: { id: string; source: string; type: string; subject: string | null }[];
}

/** A subscription that got the event; `task` is null once its record is dropped. */
export interface Delivery {
  task_id: string;
  task: Task | null;
}

/** An event and everything that came of it. */
export interface EventState {
  id: string;
  source: string;
  type: string | null;
  state: "held" | "waiting" | "unrouted" | "running" | "completed";
  detail: string;
  published_at: string;
  held_until: string | null;
  event: CloudEvent | null;
  deliveries: Delivery[];
  not_delivered: { subscription: string; reason: string }[];
  not_run: { subscription: string; task_id: string; why: string; detail: string; ahead: number | null }[];
}

/** What a cancellation was answered: `cancelled` has ended; `cancelling` was told and ends soon. */
export interface Cancelled {
  id: string;
  state: "cancelled" | "cancelling";
  detail: string;
}

/** Types of notifications; later versions of the API may tell others. */
export type NoteType =
  | "task.queued"
  | "task.started"
  | "task.progress"
  | "task.retrying"
  | "task.succeeded"
  | "task.failed"
  | "task.cancelled"
  | "task.expired"
  | "event.unrouted"
  | "event.completed"
  | "resync"
  | (string & {});

/** One notification. `id` is the position to resume after; a `resync` has none. */
export interface Note {
  id: string;
  type: NoteType;
  time: string;
  event: { id: string; type: string; source: string; subject: string | null; traceparent?: string } | null;
  task: { id: string; name: string; service: string; attempt: number } | null;
  data: Record<string, unknown>;
}

/** A piece of what a handler streams: text, bytes or JSON. `offset`: to resume after it. */
export interface StreamChunk {
  epoch: number;
  offset: string;
  data: unknown;
}
