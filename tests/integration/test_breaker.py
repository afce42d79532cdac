"""The breaker through real processes: paused after failures in a row, the rest goes on, resumed with nothing lost."""

from __future__ import annotations

import orjson
import pytest
from streammesh import lua
from streammesh.tasks.pause import HeldTasks, pause_call, read_paused
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs, switch

SERVICES = ["tests.probe"]
CONCURRENCY = "2"
ENVIRONMENT = {"MESH_BREAKER_FAILURES": "5"}
NAME = "probe.switched"


@pytest.fixture
def holding(ask):
    return HeldTasks(ask.redis, ask.mesh.keys, ask.mesh.settings)


async def states(ask, ids):
    found = []
    for event_id in ids:
        rows = await ask.rows.events(event_id)
        found += [task.state for task in await ask.rows.tasks(rows[0].task_ids)] if rows else []
    return found


async def settled(ask, ids, *allowed):
    async def all_there():
        found = await states(ask, ids)
        return found if len(found) == len(ids) and set(found) <= set(allowed) else None

    return await wait_until(f"{len(ids)} tasks are {' or '.join(allowed)}", all_there, seconds=30)


async def resume(ask):
    call = pause_call(ask.mesh.keys, ask.mesh.settings, NAME, NAME, None)
    return await lua.run(ask.redis, call)


async def test_after_failures_in_a_row_a_subscription_is_paused_and_the_rest_is_set_aside(ask, holding):
    ids = [await ask.publish("probe.switched", subject="dam") for _ in range(60)]
    found = await settled(ask, ids, "failed", "held")

    # What ran already when the fifth failure paused it may fail too.
    assert 5 <= found.count("failed") <= 5 + int(CONCURRENCY) + 1
    pause = (await read_paused(ask.redis, ask.mesh.keys))[NAME]
    assert (pause.failures, pause.reason) == (5, "dam is off")
    assert await holding.waiting() == {NAME: found.count("held")}
    [note] = [
        fields
        for _, fields in await ask.redis.xrange(ask.mesh.keys.notifications())
        if fields[b"t"] == b"subscription.paused"
    ]
    assert orjson.loads(b"{%b}" % note[b"b"])["data"] == {
        "subscription": NAME,
        "failures": 5,
        "reason": "dam is off",
    }


async def test_other_subscriptions_of_the_service_go_on(ask):
    assert (await ask.run("probe.noop")).state == "succeeded"


async def test_new_events_wait_without_passing_a_worker(ask, holding):
    before = runs(ask.mesh.record)
    event_id = await ask.publish("probe.switched", subject="dam")
    await settled(ask, [event_id], "held")

    assert runs(ask.mesh.record) == before
    assert (await ask.told(event_id))[-1] == "task.held"


async def test_what_was_set_aside_runs_after_it_is_resumed_each_once(ask, holding):
    [waiting] = (await holding.waiting()).values()
    switch(ask.mesh.record, "dam").touch()
    before = sum(count for line, count in runs(ask.mesh.record).items() if line.startswith("switched"))
    assert await resume(ask) is True
    assert await resume(ask) is False

    async def all_ran():
        lines = runs(ask.mesh.record)
        return sum(count for line, count in lines.items() if line.startswith("switched")) - before

    await wait_until("all that waited ran", lambda: _equals(all_ran, waiting), seconds=30)
    await wait_until("nothing waits", lambda: _equals(holding.waiting, {}))
    assert {count for line, count in runs(ask.mesh.record).items() if line.startswith("switched")} == {1}
    event_id = await ask.publish("probe.switched", subject="dam")
    assert [task.state for task in await ask.ended(event_id)] == ["succeeded"]


async def _equals(ask_for, value):
    return await ask_for() == value


async def test_a_success_in_between_begins_the_count_anew(ask):
    for n in range(8):
        await ask.run("probe.switched", subject="dam" if n % 4 == 3 else "closed")

    assert await read_paused(ask.redis, ask.mesh.keys) == {}
    assert await ask.redis.hget(ask.mesh.keys.failures(), NAME) is None


async def test_a_subscription_without_a_breaker_is_never_paused(ask):
    for _ in range(7):
        assert (await ask.run("probe.unbreakable")).state == "failed"

    assert await read_paused(ask.redis, ask.mesh.keys) == {}


async def test_events_that_are_refused_pause_nothing_however_many_come_in_a_row(ask):
    for event_type, data in [("probe.rejected", {}), ("probe.typed", {"n": "many"})]:
        ids = [await ask.publish(event_type, data) for _ in range(12)]
        assert set(await settled(ask, ids, "failed")) == {"failed"}

    assert await read_paused(ask.redis, ask.mesh.keys) == {}
    assert await ask.redis.hkeys(ask.mesh.keys.failures()) == []


async def test_refused_events_among_failures_do_not_end_the_row(ask):
    for _ in range(4):
        await ask.run("probe.failing_or_refusing", {"refuse": False})
        await ask.run("probe.failing_or_refusing", {"refuse": True})
    assert await read_paused(ask.redis, ask.mesh.keys) == {}
    await ask.run("probe.failing_or_refusing", {"refuse": False})

    assert list(await read_paused(ask.redis, ask.mesh.keys)) == ["probe.failing_or_refusing"]
