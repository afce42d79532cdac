"""The worker of the tests of shards: `python -m tests.harness.sharded_worker`."""

from __future__ import annotations

import asyncio

from streammesh import Context, Service

service = Service("sharded")


@service.on("sharded.noop")
async def noop() -> None:
    """Do nothing."""


@service.on("sharded.slow")
async def slow() -> None:
    """Take long."""
    await asyncio.sleep(60)


@service.on("sharded.hop")
async def hop(data: dict[str, str], ctx: Context) -> None:
    """Publish an event that belongs to another shard."""
    ctx.publish("sharded.noop", {}, id=data["id"], partitionkey=data["key"])


if __name__ == "__main__":
    service.run()
