"""Writes to customers."""

from __future__ import annotations

import asyncio
from typing import Any

from streammesh import Context, Service

service = Service("letters")


@service.on("invoice.*")
async def write(data: dict[str, Any]) -> dict[str, Any]:
    """Write about an invoice."""
    await asyncio.sleep(0.01)
    return {"written": True, "order_id": data["order_id"]}


@service.on("order.placed", where={"data.gift": True})
async def wish(data: dict[str, Any]) -> dict[str, Any]:
    """Write to whom the present is for."""
    return {"wished": data["order_id"]}


@service.on("catalogue.wanted", key="data.town", concurrency=1, total=8, fair=True)
async def print_catalogue(data: dict[str, Any], ctx: Context) -> None:
    """Print a catalogue, one of a town at a time; who waits may read what is on the page."""
    stream = ctx.stream("page")
    await stream.send(f"Catalogue for {data['town']}\n")
    await asyncio.sleep(data.get("seconds", 0))
    await stream.send("The end")


if __name__ == "__main__":
    service.run()
