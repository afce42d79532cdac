// What can be done to a webhook.
import { ask, post } from "../api";
import type { Webhook, WebhookMade } from "../types";

export interface Wanted {
  url: string;
  description: string;
  types: string[];
  event: string | null;
  task: string | null;
  service: string | null;
  subject: string | null;
  where: string | null;
  ordered: boolean;
}

const at = (id: string, what = "") => `v1/webhooks/${encodeURIComponent(id)}${what}`;

export const made = (wanted: Wanted) => post<WebhookMade>("v1/webhooks", wanted);
export const changed = (id: string, wanted: Wanted) => ask<Webhook>("PATCH", at(id), { body: wanted });
export const enabled = (id: string, on: boolean) => ask<Webhook>("PATCH", at(id), { body: { enabled: on } });
export const deleted = (id: string) => ask<Webhook>("DELETE", at(id));
export const tested = (id: string) => post<{ deliveries: string[] }>(at(id, "/test"));
export const replayedSince = (id: string, since: Date) => post<{ after: string }>(at(id, "/replay"), { since: since.toISOString() });
export const replayed = (id: string, notification: string) => post<{ deliveries: string[] }>(at(id, "/replay"), { notifications: [notification] });
export const rotated = (id: string, overlap: string) => post<{ secret: string; old_until: string | null }>(at(id, "/secret"), { overlap });
