"""Sync handlers in worker processes, and deliveries that end with their workflow."""

from __future__ import annotations

import pytest
from streammesh.tasks.pause import read_failures
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe_sync"]
CONCURRENCY = "2"


async def test_a_sync_handler_runs_in_a_worker_process(ask):
    task = await ask.run("sync.recorded", {})

    assert task.state == "succeeded"
    assert task.result["attempt"] == 1


async def test_a_delivery_ends_with_its_workflow_and_carries_its_result(ask):
    event_id = await ask.publish("sync.workflow", {"numbers": [1, 2, 3]})
    [task] = await ask.ended(event_id)

    assert (task.state, task.result) == ("succeeded", {"total": 14})
    told = await ask.told(event_id)
    assert told[-2:] == ["task.succeeded", "event.completed"]
    assert "task.progress" in told


async def test_events_of_the_handler_and_of_parts_leave_with_the_end(ask):
    await ask.run("sync.workflow", {"numbers": [4]})

    types = {
        fields[b"e"].split(b'"type":"')[1].split(b'"')[0]
        for _, fields in await ask.redis.xrange(ask.mesh.keys.events("sync"))
    }
    assert {b"sync.seen", b"sync.totalled"} <= types


async def test_a_group_ends_with_the_list_of_its_results(ask):
    task = await ask.run("sync.grouped", {"numbers": [1, 2, 3]})

    assert (task.state, task.result) == ("succeeded", [1, 4, 9])


async def test_a_part_that_gives_up_fails_the_delivery_with_its_reason(ask):
    task = await ask.run("sync.workflow", {"numbers": [1, -2, 3]})

    assert task.state == "failed"
    assert "-2 is negative" in task.error["reason"]


@pytest.mark.parametrize("how", ["kill", "exit", "other"])
async def test_a_part_that_never_comes_to_its_end_fails_the_delivery(ask, how):
    task = await ask.run("sync.deadly_workflow", {"how": how})

    assert task.state == "failed"
    assert task.error["reason"].startswith("probe_sync.deadly_part: ")
    assert (await ask.letters.get(task.id)).kind == ("BaseException" if how == "other" else "Poison")

    async def gone():
        return await ask.redis.xlen(ask.mesh.keys.queue("probe_sync")) == 0

    await wait_until("the part is gone", gone)


async def test_a_handler_that_kills_its_process_is_tried_again_and_then_given_up(ask):
    event_id = await ask.publish("sync.killer")
    [task] = await ask.ended(event_id)

    assert task.state == "failed"
    assert "died" in task.error["reason"]
    assert runs(ask.mesh.record)[f"killer {event_id}"] == 2
    assert (await ask.run("sync.noop")).state == "succeeded"


@pytest.mark.parametrize("what", ["exit", "interrupt", "other", "iteration", "memory"])
async def test_a_handler_that_raises_no_ordinary_error_has_failed_and_the_worker_goes_on(ask, what):
    task = await ask.run("sync.quitting", {"what": what})

    assert (task.state, task.attempt) == ("failed", 2)
    assert (await ask.run("sync.noop")).state == "succeeded"
    assert await ask.letters.get(task.id)


async def test_a_handler_that_ignores_its_limit_is_stopped(ask):
    task = await ask.run("sync.stuck")

    assert task.state == "failed"
    assert "stopped" in task.error["reason"]
    assert (await ask.run("sync.noop")).state == "succeeded"


async def test_a_workflow_that_cannot_be_written_down_fails_the_delivery(ask):
    task = await ask.run("sync.bad_workflow")

    assert task.state == "failed"
    assert "JSON" in task.error["reason"]


@pytest.mark.parametrize("chord", [False, True])
async def test_a_part_that_refuses_the_event_does_not_count_towards_the_pause(ask, chord):
    failures = []
    for refuse in (False, True, True, False):
        task = await ask.run("sync.refused_part", {"refuse": refuse, "chord": chord})
        assert task.state == "failed"
        counted = await read_failures(ask.redis, ask.mesh.keys)
        failures.append(counted["probe_sync.refused_in_part"])

    assert [n - failures[0] for n in failures] == [0, 0, 0, 1], task.error
