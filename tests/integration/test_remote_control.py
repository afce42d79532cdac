"""Celery's remote control and events see deliveries, also those that go into the async pool by the short way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from streammesh import names
from streammesh.testing.conditions import wait_until
from streammesh.worker.app import make_app

from tests.probe.record import runs

SERVICES = ["tests.probe"]
CONCURRENCY = "3"


@pytest.fixture(scope="module")
def app(mesh):
    app = make_app("tests", mesh.settings)
    yield app
    app.pool.force_close_all()
    app.close()


async def said(call, *args, **options):
    """What the one worker answers."""
    answer = await asyncio.to_thread(call, *args, **options)
    [what] = answer.values() if isinstance(answer, dict) else [a for one in answer for a in one.values()]
    return what


async def test_what_runs_and_what_ran_is_counted(ask, app):
    inspect = app.control.inspect(timeout=5, limit=1)
    before = (await said(inspect.stats))["total"].get("probe.noop", 0)
    for _ in range(5):
        await ask.run("probe.noop")
    ids = [await ask.publish("probe.slow", {"seconds": 1}) for _ in range(3)]

    async def all_run():
        return {note for e in ids for note in await ask.told(e)} >= {"task.started"} and len(
            await said(inspect.active)
        ) == 3

    await wait_until("all run", all_run)
    active = await said(inspect.active)
    assert {task["name"] for task in active} == {"probe.slow"}
    assert {task["args"][0]["id"] for task in active} == set(ids)
    assert await said(inspect.reserved) == []
    found = await said(inspect.query_task, active[0]["id"])
    assert found[active[0]["id"]][0] == "active"
    for event_id in ids:
        await ask.ended(event_id)

    async def idle():
        return await said(inspect.active) == []

    await wait_until("nothing runs", idle)
    assert (await said(inspect.stats))["total"]["probe.noop"] == before + 5


@pytest.fixture
def heard(app):
    """Celery's events, as somebody like Flower hears them."""
    events: list[Any] = []
    over = threading.Event()

    def listen():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": events.append})
            for _ in receiver.itercapture(timeout=20, wakeup=False):
                if over.is_set():
                    return

    listening = threading.Thread(target=listen)
    listening.start()
    yield events
    over.set()  # a sign of the worker's life comes every two seconds
    listening.join()


async def test_events_about_tasks_come_once_they_are_turned_on(ask, app, heard):
    await wait_until("somebody listens", lambda: length(heard))
    await ask.run("probe.noop")
    await said(app.control.enable_events, reply=True, limit=1)
    task = await ask.run("probe.noop")

    async def told():
        return [event["type"] for event in heard if event.get("uuid") == task.id]

    await wait_until("Celery's events tell of its end", lambda: holds(told, "task-succeeded"))
    await said(app.control.disable_events, reply=True, limit=1)
    assert (await ask.run("probe.noop")).state == "succeeded"
    assert await told() == ["task-received", "task-started", "task-succeeded"]


async def length(of):
    return len(of)


async def holds(ask_for, one):
    return one in await ask_for()


async def test_a_rate_limit_given_at_run_time_holds(ask, app):
    await said(app.control.rate_limit, "probe.recorded", "5/s", reply=True, limit=1)
    began = time.monotonic()
    tasks = await asyncio.gather(*(ask.run("probe.recorded") for _ in range(8)))
    assert time.monotonic() - began > 1
    assert {task.state for task in tasks} == {"succeeded"}
    await said(app.control.rate_limit, "probe.recorded", "0", reply=True, limit=1)
    assert {count for line, count in runs(ask.mesh.record).items() if line.startswith("recorded")} == {1}


async def test_a_hard_limit_given_at_run_time_holds(ask, app):
    await said(app.control.time_limit, "probe.slow", hard=0.5, reply=True, limit=1)
    event_id = await ask.publish("probe.slow", {"seconds": 1})

    async def retried():
        return "task.retrying" in await ask.told(event_id)

    await wait_until("it was stopped", retried)
    await said(app.control.time_limit, "probe.slow", reply=True, limit=1)
    [task] = await ask.ended(event_id)
    assert task.state == "succeeded"
    assert task.attempt >= 2
    assert runs(ask.mesh.record)[f"slow-done {event_id}"] == 1


async def test_a_task_revoked_before_it_came_does_not_run(ask, app):
    event_id = "revoked-before"
    task_id = names.task_id("tests", event_id, "probe.recorded")
    await said(app.control.revoke, task_id, reply=True, limit=1)
    task = await ask.run("probe.recorded", id=event_id)
    assert task.id == task_id
    assert task.state == "cancelled"
    assert runs(ask.mesh.record)[f"recorded {event_id}"] == 0


async def test_a_task_that_stands_twice_in_its_queue_runs_once(ask, app):
    queue = ask.mesh.keys.queue("probe")
    event_id = await ask.publish("probe.slow", {"seconds": 1})

    async def queued():
        return await ask.redis.xrange(queue)

    [(_, fields), *_] = await wait_until("it is queued", queued, every=0.001)
    for _ in range(5):
        await ask.redis.xadd(queue, fields)
    [task] = await ask.ended(event_id)

    async def gone():
        return await ask.redis.xlen(queue) == 0

    await wait_until("the copies are gone", gone)
    assert (task.state, task.attempt) == ("succeeded", 1)
    assert runs(ask.mesh.record)[f"slow {event_id}"] == 1
    assert await said(app.control.inspect(timeout=5, limit=1).active) == []
