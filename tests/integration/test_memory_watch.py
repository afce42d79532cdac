"""A worker whose tasks share its process ends when it holds too much, with what runs done, and is started again."""

from __future__ import annotations

import pytest
from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.worker import memory_watch
from streammesh.worker.memory_watch import MemoryWatch, held_mib

from tests.harness.processes import MeshProcess

SERVICES: list[str] = []
BOUND = 260  # MiB; a worker that is ready has about 80


@pytest.mark.parametrize(
    ("module", "pool", "prefix"),
    [
        ("tests.probe", "async", "probe"),
        ("tests.probe_sync", "threads", "sync"),
        ("tests.probe_sync", "solo", "sync"),
    ],
)
async def test_a_worker_that_holds_too_much_drains_and_ends_to_be_started_again(
    ask, tmp_path, module, pool, prefix
):
    env = {**ask.mesh.env, "MESH_MAX_MEMORY": str(BOUND), "PROBE_POOL": pool, "MESH_CONCURRENCY": "4"}
    service = module.removeprefix("tests.")
    worker = MeshProcess(f"{pool}-worker", module, env, tmp_path).start()
    await ask.shows_life(service, worker.pid)
    busy = await ask.publish(f"{prefix}.slow", {"seconds": 1.5}) if pool != "solo" else None
    if busy:
        await wait_until("it runs", lambda: _started(ask, busy))
    hoarded = await ask.publish(f"{prefix}.hoarding", {"mib": 2 * BOUND})
    wait_until_sync("it has ended", lambda: not worker.running, seconds=15)

    assert worker.stop() == memory_watch.EX_TEMPFAIL
    assert "worker.too_large" in worker.log.read_text()
    with MeshProcess(f"{pool}-again", module, env, tmp_path):
        for event_id in filter(None, (busy, hoarded)):
            [task] = await ask.ended(event_id)
            assert (task.state, task.attempt) == ("succeeded", 1), "what ran was let end"
        assert (await ask.run(f"{prefix}.noop")).state == "succeeded"


async def _started(ask, event_id):
    [row] = await ask.rows.events(event_id)
    return any(task.state == "started" for task in await ask.rows.tasks(row.task_ids))


def test_a_container_with_less_memory_bounds_it_earlier(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_watch, "_LIMIT", limit)
    bounds = []
    for text in ("536870912\n", "max\n", "99999999999999"):
        limit.write_text(text)
        bounds.append(MemoryWatch(1024)._most)
    limit.unlink()
    bounds += [MemoryWatch(1024)._most, MemoryWatch(0)._most]

    assert bounds == [435, 1024, 1024, 1024, 0]


def test_a_bound_below_what_a_worker_needs_is_said_and_ends_nobody(capsys):
    held = held_mib()
    assert held is not None
    watch = MemoryWatch(1)
    watch.start()

    assert not watch._thread.is_alive()
    assert "memory_bound_too_low" in capsys.readouterr().out
