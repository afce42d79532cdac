"""A queue that somebody deletes: its tasks run all the same."""

from __future__ import annotations

from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe_sync"]
CONCURRENCY = "2"
ENVIRONMENT = {"DISPATCHER_JANITOR_EVERY": "200ms", "DISPATCHER_JANITOR_AFTER": "3s"}


async def test_tasks_of_a_queue_that_was_deleted_run_once_each(ask):
    busy = [await ask.publish("sync.recorded", {"seconds": 1}) for _ in range(2)]
    ids = [await ask.publish("sync.recorded") for _ in range(20)]

    async def all_queued():
        return await ask.redis.zcard(ask.mesh.keys.open_tasks("probe_sync")) >= 20

    await wait_until("all are handed over", all_queued, every=0.001)
    await ask.redis.delete(ask.mesh.keys.queue("probe_sync"))
    tasks = [task for event_id in (*busy, *ids) for task in await ask.ended(event_id, seconds=40)]

    assert {task.state for task in tasks} == {"succeeded"}
    assert {runs(ask.mesh.record)[f"sync {event_id}"] for event_id in (*busy, *ids)} == {1}
