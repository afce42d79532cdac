/** Notifications that are pushed to a URL. What is left out of the filters is not asked. */
export interface WebhookWanted {
  url: string;
  description?: string;
  /** Globs, of which one covers the notification's type (`task.*`) or the event's (`order.*`). */
  types?: readonly string[];
  event?: string | null;
  task?: string | null;
  service?: string | null;
  subject?: string | null;
  /** In CEL, over the notification: `data.result.total > 100`. */
  where?: string | null;
  /** One after the other, in their order; a failure holds up the rest. */
  ordered?: boolean;
  enabled?: boolean;
}

/** What is to be changed; what is left out stays. */
export type WebhookChanges = Partial<WebhookWanted>;

/** A webhook, and how its deliveries stand. */
export interface Webhook {
  id: string;
  url: string;
  description: string;
  /** Name of the API key whose rights it has. */
  owner: string;
  types: string[];
  event: string | null;
  task: string | null;
  service: string | null;
  subject: string | null;
  where: string | null;
  ordered: boolean;
  enabled: boolean;
  /** Why the mesh disabled it. */
  disabled_reason: string | null;
  created_at: string;
  secrets: number;
  waiting: number;
  delivered: number;
  given_up: number;
  failures_in_a_row: number;
  failing_since: string | null;
  /** The position at which it reads, where it has not caught up. */
  behind: string | null;
}

/** A webhook that was just made: its secret is shown this once. */
export interface WebhookMade extends Webhook {
  secret: string;
}

/** A new secret, shown this once; deliveries are signed with the old one as well until `old_until`. */
export interface NewWebhookSecret {
  secret: string;
  old_until: string | null;
}

/** One attempt to deliver; `next_attempt` is null where it arrived or was given up. */
export interface WebhookAttempt {
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

/** Which notifications are delivered again: one of the three. */
export type WebhookReplay =
  | { since: string | Date }
  | { after: string }
  | { notifications: readonly string[] };

/** What will be delivered: `deliveries` by their ids, or all after the notification `after`. */
export interface WebhookDeliveries {
  deliveries: string[];
  after: string | null;
}
