"""Writes to customers."""

from __future__ import annotations

import asyncio
from typing import Any

from streammesh import Service

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


if __name__ == "__main__":
    service.run()
