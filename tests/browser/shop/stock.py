"""Reserves what was ordered, and says so with an event of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from streammesh import Context, Reject, Service

service = Service("stock")


class Order(BaseModel):
    """What stock wants to know of an order."""

    order_id: int
    items: int = 1
    seconds: float = 0.0


@service.on("order.placed", retries=2, backoff=0.3)
async def reserve(order: Order, ctx: Context) -> dict[str, Any]:
    """Reserve an order's items; there are never more than 99."""
    if order.items > 99:
        raise Reject(f"{order.items} items are more than the warehouse ever has")
    if order.seconds:
        await ctx.progress(0.3, "looking through the shelves")
        await asyncio.sleep(order.seconds)
    ctx.publish("stock.reserved", {"order_id": order.order_id, "items": order.items})
    return {"reserved": order.items}


if __name__ == "__main__":
    service.run()
