"""The worker of the tests of shards: `python -m tests.harness.sharded_worker`."""

from __future__ import annotations

import asyncio

from streammesh import Service

service = Service("sharded")


@service.on("sharded.noop")
async def noop() -> None:
    """Do nothing."""


@service.on("sharded.slow")
async def slow() -> None:
    """Take long."""
    await asyncio.sleep(60)


if __name__ == "__main__":
    service.run()
