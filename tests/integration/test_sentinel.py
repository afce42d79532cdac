"""A failover: the master dies, Sentinel makes the replica the master, and everything goes on by itself."""

from __future__ import annotations

import subprocess
import time

import pytest
from streammesh.embedded import EmbeddedServer, find_server, free_port
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker, RunningMesh

RECOVERY_SECONDS = 5  # beyond what Sentinel itself takes to decide


@pytest.fixture
def sentinel(tmp_path):
    """A master, a replica and one Sentinel that decides alone, after half a second."""
    with (
        EmbeddedServer(tmp_path / "one") as master,
        EmbeddedServer(tmp_path / "two", options=("--replicaof", "127.0.0.1", str(master.port))) as replica,
    ):
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor mesh-master 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds mesh-master 500\n"
            "sentinel failover-timeout mesh-master 5000\n"
        )
        with (tmp_path / "sentinel.log").open("wb") as out:
            process = subprocess.Popen([find_server(), str(config), "--sentinel"], stdout=out, stderr=out)
        try:
            yield f"redis+sentinel://127.0.0.1:{port}/mesh-master", master, replica, port
        finally:
            process.kill()
            process.wait()


async def test_everything_goes_on_after_a_failover(sentinel, tmp_path):
    url, master, replica, port = sentinel
    settings = MeshSettings(_env_file=None, redis_url=url, namespace="failover", lease="2s")
    env = {
        "MESH_REDIS_URL": url,
        "MESH_NAMESPACE": "failover",
        "MESH_LEASE": "2s",
        "PROBE_RECORD": str(tmp_path / "record.txt"),
    }
    watcher = open_async(MeshSettings(_env_file=None, redis_url=f"redis://127.0.0.1:{port}/0"), "watch")

    async def knows_the_replica():
        try:
            return await watcher.execute_command("SENTINEL", "REPLICAS", "mesh-master")
        except Exception:
            return False

    await wait_until("Sentinel knows the replica", knows_the_replica, seconds=20)
    client = open_async(settings, "test")
    mesh = RunningMesh(settings, env, tmp_path, tmp_path / "record.txt", master)
    ask = Asker(mesh, client)
    with (
        MeshProcess("dispatcher", "services.dispatcher", env, tmp_path),
        MeshProcess("probe", "tests.probe", env, tmp_path),
    ):

        async def registered():
            return await client.zcard(mesh.keys.alive("probe"))

        await wait_until("the worker shows life", registered, seconds=30)
        before = await ask.run("probe.recorded", {"when": "before"})
        with_replica = open_async(
            MeshSettings(_env_file=None, redis_url=replica.url, namespace="failover"), "replica"
        )

        async def copied():
            return (await with_replica.info("replication"))["master_link_status"] == "up"

        await wait_until("the replica follows", copied)
        master.stop(kill=True)

        async def promoted():
            return (await with_replica.info("replication"))["role"] == "master"

        await wait_until("the replica is the master", promoted, seconds=20)
        began = time.monotonic()
        await with_replica.aclose()

        async def published():
            try:
                return await ask.publish("probe.recorded", {"when": "after"}, id="after")
            except Exception:
                return None

        event_id = await wait_until("publishing works again", published, seconds=20, every=0.2)
        [after] = await ask.ended(event_id)
        took = time.monotonic() - began
    await client.aclose()
    await watcher.aclose()

    assert (before.state, after.state) == ("succeeded", "succeeded")
    assert took < RECOVERY_SECONDS * 2, f"it took {took:.1f} s after the promotion"
