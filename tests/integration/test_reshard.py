"""A mesh that stands still is copied into more shards: nothing is lost or doubled, whenever the command is killed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.events import envelope
from streammesh.keys import Keys
from streammesh.redisio.client import open_async, open_sync
from streammesh.redisio.inspector import ask_server
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.reshard import Reshard, survey
from streammesh.reshard.move import CannotMove
from streammesh.settings import MeshSettings
from streammesh.shards import ShardedPublisher
from streammesh.subscriptions.registry import register_call
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.harness.sharded_worker import service

COUNT, SHARDS = 30, 2
NOOP = "sharded.noop"


class Killed(Exception):
    """The command ended here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("reshard")) as started:
        yield started


@pytest.fixture
def source(server: EmbeddedServer) -> MeshSettings:
    redis.Redis.from_url(server.url).flushall()
    settings = MeshSettings(_env_file=None, redis_url=server.url, namespace="old", lease="2s")
    with connect(settings) as client:
        lua.run_sync(client, register_call(Keys("old"), service.manifest()))
    return settings


@pytest.fixture
def target(source: MeshSettings) -> MeshSettings:
    return source.model_copy(update={"namespace": "new", "shards": SHARDS})


def connect(settings: MeshSettings) -> redis.Redis:
    return open_sync(settings, "test")


def events() -> list[envelope.Event]:
    """Some with a partition key, some that are delivered later."""
    now = datetime.now(UTC)
    return [
        envelope.build(
            "tests",
            NOOP,
            {"n": n},
            id=f"e-{n}",
            deliver_at=now + timedelta(seconds=1) if n % 7 == 3 else None,
            extensions={"partitionkey": f"k-{n}"} if n % 2 else None,
        )
        for n in range(COUNT)
    ]


async def publish(settings: MeshSettings, made: list[envelope.Event]) -> list[Any]:
    publisher = ShardedPublisher(settings, "tests")
    try:
        return await publisher.publish_events(made)
    finally:
        await publisher.aclose()


def move(source: MeshSettings, target: MeshSettings, connections: int | None = None) -> int:
    """Move; killed as it is about to open one more than so many connections."""
    left = [connections]

    def counted(settings: MeshSettings) -> redis.Redis:
        if left[0] is not None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
        return connect(settings)

    return Reshard(source, target, counted, lambda _: None).run()


def codes(settings: MeshSettings) -> set[str]:
    return {
        one.code
        for number in range(settings.shards)
        for one in ShardMarks(settings.of_shard(number), ask_server).findings(mark=False)
    }


@pytest.mark.timeout(150)
async def test_all_that_was_published_ends_once_in_the_new_mesh_and_is_known_there(source, target, tmp_path):
    made = events()
    await publish(source, made)
    env = {"MESH_REDIS_URL": source.redis_url, "MESH_LEASE": "2s", "MESH_NAMESPACE": "old"}
    with connect(source) as client:
        keys = Keys("old")
        with MeshProcess("old-dispatcher", "services.dispatcher", env, tmp_path):
            in_queue = sum(1 for n in range(COUNT) if n % 7 != 3)
            await wait_until(
                "tasks are queued", lambda: _is(client.xlen(keys.queue("sharded")) >= in_queue), seconds=60
            )
    assert survey(source, target, connect).why_not(anyway=False) == []

    assert move(source, target) > COUNT

    assert codes(source) == {"mesh-moved"}
    again = await publish(target, made)
    assert all(one.duplicate for one in again)
    env |= {"MESH_NAMESPACE": "new", "MESH_SHARDS": str(SHARDS)}
    ends: Counter[str] = Counter()
    with (
        MeshProcess("dispatcher", "services.dispatcher", env, tmp_path),
        MeshProcess("worker", "tests.harness.sharded_worker", env, tmp_path),
    ):
        await publish(target, [envelope.make(NOOP, {}, source="tests", id=f"after-{n}") for n in range(9)])

        async def ended() -> bool:
            ends.clear()
            for number in range(SHARDS):
                shard = target.of_shard(number)
                client = open_async(shard, "test")
                for _, fields in await client.xrange(Keys(shard.namespace).notifications()):
                    if fields[b"t"] == b"task.succeeded":
                        ends[fields[b"e"].decode()] += 1
                await client.aclose()
            return len(ends) == COUNT + 9

        await wait_until("all has ended", ended, seconds=60, every=0.3)
    assert set(ends.values()) == {1}


async def test_killed_at_any_time_it_is_done_anew_and_nobody_starts_in_a_half_filled_mesh(source, target):
    made = events()
    await publish(source, made)
    killed = 0
    while True:
        try:
            move(source, target, connections=killed)
        except Killed:
            old, new = codes(source), codes(target)
            assert "mesh-moved" in old or new in (set(), {"shard-filling"}), (killed, old, new)
            assert "shard-filling" in new or not _has_data(target) or "mesh-moved" in old, (killed, old, new)
            killed += 1
            continue
        break

    assert killed > 15
    assert (codes(source), codes(target)) == ({"mesh-moved"}, set())
    assert all(one.duplicate for one in await publish(target, made))
    with pytest.raises(CannotMove, match="has moved to new"):
        move(source, target)


async def test_what_a_killed_run_left_is_removed_before_it_is_copied_anew(source, target):
    await publish(source, events())
    with pytest.raises(Killed):
        move(source, target, connections=15)
    with connect(source) as client:
        client.delete(Keys("old").due(), Keys("old").due_entries())
        client.hset(Keys("old").webhooks(), "w-1", "{}")
        client.hset(Keys("old").paused(), NOOP, "{}")

    move(source, target)

    with connect(target.of_shard(0)) as client:
        assert not client.exists(Keys("new.0").due())
    with connect(target.of_shard(1)) as client:
        keys = Keys("new.1")
        assert client.hkeys(keys.manifests()) == [b"sharded"] and client.hkeys(keys.paused()) == [
            NOOP.encode()
        ]
        assert client.hget(keys.webhook("w-1"), "behind") == b"0-0" and client.smembers(
            keys.webhooks_behind()
        ) == {b"w-1"}


def test_what_cannot_be_moved_is_refused_and_nothing_is_changed(source, target):
    with connect(source) as client:
        keys = Keys("old")
        client.zadd(keys.alive("dispatcher"), {"dispatcher@here:1": client.time()[0] * 1000})
        client.zadd(keys.waiters("sharded", "x"), {"run": 1})
        client.zadd(keys.flow_line("sharded.noop"), {"task": 1})
        before = sorted(client.scan_iter())

        found = survey(source, target, connect)
        fewer = survey(source.model_copy(update={"shards": 4}), target, connect)

        assert sorted(client.scan_iter()) == before
    assert any("dispatcher@here:1" in text for text in found.why_not(anyway=True))
    assert any("1 tasks wait in line" in text for text in found.why_not(anyway=False))
    assert not any("wait in line" in text for text in found.why_not(anyway=True))
    assert not any("event" in text for text in found.waiting)  # a run is told of events of all shards
    assert any("2 shards are fewer than 4" in text for text in fewer.refusals)
    same = survey(source, target.model_copy(update={"namespace": "old"}), connect)
    assert any("another namespace" in text for text in same.refusals)


def test_a_mesh_that_has_begun_is_not_filled(source, target):
    for number in range(SHARDS):
        assert ShardMarks(target.of_shard(number), ask_server).findings() == []

    with pytest.raises(CannotMove, match="belongs to a mesh that has begun"):
        move(source, target)


async def _is(value: bool) -> bool:
    return value


def _has_data(target: MeshSettings) -> bool:
    with connect(target.of_shard(0)) as client:
        return len(list(client.scan_iter(match="{new.0}:*"))) > 1
