// What the API answers, as far as the dashboard reads it. Contents of users are `unknown`, and shown as text only.

export interface EventRef {
  id: string;
  source: string;
  type: string;
  subject: string | null;
}

export interface TaskRefNote {
  id: string;
  name: string;
  service: string;
  attempt: number;
}

export interface Note {
  id: string;
  type: string;
  time: string;
  event: EventRef | null;
  task: TaskRefNote | null;
  data: Record<string, unknown>;
}

export interface Failure {
  reason?: string;
  kind?: string;
  detail?: string;
  [member: string]: unknown;
}

export interface FollowUp extends EventRef {
  links?: Record<string, string>;
}

export interface Task {
  id: string;
  name: string;
  service: string;
  state: string;
  attempt: number;
  event: EventRef;
  queued_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  next_attempt_at: string | null;
  worker: string | null;
  progress: { progress?: number; text?: string } | null;
  result: unknown;
  error: Failure | null;
  events: FollowUp[];
  steps: { name: string; kind: string; at: string }[];
  waits_for: { name: string; kind: string; until: string; type: string | null; match: Record<string, unknown> | null; signal: string | null; question: string | null; to: string | null } | null;
}

export interface EventState {
  id: string;
  source: string;
  type: string | null;
  state: string;
  detail: string;
  published_at: string;
  held_until: string | null;
  event: Record<string, unknown> | null;
  deliveries: { task_id: string; task: Task | null }[];
  not_delivered: { subscription: string; reason: string }[];
  not_run: { subscription: string; task_id: string; why: string; detail: string; ahead: number | null }[];
}

export interface Service {
  service: string;
  registered: boolean;
  subscriptions: { task: string; type: string }[];
  workers: number;
  last_seen: string | null;
  queued: number;
  waiting: number;
  held: number;
  lag: number;
  lag_exact: boolean;
  oldest_waiting_seconds: number | null;
  dead_letters: number;
  falls_per_second: number | null;
  gone_in_seconds: number | null;
}

export interface HeldTask {
  id: string;
  name: string;
  event: EventRef;
  queued_at: string | null;
  started_at: string | null;
}

export interface ServiceDetail extends Service {
  oldest: { where: "stream" | "queue"; since: string; event: EventRef | null; task: HeldTask | null } | null;
  holding: { process: string; taken: number; running: HeldTask[] }[];
}

export interface FailureGroup {
  service: string;
  task: string | null;
  kind: string;
  count: number;
  last_at: string;
  newest: DeadLetter;
}

export interface Finding {
  code: string;
  about: string;
  severity: "warning" | "error";
  text: string;
  do: string;
}

export interface Status {
  status: "ok" | "degraded" | "failing";
  findings: Finding[];
  time: string;
  redis: { version: string; ping_ms: number; memory: number; memory_limit: number; clients: number; persistent: boolean; refused_at: number; full_in_seconds: number | null };
  dispatchers: number;
  beats: number;
  apis: number;
  services: Service[];
  streams?: { domain: string; kept: number; published: number; last_at: string | null }[];
  totals?: Record<string, number>;
}

export interface DeadLetter {
  id: string;
  service: string;
  form: "task" | "entry" | "event";
  task: string | null;
  event: EventRef | null;
  reason: string;
  kind: string;
  attempts: number;
  at: string;
  detail?: string;
  envelope?: Record<string, unknown> | null;
  raw?: Record<string, string> | null;
}

export interface Subscription {
  task: string;
  service: string;
  type: string;
  where: Record<string, unknown> | string;
  paused: { since: string; reason: string; failures: number } | null;
  held: number;
  failures: number;
}

export interface ApiKey {
  name: string;
  admin: boolean;
  publish: string[];
  subscribe: string[];
  sources: string[];
  rate: number | null;
  created_at: string;
  expires_at: string | null;
  expired: boolean;
  used_at: string | null;
}

export interface Webhook {
  id: string;
  url: string;
  description: string;
  owner: string;
  types: string[];
  event: string | null;
  task: string | null;
  service: string | null;
  subject: string | null;
  where: string | null;
  ordered: boolean;
  enabled: boolean;
  disabled_reason: string | null;
  created_at: string;
  secrets: number;
  waiting: number;
  delivered: number;
  given_up: number;
  failures_in_a_row: number;
  failing_since: string | null;
  behind: string | null;
}

export interface WebhookMade extends Webhook {
  secret: string;
}

export interface DeliveryAttempt {
  delivery: string;
  notification: string;
  attempt: number;
  at: string;
  outcome: "delivered" | "failed" | "given_up";
  status: number | null;
  error: string | null;
  seconds: number;
  next_attempt: string | null;
}

export interface Limits {
  key: string | null;
  concurrency: number | null;
  total: number | null;
  fair: boolean;
  order: boolean;
  throttle: string | null;
  drop: string | null;
  singleton: string | null;
  debounce: number | null;
  max_wait: number | null;
  batch: number | null;
  linger: number | null;
}

export interface FlowState {
  task: string;
  waiting: number;
  running: number;
  skipped: number;
  folded: number;
  slow_keys: number;
  limits: Limits | null;
  set: Record<string, number | string>;
}

export interface FlowKey {
  key: string;
  waiting: number;
  running: number;
  turn: number | null;
  starts_at: string | null;
}
