"""`python -m tests.faults.workers.durable_worker`: runs of several steps, each of which writes down that it ran."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from streammesh import Context, Service

from tests.faults.records import write_line

STEPS = 4
service = Service("fault_durable")


async def _work(task_id: str, name: str, value: int) -> int:
    write_line(f"ran {task_id} {name}")
    await asyncio.sleep(random.uniform(0, 0.05))
    return value


async def _step(ctx: Context, name: str, value: int) -> int:
    result: int = await ctx.step(name, _work, ctx.task_id, name, value)
    write_line(f"kept {ctx.task_id} {name}")
    return result


@service.on("fault.placed", retries=8, backoff=0.05, waits={"fault.paid": "data.order"})
async def place(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Make steps, wait for the payment of this order, sleep, make steps."""
    total = 0
    for number in range(STEPS // 2):
        total += await _step(ctx, f"before-{number}", number + 1)
    paid = await ctx.wait_for("fault.paid", match={"data.order": data["order"]}, timeout=60)
    await ctx.sleep(0.2)
    for number in range(STEPS // 2):
        total += await _step(ctx, f"after-{number}", number + 1)
    return {"total": total, "paid": paid.data["cents"] if paid else None}


@service.on("fault.met", retries=8, backoff=0.05, waits={"fault.paid": "data.order"})
async def meet(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Wait for what comes about when the wait begins."""
    paid = await ctx.wait_for("fault.paid", match={"data.order": data["order"]}, timeout=60)
    return {"paid": paid.data["cents"] if paid else None}


@service.on("fault.expected", retries=8, backoff=0.05, waits={"fault.paid": "data.order"})
async def expect(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Wait for what comes about when the time is over."""
    paid = await ctx.wait_for("fault.paid", match={"data.order": data["order"]}, timeout=data["seconds"])
    write_line(f"{'came' if paid else 'absent'} {ctx.task_id} expected")
    return {"came": paid is not None}


@service.expects("fault.paid", after="fault.awaited", within=0.4, key="data.order", retries=8, backoff=0.05)
async def miss(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Called when it did not come."""
    write_line(f"absent {ctx.task_id} expected")
    return {"missed": data["order"]}


if __name__ == "__main__":
    service.run()
