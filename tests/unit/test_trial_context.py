"""The Context that tests of handlers are given behaves as the mesh's own."""

from __future__ import annotations

import pytest
from streammesh import Context, InvalidEvent
from streammesh.testing import TrialContext


async def test_it_is_a_context_with_the_event_that_the_test_made_up():
    ctx = TrialContext("order.placed", {"n": 1}, subject="order/1", attempt=2, task_id="t1", priority=9)

    assert isinstance(ctx, Context)
    assert (ctx.event.type, ctx.event.data, ctx.event.subject) == ("order.placed", {"n": 1}, "order/1")
    assert (ctx.attempt, ctx.task_id, ctx.event.priority) == (2, "t1", 9)


async def test_progress_is_remembered_awaited_or_not():
    ctx = TrialContext()
    await ctx.progress(0.25, "begun")
    ctx.progress(1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        ctx.progress(2)
    assert ctx.progressed == [(0.25, "begun"), (1, "")]


def test_what_is_published_carries_its_cause_and_is_checked_at_once():
    ctx = TrialContext("order.placed", service="audit_worker", subject="order/1")
    ctx.publish("order.recorded", {"n": 1}, priority=3)
    with pytest.raises(InvalidEvent):
        ctx.publish("no\ntype", {})

    [event] = ctx.follow_ups
    assert (event.type, event.source, event.subject) == ("order.recorded", "audit_worker", "order/1")
    assert event.extensions == {
        "causationid": ctx.event.id,
        "correlationid": ctx.event.id,
        "priority": 3,
    }


def test_a_repeated_attempt_publishes_under_the_same_id():
    first, again = (TrialContext(task_id="t1", attempt=number) for number in (1, 2))
    assert first.publish("a.b", {}).id == again.publish("a.b", {}).id


async def test_steps_and_waits_of_a_durable_handler_are_played() -> None:
    ctx = TrialContext("order.placed")
    ctx.steps["charge"], ctx.answers["order.paid"] = "from-the-record", "paid"

    async def pack() -> str:
        return "packed"

    assert await ctx.step("charge", lambda: "made again") == "from-the-record"
    assert await ctx.step("pack", pack) == "packed"
    assert await ctx.wait_for("order.paid", match={"data.order_id": 1}) == "paid"
    assert [await ctx.sleep("2d"), await ctx.approval("ship?")] == [None, None]
    assert ctx.steps == {"charge": "from-the-record", "pack": "packed"}


def test_they_are_played_in_a_plain_handler_too() -> None:
    ctx = TrialContext("order.placed")
    assert (ctx.step("pack", lambda: 3), ctx.sleep(1)) == (3, None)
