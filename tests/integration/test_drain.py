"""SIGTERM: what runs may end within the deadline; what does not goes to another worker at once, and ends once."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES: list[str] = []
LEASE = 60  # seconds: whoever is given a task before that was not given it because a lease ran out
ENVIRONMENT = {"MESH_LEASE": f"{LEASE}s"}
KINDS = [
    ("tests.probe", "probe.slow", "slow", ""),
    ("tests.probe_sync", "sync.slow", "sync-slow", "prefork"),
]
IN_A_THREAD = ("tests.probe", "probe.unstoppable", "unstoppable", "")


@pytest.fixture(params=KINDS, ids=["async", "prefork"])
async def workers(request, ask, tmp_path):
    """Start a worker of the kind; all are stopped in the end."""
    module, event_type, line, pool = request.param
    started: list[Any] = []

    async def start(drain):
        env = {**ask.mesh.env, "MESH_DRAIN": drain, "MESH_CONCURRENCY": "2", "PROBE_POOL": pool}
        worker = MeshProcess(f"{module}-{len(started)}", module, env, tmp_path).start()
        started.append(worker)
        await ask.shows_life(module.rpartition(".")[2], worker.pid)
        return worker

    yield start, event_type, line
    for worker in started:
        worker.stop()


async def started_on(ask, event_id, attempt):
    """The process id of the worker that runs this attempt."""

    async def there():
        found = await ask.rows.events(event_id)
        for task in await ask.rows.tasks(found[0].task_ids) if found else []:
            if task.state == "started" and task.attempt == attempt:
                return int(re.search(r"-(\d+)@", task.worker)[1])
        return None

    return await wait_until(f"attempt {attempt} runs", there)


async def test_a_task_that_ends_within_the_deadline_ends_where_it_runs(ask, workers):
    start, event_type, line = workers
    worker = await start("20s")
    event_id = await ask.publish(event_type, {"seconds": 2})
    await started_on(ask, event_id, 1)
    worker.signal(signal.SIGTERM)
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt) == ("succeeded", 1)
    assert worker.stop() == 0
    assert runs(ask.mesh.record)[f"{line}-done {event_id}"] == 1


@pytest.mark.parametrize("workers", [*KINDS, IN_A_THREAD], ids=["async", "prefork", "thread"], indirect=True)
async def test_a_longer_one_goes_to_another_worker_at_once_and_ends_once(ask, workers):
    start, event_type, line = workers
    both = [await start("1s"), await start("1s")]
    event_id = await ask.publish(event_type, {"seconds": 5})
    pid = await started_on(ask, event_id, 1)
    first, second = sorted(both, key=lambda worker: worker.pid != pid)
    first.signal(signal.SIGTERM)
    assert await started_on(ask, event_id, 2) == second.pid
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt) == ("succeeded", 2)
    assert first.stop() == 0
    counted = runs(ask.mesh.record)
    assert (counted[f"{line} {event_id}"], counted[f"{line}-done {event_id}"]) == (2, 1)
    told = await ask.told(event_id)
    assert (told.count("task.succeeded"), told[-1]) == (1, "event.completed")
    assert "task.retrying" not in told, "to be stopped is no failure"
    # A worker that stops is no failure of the task either: it may be handed on as often as needed.
    assert await ask.redis.hget(ask.mesh.keys.task(task.id), "lost") == b"0"


@pytest.mark.parametrize("workers", KINDS[:1], ids=["async"], indirect=True)
@pytest.mark.parametrize("what", ["deaf", "blocking"])
async def test_a_worker_ends_whatever_its_handlers_do(ask, workers, what):
    start, _, _ = workers
    worker = await start("0.5s")
    event_id = await ask.publish(f"probe.{what}")

    async def begun():
        return runs(ask.mesh.record)[f"{what} {event_id}"]

    await wait_until("it runs", begun)
    worker.signal(signal.SIGTERM)

    async def gone():
        return not worker.running

    await wait_until("it has ended", gone, seconds=13)
    other = await start("0.5s")  # what it held was given back; the lease is a minute

    async def again():
        return runs(ask.mesh.record)[f"{what} {event_id}"] == 2

    await wait_until("it begins elsewhere", again, seconds=15)
    other.kill()
