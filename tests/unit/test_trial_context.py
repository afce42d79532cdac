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
