"""`celery -A services.X.handlers:celery_app …` makes a whole member of the mesh, and reaches its own workers only."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import httpx
import pytest
from streammesh import lua
from streammesh.embedded import free_port
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.settlement import cancel_call
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.probe.record import runs
from tests.probe.service import service

SERVICES = ["tests.probe_sync"]  # another team's worker


@pytest.fixture
def celery(ask, tmp_path):
    """Starts `celery worker` for the probe service."""
    args = ["-A", "tests.probe.service:celery_app", "worker", "-n", "mine@%h"]
    process = MeshProcess("probe", "celery", ask.mesh.env, tmp_path, args)
    with process:
        yield process
    print(process.log.read_text()[-3000:])


async def command(ask, *args):
    """What `celery` answers, its exit code and its standard output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "celery", "-A", "tests.probe.service:celery_app", *args),
        env={**os.environ, **ask.mesh.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 40)
    return process.returncode, out.decode(), err.decode()


async def test_its_worker_is_a_member_and_remote_control_reaches_it_alone(ask, celery):
    await ask.shows_life("probe", celery.pid)
    assert await ask.redis.hexists(ask.mesh.keys.manifests(), "probe")
    task = await ask.run("probe.recorded", {})
    assert (task.state, task.attempt) == ("succeeded", 1)
    assert '"event":"worker.ready"' in celery.log.read_text()

    event_id = await ask.publish("probe.slow", {"seconds": 30})

    async def begun():
        return runs(ask.mesh.record)[f"slow {event_id}"]

    await wait_until("it runs", begun)
    _, out, _ = await command(ask, "inspect", "active", "--json", "-t", "3")
    [(name, active)] = json.loads(out).items()
    assert name.startswith("probe-mine@")
    assert [one["name"] for one in active] == ["probe.slow"]

    [[running]] = [row.task_ids for row in await ask.rows.events(event_id)]
    [row] = await ask.rows.tasks([running])
    await lua.run(ask.redis, cancel_call(ask.mesh.keys, ask.mesh.settings, row))
    [task] = await ask.ended(event_id)
    assert task.state == "cancelled"


async def test_purge_ends_what_waits(ask):
    """No worker of the service runs: what it purges is cancelled, and stays so."""
    ids = [await ask.publish("probe.recorded", {}) for _ in range(3)]

    async def queued():
        return await ask.redis.xlen(ask.mesh.keys.queue("probe")) >= 3

    await wait_until("they wait", queued)
    code, _, err = await command(ask, "purge", "-f")
    assert code == 0, err
    tasks = [task for e in ids for task in await ask.ended(e)]
    assert {task.state for task in tasks} == {"cancelled"}
    assert await ask.redis.xlen(ask.mesh.keys.queue("probe")) == 0


async def test_its_beat_is_the_meshs(ask, tmp_path):
    args = ["-A", "tests.probe.service:celery_app", "beat", "--pidfile="]
    with MeshProcess("beat", "celery", ask.mesh.env, tmp_path, args) as beat:

        async def lives():
            return await ask.redis.zcard(ask.mesh.keys.alive("beat"))

        await wait_until("Beat shows life", lives, seconds=20)
        assert '"service":"probe"' in beat.log.read_text()


async def test_its_flower_only_looks_and_counts_its_queue(ask, tmp_path):
    pytest.importorskip("flower")
    await lua.run(ask.redis, register_call(ask.mesh.keys, service.manifest()))
    for _ in range(3):  # no worker runs: they wait
        await ask.publish("probe.recorded", {})
    base = f"http://127.0.0.1:{free_port()}"
    args = [
        "-A",
        "tests.probe.service:celery_app",
        "flower",
        f"--port={base.rpartition(':')[2]}",
        "--address=127.0.0.1",
    ]
    env = {**ask.mesh.env, "FLOWER_UNAUTHENTICATED_API": "true"}
    with MeshProcess("flower", "celery", env, tmp_path, args):
        async with httpx.AsyncClient(base_url=base, timeout=20) as flower:

            async def answers():
                try:
                    return (await flower.get("/healthcheck")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until("it answers", answers, seconds=30)
            stop = await flower.post("/api/worker/shutdown/nobody@nowhere")
            assert stop.status_code == 403, stop.text

            async def counted():
                lengths = (await flower.get("/api/queues/length")).json()["active_queues"]
                waiting = await ask.redis.xlen(ask.mesh.keys.queue("probe"))
                return waiting >= 3 and {"name": "probe", "messages": waiting} in lengths

            await wait_until("it counts what waits", counted, seconds=10)
