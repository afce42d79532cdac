"""Charges what was reserved. The bank is away now and then."""

from __future__ import annotations

from typing import Any

from streammesh import Context, Service

service = Service("billing")


class BankAway(Exception):
    """The bank does not answer."""


@service.on("stock.reserved", retries=3, backoff=0.4)
async def charge(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Charge an order; each seventh needs a second attempt."""
    if data["order_id"] % 7 == 0 and ctx.attempt == 1:
        raise BankAway("bank.example.com did not answer within 5 s")
    ctx.publish("invoice.issued", {"order_id": data["order_id"]})
    return {"charged": True, "attempt": ctx.attempt}


@service.on("order.placed", where={"data.express": True}, retries=0)
async def surcharge(data: dict[str, Any]) -> dict[str, Any]:
    """Charge for an express delivery; a card that ends in 13 is refused."""
    if str(data.get("card", "")).endswith("13"):
        raise BankAway("the card was refused: <b>insufficient funds</b>")
    return {"surcharge": 5}


@service.on("loan.asked", retries=0)
async def lend(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Lend, once somebody says that it may be."""
    await ctx.step("look-up", _look_up, data["order_id"])
    return {"lent": await ctx.approval("Lend 500 to this customer?", to="the bank", timeout="1h")}


def _look_up(order_id: int) -> str:
    return f"customer of {order_id}"


if __name__ == "__main__":
    service.run()
