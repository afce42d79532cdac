"""The gate of `streammesh check --against`: what a manifest would break, and what it did not cause."""

from __future__ import annotations

from typing import Any

from streammesh.compatibility.gate import against
from streammesh.durable.step_names import step_names
from streammesh.subscriptions.manifest import Manifest, Subscription


def thing(required: list[str], **members: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in members.items()}
    return {"type": "object", "properties": properties, "required": required}


def service(
    name: str, reads: dict[str, Any] | None = None, publishes: dict[str, Any] | None = None
) -> Manifest:
    wanted = {kind: f"{name}.on_{n}" for n, kind in enumerate(reads or {})}
    subscriptions = tuple(Subscription(name, task, kind) for kind, task in wanted.items())
    schemas = {wanted[kind]: schema for kind, schema in (reads or {}).items() if schema}
    return Manifest(name, subscriptions=subscriptions, schemas=schemas, publishes=publishes or {})


FULL = thing(["id", "total"], id="integer", total="number")
READER = service("audit", {"order.*": thing(["total"], total="number")})


def test_a_member_that_a_reader_requires_may_not_go():
    before, mine = (
        service("shop", None, {"order.placed": FULL}),
        service("shop", None, {"order.placed": thing(["id"], id="integer")}),
    )

    assert against(mine, [before, READER]).breaks == [
        "order.placed, which audit.on_0 reads: /total is required by who reads, and is not published"
    ]
    assert against(before, [before, READER]).breaks == []


def test_what_is_wrong_already_is_no_break_of_this_one():
    wrong = service("shop", None, {"order.placed": thing(["id"], id="integer")})
    found = against(wrong, [wrong, READER])

    assert found.breaks == [] and len(found.warnings) == 1


def test_a_type_that_is_read_may_not_vanish_and_one_that_nobody_reads_may():
    before = service("shop", None, {"order.placed": FULL, "stock.low": FULL})

    assert against(service("shop"), [before, READER]).breaks == [
        "order.placed is not published any more, and audit.on_0 read it"
    ]


def test_a_reader_may_not_ask_for_what_its_publisher_does_not_promise():
    shop, mine = (
        service("shop", None, {"order.placed": FULL}),
        service("bill", {"order.placed": thing(["vat"], vat="number")}),
    )

    assert against(mine, [shop]).breaks == [
        "bill.on_0 reads order.placed of shop: /vat is required by who reads, and is not published"
    ]


def test_where_nobody_says_what_is_published_a_reader_may_not_ask_for_more_than_before():
    before, mine = (
        service("bill", {"a.b": thing([], n="number")}),
        service("bill", {"a.b": thing(["n"], n="integer")}),
    )

    assert against(mine, [before]).breaks == [
        "bill.on_0 asks for more of a.b than before: /n is required by who reads, and may be left out",
        "bill.on_0 asks for more of a.b than before: /n may be number, and integer is read",
    ]
    assert against(mine, []).breaks == []


def test_a_handler_that_is_gone_is_warned_of():
    before = service("bill", {"a.b": None})

    assert "bill.on_0 is not there any more" in against(service("bill"), [before]).warnings[0]


def durable(version: int, *steps: str) -> Manifest:
    wanted = Subscription("shop", "shop.fulfil", "order.placed", version=version)
    return Manifest("shop", subscriptions=(wanted,), steps={"shop.fulfil": steps})


def test_steps_that_have_changed_under_the_same_version_are_warned_of():
    [warning] = against(durable(2, "take", "ship"), [durable(2, "charge", "ship")]).warnings
    assert "'charge' gone; 'take' new" in warning and "version=3" in warning
    [reordered] = against(durable(1, "ship", "charge"), [durable(1, "charge", "ship")]).warnings
    assert "their order" in reordered
    for same in (durable(2, "charge", "ship"), durable(3, "take")):
        assert against(same, [durable(2, "charge", "ship")]).warnings == []


def test_the_steps_of_a_handler_are_read_from_its_source():
    async def fulfil(data: Any, ctx: Any) -> None:
        await ctx.step("charge", print)
        for n in range(3):
            await ctx.step(f"mail-{n}", print)
        await ctx.sleep("2d")
        await ctx.wait_for("order.paid", match={}, name="paid")
        await ctx.wait_for("order.shipped", match={})
        await ctx.approval("ship it?", to="ops")
        data.step("none of ours")

    assert step_names(fulfil, "ctx") == [
        "charge",
        "mail-*",
        "sleep",
        "wait_for paid",
        "wait_for order.shipped",
        "approval",
    ]
    assert step_names(print, "ctx") == step_names(fulfil, None) == []
