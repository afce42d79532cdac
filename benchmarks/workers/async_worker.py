"""Async handlers: `python -m benchmarks.workers.async_worker`."""

from __future__ import annotations

import asyncio

from streammesh import Service

service = Service("bench_async")


@service.on("bench.noop")
async def noop() -> None:
    """Do nothing."""


@service.on("wait.io")
async def io() -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(0.01)


if __name__ == "__main__":
    service.run()
