"""`pool="threads"`: `def` handlers in threads of one process, with all that the other pools promise."""

from __future__ import annotations

import time

import pytest
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES = ["tests.probe_sync"]
CONCURRENCY = "3"
ENVIRONMENT = {"PROBE_POOL": "threads", "PROBE_PREFETCH": "4"}


async def test_as_many_handlers_run_at_once_as_there_are_places_whatever_was_read_ahead(ask):
    ids = [await ask.publish("sync.side_by_side", {"seconds": 0.2}) for _ in range(9)]
    tasks = [task for event_id in ids for task in await ask.ended(event_id)]

    assert {task.state for task in tasks} == {"succeeded"}
    assert max(task.result["most"] for task in tasks) == 3
    assert {task.result["thread"].partition(" ")[0] for task in tasks} == {"handler"}


async def test_its_progress_and_its_result_are_told(ask):
    event_id = await ask.publish("sync.recorded", {})
    [task] = await ask.ended(event_id)

    assert (task.state, task.result["attempt"]) == ("succeeded", 1)
    assert await ask.told(event_id) == [
        *("task.queued", "task.started", "task.progress", "task.succeeded", "event.completed"),
    ]


async def test_a_failed_attempt_is_tried_again(ask):
    task = await ask.run("sync.flaky", {"succeeds_at": 3})
    assert (task.state, task.result) == ("succeeded", 3)


async def test_one_that_is_over_its_timeout_is_told_so_in_its_thread(ask):
    event_id = await ask.publish("sync.overrunning")
    [task] = await ask.ended(event_id)
    assert (task.state, task.error["kind"]) == ("failed", "TookTooLong")
    assert runs(ask.mesh.record)[f"overrun {event_id}"]


async def test_it_may_tidy_up_and_still_succeed(ask):
    task = await ask.run("sync.overrunning", {"tidy": True})
    assert (task.state, task.result) == ("succeeded", "tidied up")


async def test_the_hard_limit_ends_the_attempt_of_one_that_swallows_the_soft_one(ask):
    began = time.monotonic()
    task = await ask.run("sync.stuck")
    assert (task.state, task.error["kind"]) == ("failed", "HardLimit")
    assert 4 < time.monotonic() - began < 9
    assert (await ask.run("sync.noop")).state == "succeeded"  # the others have their places


@pytest.mark.parametrize("way", ["exit", "generator", "interrupt", "stop"])
async def test_every_way_out_of_a_handler_ends_its_attempt_and_nobody_elses(ask, way):
    beside = await ask.publish("sync.side_by_side", {"seconds": 0.3})
    task = await ask.run("sync.exit", {"way": way})

    assert (task.state, task.attempt) == ("failed", 2)
    [other] = await ask.ended(beside)
    assert (other.state, other.attempt) == ("succeeded", 1)


async def test_a_workflow_runs_in_threads(ask):
    task = await ask.run("sync.workflow", {"numbers": [1, 2, 3]})
    assert task.state == "succeeded"


async def test_what_a_stopping_worker_has_not_begun_is_for_others_at_once(ask):
    """Both workers read ahead; one is told to stop while it runs one handler and has more in line."""
    env = {**ask.mesh.env, "MESH_CONCURRENCY": "1", "PROBE_PREFETCH": "20"}
    with MeshProcess("stopping", "tests.probe_sync", env, ask.mesh.folder) as stopping:
        await ask.shows_life("probe_sync", stopping.pid)
        ids = [await ask.publish("sync.slow", {"seconds": 1}) for _ in range(20)]

        async def begun_there():
            events = [event for event_id in ids for event in await ask.rows.events(event_id)]
            tasks = await ask.rows.tasks([task_id for event in events for task_id in event.task_ids])
            return [task for task in tasks if f"-{stopping.pid}@" in (task.worker or "")]

        await wait_until("it has begun one", begun_there)
        began = time.monotonic()
        assert stopping.stop() == 0
        assert time.monotonic() - began < 4  # it had but the one to end
        tasks = [task for event_id in ids for task in await ask.ended(event_id)]
    assert {(task.state, task.attempt) for task in tasks} == {("succeeded", 1)}
    assert "queue.given_back" in stopping.log.read_text()
