"""A prefork worker that takes many tasks at a time: each runs once, whoever dies and whatever is cut."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES: list[str] = []
LEASE = 3
MANY = 300


@pytest.fixture
async def start(ask, tmp_path):
    started: list[Any] = []

    async def one(**more):
        few = {"MESH_LEASE": f"{LEASE}s", "MESH_CONCURRENCY": "2", "PROBE_PREFETCH": "16"}
        env = {**ask.mesh.env, **few, **more}
        worker = MeshProcess(f"sync-{len(started)}", "tests.probe_sync", env, tmp_path).start()
        started.append(worker)
        await ask.shows_life("probe_sync", worker.pid)
        return worker

    yield one
    for worker in started:
        worker.stop()


async def publish_many(ask, count, seconds=0):
    publisher = Publisher(ask.redis, ask.mesh.keys, ask.mesh.settings, "tests")
    batch = [envelope.make("sync.recorded", {"seconds": seconds}, source="tests") for _ in range(count)]
    await publisher.publish_events(batch)
    return [event.id for event in batch]


async def how_often(ask, events):
    """How often the handler ran for each of these events, once all have ended."""

    async def all_ended():
        return await ask.redis.zcard(ask.mesh.keys.open_tasks("probe_sync")) == 0

    async def begun():
        return len(runs(ask.mesh.record)) >= len(events)

    await wait_until("every handler ran", begun, seconds=40)
    await wait_until("every task has ended", all_ended, seconds=20)
    for event_id in events:
        [task] = await ask.ended(event_id)
        assert task.state == "succeeded"
    counted = runs(ask.mesh.record)
    return [counted[f"sync {event_id}"] for event_id in events]


async def test_short_tasks_each_run_once_and_a_stopped_worker_hands_on_what_it_had_not_begun(ask, start):
    first = await start()
    events = await publish_many(ask, MANY)

    async def half_way():
        return len(runs(ask.mesh.record)) > MANY / 3

    await wait_until("it is at work", half_way, every=0.005)
    await start()
    first.signal(signal.SIGTERM)

    assert await how_often(ask, events) == [1] * MANY
    assert first.stop() == 0


async def test_what_lay_in_the_pipe_of_a_killed_child_runs_elsewhere(ask, start):
    worker = await start()
    events = await publish_many(ask, MANY, seconds=0.001)
    kills = 0
    for _ in range(5):
        await asyncio.sleep(0.1)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        if children:
            os.kill(int(children[0]), signal.SIGKILL)
            kills += 1

    counted = await how_often(ask, events)
    assert min(counted) == 1
    assert sum(counted) - MANY <= kills, "a kill costs no more than the run of the task that it hit"


async def test_a_task_does_not_wait_behind_a_long_one_that_runs(ask, start):
    await start()
    await how_often(ask, await publish_many(ask, 200))
    [slow] = await publish_many(ask, 1, seconds=3)

    async def runs_now():
        return runs(ask.mesh.record)[f"sync {slow}"]

    await wait_until("the long one runs", runs_now)
    await asyncio.sleep(0.05)
    for event_id in await publish_many(ask, 20):
        [task] = await ask.ended(event_id, seconds=2.5)
        assert task.state == "succeeded"


async def test_what_lies_in_a_pipe_as_the_connection_is_cut_runs_once(ask, start):
    await start()
    events = await publish_many(ask, MANY, seconds=0.001)
    for _ in range(10):
        await asyncio.sleep(0.05)
        for client in await ask.redis.client_list():
            if client["name"] == "streammesh-broker":
                await ask.redis.client_kill_filter(_id=client["id"])

    assert await how_often(ask, events) == [1] * MANY


async def test_a_child_that_holds_too_much_after_a_task_is_replaced(ask, start):
    await start(MESH_MAX_MEMORY_PER_CHILD="1", MESH_CONCURRENCY="1")
    pids = [(await ask.run("sync.recorded", {})).result["pid"] for _ in range(3)]

    assert len(set(pids)) == 3


async def test_deliveries_that_fail_end_one_after_the_other_and_the_next_ones_run(ask, start):
    worker = await start(MESH_CONCURRENCY="1", PROBE_PREFETCH="1")
    failed = [await ask.run("sync.flaky", {"succeeds_at": "no number"}) for _ in range(2)]
    good = await ask.run("sync.recorded", {})

    assert [task.state for task in (*failed, good)] == ["failed", "failed", "succeeded"]
    assert "Pool callback raised" not in worker.log.read_text()
