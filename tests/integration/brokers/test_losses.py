"""Over RabbitMQ and over Celery's lists: what is killed or lost there is run again, and counts once.

Runs with `make test-brokers`.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from streammesh.testing.conditions import wait_until

from tests.harness import brokers
from tests.probe.record import runs

pytestmark = pytest.mark.skipif(not brokers.chosen(), reason="runs with `make test-brokers`")
LEASE = 2  # seconds; `start_mesh` says so


async def end_once(stage, ids, seconds=40):
    """Wait for all of them; each succeeded, and was told so once."""
    for event_id in ids:
        [task] = await stage.ask.ended(event_id, seconds=seconds)
        assert task.state == "succeeded"
        told = await stage.ask.told(event_id)
        assert (told.count("task.succeeded"), told.count("event.completed")) == (1, 1)
    assert await stage.ask.redis.xlen(stage.mesh.keys.queue("probe")) == 0


async def test_a_killed_workers_task_starts_again_elsewhere_within_about_a_lease(stage):
    await stage.start("services.dispatcher")
    first = await stage.start("tests.probe")
    event_id = await stage.ask.publish("probe.slow", {"seconds": 5})

    async def runs_there():
        return runs(stage.mesh.record)[f"slow {event_id}"]

    await wait_until("it runs", runs_there)
    began = time.monotonic()
    await stage.start("tests.probe")
    # It is renewed: nobody takes it from a worker that lives.
    await asyncio.sleep(1.5 * LEASE - (time.monotonic() - began))
    assert runs(stage.mesh.record) == {f"slow {event_id}": 1}
    first.kill()
    killed = time.monotonic()
    await wait_until("it runs again", lambda: _is(stage, f"slow {event_id}", 2))
    assert time.monotonic() - killed < 2 * LEASE
    await end_once(stage, [event_id])
    assert runs(stage.mesh.record)[f"slow-done {event_id}"] == 1


async def _ran(stage, least):
    return len(runs(stage.mesh.record)) >= least


async def _is(stage, line, times):
    return runs(stage.mesh.record)[line] == times


async def test_what_the_broker_loses_is_sent_again_and_runs_once(stage):
    await stage.start("services.dispatcher")
    registered = await stage.start("tests.probe")
    registered.stop()
    ids = [await stage.ask.publish("probe.recorded", {"n": n}) for n in range(30)]
    await stage.at_the_broker("probe", 30)
    await delete_queue(stage)
    later = [await stage.ask.publish("probe.recorded", {"n": n}) for n in range(10)]
    await stage.start("tests.probe")

    await end_once(stage, [*ids, *later])
    counted = runs(stage.mesh.record)
    assert {counted[f"recorded {event_id}"] for event_id in [*ids, *later]} == {1}


async def delete_queue(stage):
    outlet = stage.outlet("probe")
    channel = await asyncio.to_thread(outlet._open)
    await asyncio.to_thread(channel.queue_delete, "probe")
    outlet.close()


async def test_a_broker_that_dies_and_forgets_everything_costs_time_and_nothing_else(stage):
    await stage.start("services.dispatcher")
    await stage.start("tests.probe")
    before = [await stage.ask.publish("probe.slow", {"seconds": 0.5}) for _ in range(8)]
    stage.broker.kill()
    during = [await stage.ask.publish("probe.recorded") for _ in range(8)]
    stage.broker.wipe()
    await asyncio.to_thread(stage.broker.start)

    await end_once(stage, [*before, *during])
    counted = runs(stage.mesh.record)
    assert {counted[f"slow-done {event_id}"] for event_id in before} == {1}
    assert {counted[f"recorded {event_id}"] for event_id in during} == {1}


async def test_a_dispatcher_killed_while_it_forwards_loses_nothing_and_nothing_counts_twice(stage):
    await stage.start("tests.probe")
    ids = []
    for _ in range(3):
        dispatcher = await stage.start("services.dispatcher")
        ids += [await stage.ask.publish("probe.recorded") for _ in range(100)]
        await wait_until("some of them have run", partial(_ran, stage, len(ids) - 90), every=0.001)
        dispatcher.kill()
    await stage.start("services.dispatcher")

    await end_once(stage, ids)
    counted = runs(stage.mesh.record)
    assert {counted[f"recorded {event_id}"] for event_id in ids} == {1}
