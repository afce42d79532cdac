"""Where order is kept, lanes hand over in the order of the stream, whoever has what in hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh.clock import SystemClock
from streammesh.events.group_reader import Entry, GroupReader
from streammesh.redisio.client import open_async
from streammesh.subscriptions.manifest import Manifest, Routes
from streammesh.tasks.handoff import HandedOver

from services.dispatcher.lane import Lane
from services.dispatcher.settings import DispatcherSettings
from tests.harness.flow_moves import run, states
from tests.harness.late_service import Late
from tests.harness.moves import SERVICE

A = {"tenant": "a"}


async def test_with_order_a_lane_waits_while_another_one_has_what_is_before(flowing):
    moves = await flowing(order=True)
    [first] = await moves.given(("e1", A), lane="one")
    [second] = await moves.given(("e2", A), lane="two")
    assert await moves.hand(second) == HandedOver(early=True, held=0)
    assert (await moves.redis.xpending(moves.keys.events("order"), SERVICE))["pending"] == 2
    assert not await moves.redis.exists(moves.keys.task(second.deliveries[0].delivery.task_id))

    for one in (first, second):
        done = await moves.hand(one)
        assert (done.tasks, done.early) == (1, False)
    assert await states(moves, await moves.moved(first), await moves.moved(second)) == ["queued", "pending"]


async def test_a_lane_that_took_over_two_hands_over_no_more_than_is_before_what_lies_between_them(flowing):
    moves = await flowing(order=True)
    [first] = await moves.given(("e1", A), lane="one")
    [between] = await moves.given(("e2", A), lane="two")
    [third] = await moves.given(("e3", A), lane="one")
    done = await moves.hand(first, third)
    assert (done.tasks, done.early) == (1, True)
    begun = await moves.moved(first)
    await run(moves, begun)
    await moves.succeed(begun, 1)  # or the third one stood alone in its line, and began

    assert (await moves.hand(between)).tasks == 1
    done = await moves.hand(first, third)
    assert (done.tasks, done.skipped, done.early) == (1, 1, False)
    assert await states(moves, await moves.moved(between), await moves.moved(third)) == ["queued", "pending"]


async def test_without_order_no_lane_waits_for_another(flowing):
    moves = await flowing(concurrency=1)
    await moves.given(("e1", A), lane="one")
    [second] = await moves.given(("e2", A), lane="two")
    assert (await moves.hand(second)).tasks == 1


@pytest.fixture
async def lane_of(mesh_redis, mesh_keys, mesh_settings):
    """A lane of the service of such moves; nothing is taken over from others for a long time."""
    blocking = open_async(mesh_settings, "lane", blocking=True)

    def made(moves):
        own = DispatcherSettings(_env_file=None, block="200ms", batch=50, reclaim_idle="1h")
        routes = Routes([Manifest(SERVICE, subscriptions=(moves.wants,))], "*")
        reader = GroupReader(mesh_redis, blocking, mesh_keys, SERVICE, "lane")
        encode = Late(mesh_redis, mesh_keys, mesh_settings).encode
        return Lane(
            SERVICE, ["order"], reader, mesh_redis, mesh_keys, mesh_settings, own,
            lambda: routes, None, encode, SystemClock(),
        )  # fmt: skip

    yield made
    await blocking.aclose()


async def test_a_lane_that_waited_for_another_and_then_for_memory_hands_all_over(
    flowing, lane_of, monkeypatch
):
    lane = lane_of(await flowing(order=True))
    monkeypatch.setattr("services.dispatcher.lane.MEMORY_WAIT", timedelta(0))
    answers = [
        HandedOver(tasks=1, early=True, queued=7),
        HandedOver(full=True),
        HandedOver(full=True),
        HandedOver(2),
    ]

    async def asked(*_):
        return answers.pop(0)

    monkeypatch.setattr("services.dispatcher.lane.lua.run", asked)
    assert await lane._hand_off("order", [], "*") == HandedOver(tasks=3, queued=7)
    assert answers == []


async def test_with_order_what_follows_a_refused_event_goes_on_once_that_is_parked(
    flowing, lane_of, monkeypatch
):
    moves = await flowing(order=True)
    lane = lane_of(moves)
    whole = lane._call

    def refusing(domain, handovers, version):
        call = whole(domain, handovers, version)
        if any(one.event.id == "bad" for one in handovers):
            return call._replace(args=[*call.args[:5], "no number", *call.args[6:]])
        return call

    monkeypatch.setattr(lane, "_call", refusing)
    given = await moves.given(*((name, A) for name in ("before", "bad", "after")), lane="lane")
    await lane.hand_over([Entry("order", one.entry, one.event.to_json()) for one in given])
    assert not (await moves.redis.xpending(moves.keys.events("order"), SERVICE))["pending"]
    before, _, after = [await moves.rows.task(one.deliveries[0].delivery.task_id) for one in given]
    assert (before.state, after.state) == ("queued", "pending")
    assert await moves.redis.hlen(moves.keys.dead(SERVICE)) == 1
