"""`python -m tests.faults.workers.flow_worker`: handlers with limits by key, each of which writes down when it runs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from streammesh import Context, Service

from tests.faults.records import write_line

LIMIT = 2
service = Service("fault_flow", prefetch=4)


async def _work(kind: str, data: dict[str, Any], ctx: Context) -> None:
    write_line(f"began {kind} {data['key']} {data['number']} {ctx.task_id}")
    await asyncio.sleep(random.uniform(0, 0.01))
    write_line(f"ended {kind} {data['key']} {data['number']} {ctx.task_id}")
    if random.random() < 0.03:
        raise ValueError("no luck this time")


@service.on("fault.limited", retries=20, backoff=0.02, backoff_cap=0.2, key="data.key", concurrency=LIMIT)
async def limited(data: dict[str, Any], ctx: Context) -> None:
    """Not more than two of a key at once."""
    await _work("limited", data, ctx)


@service.on("fault.ordered", retries=20, backoff=0.02, backoff_cap=0.2, key="data.key", order=True)
async def ordered(data: dict[str, Any], ctx: Context) -> None:
    """One of a key after the other."""
    await _work("ordered", data, ctx)


if __name__ == "__main__":
    service.run()
