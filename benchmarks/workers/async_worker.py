"""Async handlers: `python -m benchmarks.workers.async_worker`."""

from __future__ import annotations

import asyncio

from streammesh import Context, Service

STEPS = 10  # of one task
KEYS = 1_000  # of a handler with limits

service = Service("bench_async")


@service.on("bench.noop")
async def noop() -> None:
    """Do nothing."""


@service.on("bench.flow", key="data.key", concurrency=2)
async def limited() -> None:
    """Do nothing, for two of a key at a time."""


@service.on("wait.io")
async def io() -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(0.01)


async def charge(number: int) -> dict[str, int]:
    """A step that has a result, and takes no time."""
    return {"number": number}


@service.on("bench.steps")
async def steps(ctx: Context) -> int:
    """Make ten steps one after the other, each recorded before the next begins."""
    for number in range(STEPS):
        await ctx.step(f"charge-{number}", charge, number)
    return STEPS


if __name__ == "__main__":
    service.run()
