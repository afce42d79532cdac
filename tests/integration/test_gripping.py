"""Native code that keeps the interpreter for several leases: a live worker's task is not taken, a dead one's is."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from streammesh.testing.waiting import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES = []
LEASE = 4.0


@pytest.fixture
def worker(ask, tmp_path):
    """Start a worker with one slot and a short lease; all are stopped in the end."""
    with ExitStack() as stack:

        async def start(module, name, pool=""):
            env = {**ask.mesh.env, "MESH_LEASE": f"{LEASE}s", "MESH_CONCURRENCY": "1", "PROBE_POOL": pool}
            process = stack.enter_context(MeshProcess(name, module, env, tmp_path))

            async def there():
                alive = await ask.redis.zrange(ask.mesh.keys.alive(module.rpartition(".")[2]), 0, -1)
                return [one for one in alive if one.endswith(b":%d" % process.pid)]

            await wait_until("the worker shows life", there, seconds=30)
            return process

        yield start


async def begun(ask, event_id, times=1):
    async def there():
        return runs(ask.mesh.record)[f"gripping {event_id}"] >= times

    await wait_until(f"{event_id} began", there)


async def test_a_task_that_keeps_the_interpreter_for_several_leases_is_not_taken(ask, worker):
    ids = []
    kinds = [
        ("tests.probe", "probe.gripping", ""),  # in a thread beside the loop
        ("tests.probe", "probe.gripped", ""),  # on the loop
        ("tests.probe_sync", "sync.gripping", "threads"),
    ]
    await asyncio.gather(*(worker(kind[0], f"busy-{n}", kind[2]) for n, kind in enumerate(kinds)))
    for _, event_type, _ in kinds:
        ids.append(await ask.publish(event_type, {"seconds": 1.8 * LEASE}))
        await begun(ask, ids[-1])
    idle = ("tests.probe", "tests.probe_sync")
    await asyncio.gather(*(worker(module, f"idle-{module}", "threads") for module in idle))
    tasks = [task for event_id in ids for task in await ask.ended(event_id, seconds=40)]

    assert [(task.state, task.attempt) for task in tasks] == [("succeeded", 1)] * 3
    assert [runs(ask.mesh.record)[f"gripping {event_id}"] for event_id in ids] == [1, 1, 1]


async def test_who_watches_ends_with_its_worker_whose_task_is_taken_over(ask, worker):
    busy = await worker("tests.probe", "busy")
    event_id = await ask.publish("probe.gripped", {"seconds": 10 * LEASE})
    await begun(ask, event_id)
    await asyncio.sleep(LEASE * 0.8)  # by now somebody stands in for it
    watching = children(busy.pid)
    await worker("tests.probe", "heir")
    died = time.monotonic()
    os.kill(busy.pid, signal.SIGKILL)
    await begun(ask, event_id, times=2)

    assert time.monotonic() - died < LEASE + 1.5
    assert len(watching) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in watching)


def children(parent):
    """The processes that a process has started."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rpartition(")")[2].split()[1] == str(parent)
    ]
