"""A Redis that refuses every write for a moment ends no process, and all goes on when it takes them again."""

from __future__ import annotations

import asyncio

import pytest
from streammesh.embedded import EmbeddedServer
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker, RunningMesh

REFUSED_SECONDS = 1.5
MODULES = ("services.dispatcher", "tests.probe", "tests.probe_sync", "services.scheduler")


@pytest.fixture
def server(tmp_path):
    with EmbeddedServer(tmp_path / "redis") as running:
        yield running


async def test_too_few_replicas_and_a_read_only_replica_end_nobody(server, tmp_path):
    settings = MeshSettings(_env_file=None, redis_url=server.url, namespace="refused", lease="2s")
    env = {
        "MESH_REDIS_URL": server.url,
        "MESH_NAMESPACE": "refused",
        "MESH_LEASE": "2s",
        "PROBE_RECORD": str(tmp_path / "record.txt"),
    }
    client = open_async(settings, "test")
    mesh = RunningMesh(settings, env, tmp_path, tmp_path / "record.txt", server)
    ask = Asker(mesh, client)
    processes = [MeshProcess(name, name, env, tmp_path).start() for name in MODULES]
    try:

        async def all_live():
            return all(
                [await client.zcard(mesh.keys.alive(r)) for r in ("dispatcher", "probe", "probe_sync")]
            )

        await wait_until("all show life", all_live, seconds=40)
        await client.config_set("min-replicas-to-write", "1")
        await asyncio.sleep(REFUSED_SECONDS)
        await client.config_set("min-replicas-to-write", "0")
        first = await ask.run("probe.recorded", {"when": "NOREPLICAS"})
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(REFUSED_SECONDS)
        await client.execute_command("REPLICAOF", "NO", "ONE")
        second = await ask.run("probe.recorded", {"when": "READONLY"})
        running = [process.running for process in processes]
    finally:
        for process in processes:
            process.stop()
        await client.aclose()

    assert (first.state, second.state, running) == ("succeeded", "succeeded", [True] * len(MODULES))
