"""Entries that must not come to Celery (again): broken ones and those that were tried too often."""

from __future__ import annotations

import time
from typing import Any

import redis
import structlog

from streammesh import lua
from streammesh.engine.queue_calls import QueueCalls, Read

log = structlog.get_logger(__name__)


def dead_letter(queue: str, read: Read, kind: str, reason: str) -> dict[str, Any]:
    """What is parked: why, and how often it was tried. `queue_park.lua` keeps the entry's fields beside it."""
    return {
        "form": "entry",
        "id": f"parked-{queue}-{read.entry}",
        "service": queue,
        "queue": queue,
        "reason": reason,
        "kind": kind,
        "detail": f"entry {read.entry} of {read.stream}",
        "attempts": read.deliveries,
        "at": round(time.time() * 1000),
    }


def park(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, kind: str, reason: str) -> None:
    """Move one entry to the dead letters of the service whose queue it is, in one step.

    This is the one place where entries are parked by the transport; who tells clients of it does it here.
    """
    if lua.run_sync(client, calls.park(queue, read, dead_letter(queue, read, kind, reason))):
        log.error("queue.parked", queue=queue, entry=read.entry, kind=kind, reason=reason)


def put_back(client: redis.Redis, calls: QueueCalls, queue: str, stream: str, entry: str) -> None:
    """Queue a held entry again, at the end; park it when it was delivered too often."""
    poison = lua.run_sync(client, calls.requeue(stream, entry))
    if poison is not None:
        read = Read(stream, entry, poison.deliveries, poison.fields)
        park(client, calls, queue, read, "Poison", poison_reason(poison.deliveries))


def poison_reason(deliveries: int) -> str:
    """Why an entry that nobody ever finishes is parked."""
    return f"it was delivered {deliveries} times and never ended"
