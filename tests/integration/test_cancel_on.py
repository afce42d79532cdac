"""`cancel_on`: an event cancels the open tasks that have its value, wherever they are."""

from __future__ import annotations

from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe_durable"]
CONCURRENCY = "2"


async def in_state(ask, event_id, state):
    async def there():
        [row] = await ask.rows.events(event_id) or [None]
        tasks = await ask.rows.tasks(row.task_ids) if row else []
        return bool(tasks) and tasks[0].state == state

    await wait_until(f"{event_id} is {state}", there, seconds=20)


async def test_an_event_cancels_what_is_open_though_no_worker_has_room(ask):
    async def build(name, does, order=1):
        return await ask.publish("durable.build", {"name": name, "does": does, "order": order})

    retrying, waiting = await build("retrying", "fail"), await build("waiting", "wait")
    await in_state(ask, retrying, "retrying")
    await in_state(ask, waiting, "waiting")
    running = [await build("running-1", "run"), await build("running-2", "run")]
    for event_id in running:
        await in_state(ask, event_id, "started")
    queued = [await build("queued", "run"), await build("other", "fail", 2)]

    scrapped = await ask.publish("durable.scrapped", {"order": 1})
    ended = [(await ask.ended(one, 10))[0] for one in (retrying, waiting, *running, queued[0])]
    assert {task.state for task in ended} == {"cancelled"}
    by = {"id": scrapped, "source": "tests", "type": "durable.scrapped"}
    assert [task.error["by"] for task in ended] == [by] * 5
    assert not runs(ask.mesh.record)["build queued"]

    [canceller] = await ask.ended(scrapped)
    assert canceller.result == {"cancelled": sorted(task.id for task in ended)}
    await in_state(ask, queued[1], "retrying")  # of another order
    index = ask.mesh.keys.cancellable("probe_durable.build")
    assert await ask.redis.zcard(index) == 1
    await ask.publish("durable.scrapped", {"order": 2})
    await ask.ended(queued[1])
    assert not await ask.redis.exists(index)


async def test_tasks_of_a_paused_subscription_are_cancelled_too(ask):
    await ask.redis.hset(ask.mesh.keys.paused(), "probe_durable.build", "{}")
    await ask.redis.publish(ask.mesh.keys.manifests_changed(), "paused")
    try:
        held = await ask.publish("durable.build", {"name": "held", "does": "run", "order": 3})
        await in_state(ask, held, "held")
        await ask.publish("durable.scrapped", {"order": 3})
        [task] = await ask.ended(held, 10)
        assert task.state == "cancelled"
    finally:
        await ask.redis.hdel(ask.mesh.keys.paused(), "probe_durable.build")
