"""Cancelling through real processes: queued, waiting, running async and sync, workflows, a dead worker's task."""

from __future__ import annotations

import asyncio
import time

import pytest
from streammesh import lua
from streammesh.tasks.settlement import cancel_call
from streammesh.testing.conditions import wait_until
from streammesh.worker.app import make_app

from tests.probe.record import runs

SERVICES = ["tests.probe", "tests.probe_sync"]
CONCURRENCY = "2"


@pytest.fixture
def cancel(ask):
    async def cancel(task_id):
        row = await ask.rows.task(task_id)
        return (await lua.run(ask.redis, cancel_call(ask.mesh.keys, ask.mesh.settings, row))).answer

    return cancel


async def task_of(ask, event_id, *states):
    async def there():
        found = await ask.rows.events(event_id)
        tasks = await ask.rows.tasks(found[0].task_ids) if found else []
        return tasks[0] if tasks and tasks[0].state in states else None

    return await wait_until(f"the task of {event_id} is {' or '.join(states)}", there)


async def test_a_running_async_handler_is_stopped_and_its_slot_is_free(ask, cancel):
    event_id = await ask.publish("probe.slow", {"seconds": 60})
    task = await task_of(ask, event_id, "started")
    began = time.monotonic()
    assert await cancel(task.id) == "asked"
    [ended] = await ask.ended(event_id)

    assert (ended.state, ended.error) == ("cancelled", {"reason": "it was cancelled", "kind": "Cancelled"})
    assert time.monotonic() - began < 2
    told = await ask.told(event_id)
    assert told[-2:] == ["task.cancelled", "event.completed"]
    assert f"slow-done {event_id}" not in runs(ask.mesh.record)
    assert await cancel(task.id) == "ended"
    assert await ask.letters.get(task.id) is None
    assert (await ask.run("probe.noop")).state == "succeeded"


async def test_a_running_sync_handler_is_stopped_with_its_process(ask, cancel):
    event_id = await ask.publish("sync.hogging", {"seconds": 60})
    task = await task_of(ask, event_id, "started")
    began = time.monotonic()
    assert await cancel(task.id) == "asked"
    [ended] = await ask.ended(event_id)

    assert ended.state == "cancelled"
    assert time.monotonic() - began < 5
    assert (await ask.told(event_id))[-2:] == ["task.cancelled", "event.completed"]

    async def two_run_again():
        both = await asyncio.gather(*(ask.run("sync.recorded", {"seconds": 0.3}) for _ in range(2)))
        return len({task.result["pid"] for task in both}) == 2

    await wait_until("the pool has a process in place of the one that was stopped", two_run_again)
    assert runs(ask.mesh.record)[f"hogging {event_id}"] == 1


async def test_a_handler_that_fails_as_it_is_stopped_is_not_tried_again(ask, cancel):
    event_id = await ask.publish("probe.stubborn")
    task = await task_of(ask, event_id, "started")
    await cancel(task.id)
    [ended] = await ask.ended(event_id)

    assert (ended.state, ended.attempt) == ("cancelled", 1)
    assert "task.retrying" not in await ask.told(event_id)


async def test_a_task_that_waits_for_its_next_attempt_never_starts_again(ask, cancel):
    event_id = await ask.publish("probe.patient")
    task = await task_of(ask, event_id, "retrying")
    assert await cancel(task.id) == "done"
    [ended] = await ask.ended(event_id)

    assert (ended.state, ended.attempt) == ("cancelled", 1)
    assert await ask.redis.zscore(ask.mesh.keys.due(), f"task:{task.id}") is None
    assert await ask.redis.hexists(ask.mesh.keys.due_entries(), f"task:{task.id}") is False


async def test_a_queued_task_never_starts(ask, cancel):
    busy = [await ask.publish("sync.recorded", {"seconds": 2}) for _ in range(6)]
    event_id = await ask.publish("sync.recorded")
    task = await task_of(ask, event_id, "queued")
    assert await cancel(task.id) == "done"
    for other in busy:
        await ask.ended(other)

    assert (await ask.rows.task(task.id)).state == "cancelled"
    assert runs(ask.mesh.record)[f"sync {event_id}"] == 0


async def test_of_a_workflow_the_part_that_runs_is_stopped_and_later_ones_do_not_run(ask, cancel):
    event_id = await ask.publish("sync.long_workflow", {"name": "five"})

    async def first_runs():
        return runs(ask.mesh.record)["long five 1"]

    await wait_until("the first part runs", first_runs)
    task = await task_of(ask, event_id, "started")
    assert await cancel(task.id) == "done"
    [ended] = await ask.ended(event_id)
    assert ended.state == "cancelled"

    # Both processes are free again long before the part would have ended.
    began = time.monotonic()
    await asyncio.gather(*(ask.run("sync.recorded", {"seconds": 0.1}) for _ in range(4)))
    assert time.monotonic() - began < 10
    assert runs(ask.mesh.record)["long five 2"] == 0
    assert (await ask.rows.task(task.id)).state == "cancelled"
    assert (await ask.told(event_id)).count("task.cancelled") == 1


@pytest.mark.parametrize(
    ("event_type", "data"), [("probe.slow", {"seconds": 60}), ("sync.hogging", {"seconds": 60})]
)
async def test_a_running_task_revoked_through_celery_ends_as_cancelled_too(ask, event_type, data):
    event_id = await ask.publish(event_type, data)
    task = await task_of(ask, event_id, "started")
    app = make_app("tests", ask.mesh.settings)
    await asyncio.to_thread(app.control.revoke, task.id, terminate=True)
    [ended] = await ask.ended(event_id)
    app.close()

    assert ended.state == "cancelled"
    assert await ask.redis.xlen(ask.mesh.keys.queue(task.service)) == 0
