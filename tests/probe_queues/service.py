"""Handlers that leave a line in the order in which they run, in the service's own queue and in `urgent`."""

from __future__ import annotations

import time
from typing import Any

from celery import chain
from streammesh import Context, Service

from tests.probe.record import record

service = Service("probe_queues", pool="prefork", queues=("default", "urgent"))


@service.on("queues.usual")
def usual(data: dict[str, Any], ctx: Context) -> None:
    """Leave a line, and take a moment."""
    record(f"usual {data['n']}")
    time.sleep(float(data.get("seconds", 0)))


@service.on("queues.pressing", queue="urgent")
def pressing(data: dict[str, Any], ctx: Context) -> None:
    """Leave a line, from the other queue."""
    record(f"pressing {data['n']}")


@service.on("queues.parted")
def parted(data: dict[str, Any], ctx: Context) -> Any:
    """Become a workflow."""
    return chain(part.si(data["n"]), part.si(data["n"]))


@service.part
def part(n: int) -> str:
    """Leave a line."""
    record(f"part {n}")
    return "done"


@service.celery_app.task(shared=False)  # this module is brought into the process of the tests too
def plain(n: int) -> None:
    """Leave a line, as a plain Celery task."""
    record(f"plain {n}")
