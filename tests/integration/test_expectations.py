"""`Service.expects`: a handler runs when an event did not come in time, and not at all when it came."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.probe.record import runs

SERVICES = ["tests.probe_durable"]
CONCURRENCY = "4"


async def published_ms(ask, event_id):
    [row] = await ask.rows.events(event_id)
    return int(row.entry.partition("-")[0])


async def test_a_handler_runs_when_the_expected_event_did_not_come(ask):
    [task] = await ask.ended(await ask.publish("durable.bought", {"order": "never"}))
    assert (task.state, task.result) == ("succeeded", {"missed": "never", "attempt": 2}), task.error


async def test_a_run_whose_event_came_says_so_and_calls_nobody(ask):
    bought = await ask.publish("durable.bought", {"order": "shipped"})
    shipped = await ask.publish("durable.shipped", {"for": "shipped"})
    [task] = await ask.ended(bought)
    assert task.result == {"came": {"id": shipped, "source": "tests", "type": "durable.shipped"}}
    assert not runs(ask.mesh.record)["absent shipped"]


async def test_a_value_of_any_size_tells_events_apart_and_is_told_in_short(ask):
    large = "x" * 200_000
    bought = await ask.publish("durable.bought", {"order": large})
    await ask.publish("durable.shipped", {"for": large})
    [task] = await ask.ended(bought)
    assert "came" in task.result
    assert len(task.durable[b"wait:expected:durable.shipped"]) < 500


async def test_what_came_before_does_not_count(ask):
    await ask.run("durable.shipped", {"for": "early"})
    task = await ask.run("durable.bought", {"order": "early"})
    assert task.result["missed"] == "early"


async def test_an_event_may_be_expected_after_another_of_its_type(ask):
    first = await ask.publish("durable.beat", {"device": "d1"})
    second = await ask.publish("durable.beat", {"device": "d1"})
    ended = {task.name: task.result for event in (first, second) for task in await ask.ended(event)}
    assert ended["probe_durable.silent"] == "d1 fell silent"
    results = [t.result for t in await ask.ended(first) if t.name == "probe_durable.silent"]
    assert results == [{"came": {"id": second, "source": "tests", "type": "durable.beat"}}]


async def test_an_event_without_the_value_is_refused_with_what_is_missing(ask):
    task = await ask.run("durable.bought", {"order": None})
    assert (task.state, task.attempt) == ("failed", 1)
    assert "at data.order stands no text, number or boolean" in task.error["reason"]


async def test_at_the_deadline_exactly_one_of_came_and_absent_and_it_is_that_of_the_times(ask):
    """The expected event is published about 400 ms after the run's own; its time in the stream decides."""

    async def pair(number):
        order = f"edge-{number}"
        bought = await ask.publish("durable.bought", {"order": order})
        await asyncio.sleep(0.380 + number % 9 * 0.005)
        shipped = await ask.publish("durable.shipped", {"for": order})
        [task] = await ask.ended(bought, 30)
        apart = await published_ms(ask, shipped) - await published_ms(ask, bought)
        return order, apart, task

    pairs = await asyncio.gather(*(pair(number) for number in range(60)))
    seen = runs(ask.mesh.record)
    for order, apart, task in pairs:
        assert task.state == "succeeded", task.error
        assert ("came" in task.result) == (apart <= 400), (apart, task.result)
        assert seen[f"absent {order}"] == ("missed" in task.result)


async def test_what_was_published_in_time_counts_though_the_workers_were_away(ask):
    """The run and what it waits for lie in the queue until long after the deadline."""
    pid = int(ask.mesh.record.read_text().splitlines()[-1].split(" ")[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        in_time = await ask.publish("durable.bought", {"order": "away"})
        late = await ask.publish("durable.bought", {"order": "late"})
        await ask.publish("durable.shipped", {"for": "away"})
        await asyncio.sleep(0.6)
        await ask.publish("durable.shipped", {"for": "late"})
    finally:
        os.kill(pid, signal.SIGCONT)
    [came], [absent] = await ask.ended(in_time), await ask.ended(late)
    assert "came" in came.result
    assert absent.result["missed"] == "late"
