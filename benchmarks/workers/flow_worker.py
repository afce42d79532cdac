"""Handlers with limits, and one that sleeps: `python -m benchmarks.workers.flow_worker`."""

from __future__ import annotations

import asyncio

from streammesh import Context, Service

SECONDS = 0.2  # that a task of the fair handler takes
PLACES = 20  # of all keys together
RATE = 50  # starts a second, of all keys together

service = Service("bench_flow")


@service.on("share.work", key="data.key", fair=True, total=PLACES)
async def share() -> None:
    """Take a while, for a key in its turn."""
    await asyncio.sleep(SECONDS)


@service.on("slow.work", throttle=f"{RATE}/s")
async def slow() -> None:
    """Do nothing, so many times a second."""


@service.on("line.work", key="data.key", concurrency=1)
async def line() -> None:
    """Do nothing, for one of a key at a time."""


def charge(cents: int) -> str:
    """A step with a small result."""
    return str(cents)


@service.on("sleepy.work")
async def sleepy(ctx: Context) -> None:
    """Make a step and sleep for a month."""
    await ctx.step("charge", charge, 250)
    await ctx.sleep("30d")


@service.on("short.work")
async def short() -> None:
    """Do nothing."""


if __name__ == "__main__":
    service.run()
