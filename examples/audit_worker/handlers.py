"""What the audit worker subscribes to, and the entry that each event becomes."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from pydantic import BaseModel
from streammesh import Context, Event, Reject, Service
from streammesh.settings import load_settings

from .journal import Journal
from .settings import AuditSettings

service = Service("audit_worker")  # owns the queue `audit_worker` and its Celery app
celery_app = service.celery_app


class OrderPlaced(BaseModel):
    """This team's own view of the payload: only what it needs, so that others may add to it."""

    order_id: int
    total: float


@cache
def journal() -> Journal:
    """The process's audit log. Raises SystemExit(2) for a wrong setting."""
    return Journal(load_settings(AuditSettings).file)


@service.on("order.placed", where={"data.currency": "EUR"}, retries=5, timeout=30)
async def record_order(order: OrderPlaced, ctx: Context) -> dict[str, Any]:
    """Record an order, and say so with an event of our own."""
    if order.total < 0:
        raise Reject("negative total")  # never right, however often it is tried: a dead letter, now
    await record(ctx, {"order_id": order.order_id, "total": order.total})
    ctx.publish("order.recorded", {"order_id": order.order_id})  # leaves together with the result
    return {"order_id": order.order_id}


@service.on("user.*")
async def record_user(event: Event, ctx: Context) -> dict[str, Any]:
    """Record that something happened to a user. What it was is not copied: it may be personal."""
    await record(ctx, {})
    return {"subject": event.subject}


async def record(ctx: Context, facts: dict[str, Any]) -> None:
    """Append one entry, once. Any OSError (the disk is full) is the retry policy's business."""
    event = ctx.event
    entry = {
        "id": ctx.task_id,  # the same at every attempt
        "event": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        **facts,
    }
    # A first attempt cannot have written anything. An earlier one may have, and died before it could say so.
    await asyncio.to_thread(journal().append, entry, look_first=ctx.attempt > 1)
