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


@service.on("sharded.order", waits={"sharded.paid": "data.order"})
async def fulfil(data: dict[str, str], ctx: Context) -> str | None:
    """Wait for the payment."""
    paid = await ctx.wait_for("sharded.paid", match={"data.order": data["order"]}, timeout="90s")
    return None if paid is None else str(paid.id)


@service.expects("sharded.shipped", after="sharded.bought", within="700ms", key="data.order")
async def absent(data: dict[str, str]) -> str:
    """Say that it did not come."""
    return "absent"


@service.on("sharded.parcel", cancel_on={"sharded.gone": "data.order"})
async def send(data: dict[str, str], ctx: Context) -> None:
    """Wait for what never comes, until it is cancelled."""
    await ctx.wait_for_signal("never", timeout="60s")


if __name__ == "__main__":
    service.run()
