"""`python -m tests.faults.workers.async_worker`: async handlers on one loop."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from streammesh import Context, Reject, Service

from tests.faults.records import record

service = Service("fault_async")


class Numbered(BaseModel):
    """A payload that has to have a number."""

    n: int


@service.on("fault.noted", backoff=0.1)
async def note(data: dict[str, Any], ctx: Context) -> int:
    """The quickest."""
    record("began", "note", ctx)
    record("through", "note", ctx)
    return int(data["n"])


@service.on("fault.slow", backoff=0.1)
async def slow(data: dict[str, Any], ctx: Context) -> int:
    """Take as long as the event says."""
    record("began", "slow", ctx)
    await ctx.progress(0.5, "half way")
    await asyncio.sleep(float(data["seconds"]))
    record("through", "slow", ctx)
    return int(data["n"])


@service.on("fault.flaky", retries=8, backoff=0.05)
async def flaky(data: dict[str, Any], ctx: Context) -> int:
    """Fail at the first attempt."""
    record("began", "flaky", ctx)
    if ctx.attempt == 1:
        record("raised", "flaky", ctx)
        raise RuntimeError("the first attempt fails")
    record("through", "flaky", ctx)
    return int(data["n"])


@service.on("fault.followed", backoff=0.1)
async def follow(data: dict[str, Any], ctx: Context) -> int:
    """Publish what follows."""
    record("began", "follow", ctx)
    ctx.publish("fault.after", {"n": data["n"]}, partitionkey=f"after-{data['n']}")  # of several shards, any
    record("through", "follow", ctx)
    return int(data["n"])


@service.on("fault.ticked", backoff=0.1)
async def tick(data: dict[str, Any], ctx: Context) -> str:
    """Take a schedule's tick."""
    record("began", "tick", ctx)
    record("through", "tick", ctx)
    return str(data["due_at"])


@service.on("fault.rejected")
async def reject(ctx: Context) -> None:
    """Give up at once."""
    record("began", "reject", ctx)
    record("raised", "reject", ctx)
    raise Reject("it can never succeed")


@service.on("fault.typed")
async def typed(data: Numbered, ctx: Context) -> int:
    """Take a model."""
    record("began", "typed", ctx)
    record("through", "typed", ctx)
    return data.n


if __name__ == "__main__":
    service.run()
