"""Native code that keeps the interpreter for several leases: a live worker's task is not taken, a dead one's is."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES: list[str] = []
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


@pytest.mark.alone
async def test_a_live_workers_task_is_not_taken_and_a_dead_ones_is(ask, worker):
    kinds = [
        ("tests.probe", "probe.gripping", ""),  # in a thread beside the loop
        ("tests.probe", "probe.gripped", ""),  # on the loop
        ("tests.probe_sync", "sync.gripping", "threads"),
        ("tests.probe", "probe.gripped", ""),  # whose worker is killed
    ]
    await asyncio.gather(*(worker(kind[0], f"busy-{n}", kind[2]) for n, kind in enumerate(kinds)))
    ids: list[Any] = []
    for _, event_type, _ in kinds:
        ids.append(await ask.publish(event_type, {"seconds": (1.8 if len(ids) < 3 else 9) * LEASE}))
        await begun(ask, ids[-1])
    last_began = time.monotonic()
    idle = ("tests.probe", "tests.probe_sync")
    await asyncio.gather(*(worker(module, f"idle-{module}", "threads") for module in idle))
    await asyncio.sleep(max(0.0, last_began + 0.7 * LEASE - time.monotonic()))  # somebody stands in by now
    [event] = await ask.rows.events(ids[-1])
    [doomed] = await ask.rows.tasks(event.task_ids)
    victim = int(re.search(r"-(\d+)@", doomed.worker)[1])
    watching = children(victim)
    os.kill(victim, signal.SIGKILL)
    died = time.monotonic()
    await begun(ask, ids[-1], times=2)
    taken_after = time.monotonic() - died
    tasks = [task for event_id in ids for task in await ask.ended(event_id, seconds=40)]

    assert [(task.state, task.attempt) for task in tasks] == [("succeeded", n) for n in (1, 1, 1, 2)]
    assert [runs(ask.mesh.record)[f"gripping {event_id}"] for event_id in ids] == [1, 1, 1, 2]
    assert taken_after < LEASE + 1.5
    assert len(watching) == 1, "the one that watched"
    assert not any(Path(f"/proc/{pid}").exists() for pid in watching)


def children(parent):
    """The processes that a process has started."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rpartition(")")[2].split()[1] == str(parent)
    ]
