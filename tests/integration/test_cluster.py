"""One mesh in one slot of a Redis Cluster: its owner is found, and followed over failovers and moves of the slot."""

from __future__ import annotations

import asyncio

import pytest
import redis
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.redisio.client import open_async, open_sync
from streammesh.redisio.pools import open_pool
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.harness.cluster import Cluster
from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker, RunningMesh

NAMESPACE = "clustered"
PASSWORD = "p@ss:w/rd"
ENCODED = "p%40ss%3Aw%2Frd"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), NAMESPACE, replicas=1) as made:
        yield made


@pytest.fixture
def settings(cluster):
    return MeshSettings(_env_file=None, redis_url=cluster.url, namespace=NAMESPACE, lease="2s")


def test_each_kind_of_client_finds_the_owner_of_the_mesh_s_slot(cluster, settings):
    key = Keys(NAMESPACE).domains()
    with open_sync(settings, "test") as client:
        client.sadd(key, "sync")
    pool = open_pool(cluster.url, NAMESPACE, {"socket_timeout": 5})
    with redis.Redis(connection_pool=pool) as client:
        client.sadd(key, "transport")

    async def ask():
        client = open_async(settings, "test")
        await client.sadd(key, "async")
        found = await client.smembers(key)
        await client.delete(key)
        await client.aclose()
        return found

    assert asyncio.run(ask()) == {b"sync", b"transport", b"async"}


async def test_a_mesh_goes_on_when_its_slot_has_moved_and_when_its_master_fails(cluster, settings, tmp_path):
    env = {
        "MESH_REDIS_URL": cluster.url,
        "MESH_NAMESPACE": NAMESPACE,
        "MESH_LEASE": "2s",
        "PROBE_RECORD": str(tmp_path / "record.txt"),
    }
    client = open_async(settings, "test")
    publisher = Publisher(client, Keys(NAMESPACE), settings, "test")
    mesh = RunningMesh(settings, env, tmp_path, tmp_path / "record.txt", cluster.servers[0])
    ask = Asker(mesh, client)
    with (
        MeshProcess("dispatcher", "services.dispatcher", env, tmp_path) as dispatcher,
        MeshProcess("probe", "tests.probe", env, tmp_path) as probe,
    ):

        async def registered():
            return await client.zcard(mesh.keys.alive("probe"))

        async def published(event_id):
            async def tried():
                try:
                    return await publisher.publish("probe.recorded", {"when": event_id}, id=event_id)
                except Exception:
                    return None

            await wait_until("publishing works", tried, seconds=15, every=0.1)
            [row] = await ask.ended(event_id)
            return row.state

        await wait_until("the worker shows life", registered, seconds=30)
        states = [await published("before")]

        owner = await asyncio.to_thread(cluster.owner)
        other = next(server for server in cluster.servers[:3] if server is not owner)
        await asyncio.to_thread(cluster.move_slot, other)
        states.append(await published("moved"))
        await asyncio.to_thread(cluster.move_slot, owner)
        states.append(await published("moved back"))

        owner.stop(kill=True)
        states.append(await published("after the failover"))
        assert (dispatcher.running, probe.running) == (True, True)
    await client.aclose()

    assert states == ["succeeded"] * 4


async def test_a_cluster_may_want_a_password_with_any_characters(tmp_path):
    with Cluster(tmp_path, NAMESPACE, masters=1, replicas=0, password=PASSWORD) as cluster:
        url = cluster.url.replace(PASSWORD, ENCODED)
        client = open_async(MeshSettings(_env_file=None, redis_url=url, namespace=NAMESPACE), "test")
        assert await client.ping()
        await client.aclose()
