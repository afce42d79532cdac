"""Of which type Redis says each key is, and where what has another one is set aside."""

from __future__ import annotations

# What Redis calls the type of each key, by the word after the prefix. Whatever else lies there was put there by hand.
TYPES = {
    "events": "stream",
    "held": "stream",
    "queue": "stream",
    "tasks-recent": "stream",
    "notifications": "stream",
    "audit": "stream",
    "webhook-attempts": "stream",
    "chunks": "stream",
    "outbox": "stream",
    "event": "hash",
    "due-entries": "hash",
    "manifests": "hash",
    "joined": "hash",
    "routed": "hash",
    "retiring": "hash",
    "backfill": "hash",
    "backfills-running": "hash",
    "webhooks": "hash",
    "url-workers": "hash",
    "webhooks-disabled": "hash",
    "webhook": "hash",
    "webhook-entries": "hash",
    "last-seen": "hash",
    "failures": "hash",
    "paused": "hash",
    "task": "hash",
    "dead": "hash",
    "dead-entries": "hash",
    "counters": "hash",
    "schedules": "hash",
    "format": "hash",
    "api-keys": "hash",
    "api-keys-used": "hash",
    "refusals": "hash",
    "due": "zset",
    "alive": "zset",
    "editions": "zset",
    "webhooks-due": "zset",
    "webhooks-failing": "zset",
    "webhook-queue": "zset",
    "binding-deadlines": "zset",
    "dead-index": "zset",
    "open": "zset",
    "schedules-due": "zset",
    "api-keys-revoked": "zset",
    "arrived": "zset",
    "cancellable": "zset",
    "canceller": "hash",
    "cancelling": "zset",
    "waiters": "zset",
    "waking": "zset",
    "backfills": "zset",
    "flow": "hash",
    "flow-line": "zset",
    "flow-places": "zset",
    "flow-ready": "zset",
    "flow-slow": "zset",
    "flow-rate": "zset",
    "flow-until": "zset",
    "flow-runs": "zset",
    "flows": "set",
    "folding": "set",
    "domains": "set",
    "holding": "set",
    "identity": "set",
    "binding": "set",
    "binding-permanent": "set",
    "dead-services": "set",
    "webhooks-behind": "set",
    "manifests-version": "string",
    "manifest": "string",
    "alerted": "string",
    "alert-told": "string",
    "cursor-secret": "string",
    "webhooks-version": "string",
    "webhooks-place": "string",
    "memory": "string",
}


def type_of(key: str) -> str | None:
    """The type that a key of any mesh should have, as Redis calls it; None for what is no key of a mesh."""
    _, found, rest = key.partition("}:")
    return TYPES.get(rest.partition(":")[0]) if found else None


def set_aside(key: str) -> str:
    """ANY. What lay under a key and had another type than it should. Expires a week after it was met."""
    prefix, found, rest = key.partition("}:")
    return f"{prefix}{found}set-aside:{rest}"
