"""A mesh that stands still is copied into more shards: nothing is lost or doubled, whenever the command is killed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.events import envelope
from streammesh.keys import Keys
from streammesh.lines.state import read_standings, set_call
from streammesh.redisio.client import open_async, open_sync
from streammesh.redisio.inspector import ask_server
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.reshard import Reshard, survey
from streammesh.reshard.move import CannotMove
from streammesh.settings import MeshSettings
from streammesh.shards import ShardedPublisher
from streammesh.subscriptions.registry import register_call
from streammesh.testing.conditions import wait_until
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.store import WebhookStore, store_call

from tests.harness.processes import MeshProcess
from tests.harness.sharded_worker import service

COUNT, SHARDS = 30, 2
NOOP = "sharded.noop"
STRIDE = 11  # commands: at every eleventh it is killed
WEBHOOK = Webhook(
    id="w-on", url="https://shop.test/hook", owner="shop", secrets=(Secret("whsec_" + "a" * 32),)
)


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


def furnish(settings: MeshSettings) -> None:
    """Make two webhooks, one of which was disabled, and limits of a subscription that an operator has set."""
    off = replace(WEBHOOK, id="w-off", enabled=False, disabled_why="it answers 410")
    with connect(settings) as client:
        keys = Keys(settings.namespace)
        for webhook in (WEBHOOK, off):
            lua.run_sync(client, store_call(keys, webhook, b"", "7-0"))
        client.hset(keys.flow(NOOP), "declared", '{"concurrency":9}')
        lua.run_sync(client, set_call(keys, NOOP, {"concurrency": 3, "throttle": "100/m"}))


async def publish(settings: MeshSettings, made: list[envelope.Event]) -> list[Any]:
    publisher = ShardedPublisher(settings, "tests")
    try:
        return await publisher.publish_events(made)
    finally:
        await publisher.aclose()


def move(source: MeshSettings, target: MeshSettings, commands: int | None = None) -> int:
    """Move; killed as it is about to send one more than so many commands, or pipelines of them."""
    send, left = redis.connection.AbstractConnection.send_packed_command, [commands]

    def counted(connection: Any, *args: Any, **how: Any) -> Any:
        if left[0] is not None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
        return send(connection, *args, **how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)
        return Reshard(source, target, connect, lambda _: None).run()


def contents(settings: MeshSettings) -> dict[bytes, bytes]:
    """What each key of a shard holds, by its name after the prefix; without what is never the same twice."""
    prefix = Keys(settings.namespace).prefix.encode()
    with connect(settings) as client:
        found = {name.removeprefix(prefix): client.dump(name) for name in client.scan_iter(prefix + b"*")}
    return {
        name: dump for name, dump in found.items() if name != b"format" and not name.endswith(b"-version")
    }


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


async def test_killed_at_any_command_it_is_done_anew_and_nobody_starts_in_a_half_filled_mesh(source, target):
    made = events()
    await publish(source, made)
    furnish(source)
    whole = target.model_copy(update={"namespace": "whole"})
    move(source, whole)
    with connect(source) as client:  # as if it had not been moved
        client.delete(Keys("old").format())
    killed = 0
    while True:
        try:
            move(source, target, commands=killed * STRIDE)
        except Killed:
            old, new = codes(source), codes(target)
            assert "mesh-moved" in old or new in (set(), {"shard-filling"}), (killed, old, new)
            assert "shard-filling" in new or not _has_data(target) or "mesh-moved" in old, (killed, old, new)
            killed += 1
            continue
        break

    assert killed > 10
    assert (codes(source), codes(target)) == ({"mesh-moved"}, set())
    for number in range(SHARDS):
        assert contents(target.of_shard(number)) == contents(whole.of_shard(number))
    assert all(one.duplicate for one in await publish(target, made))
    with pytest.raises(CannotMove, match="has moved to new"):
        move(source, target)


def test_what_somebody_wrote_is_copied_byte_for_byte_and_what_waits_finds_its_queue(source, target):
    keys = Keys("old")
    queue = keys.queue("sharded", 7)
    hostile = f'"queue":"{queue}" \\"queue\\":\\"{queue}\\" {keys.prefix}\\'
    with connect(source) as client:
        written = {
            member: client.eval("return cjson.encode(cjson.decode(ARGV[1]))", 0, json.dumps(entry))
            for member, entry in {
                "task:t-1": {"kind": "task", "task": "t-1", "queue": queue, "h": hostile, "b": hostile},
                f"entry:{hostile} 1-1": {"kind": "entry", "task": hostile, "queue": queue},
                "event:e-1 x": {"kind": "event", "id": "e-1", "source": "x", "domain": "d", "json": hostile},
                "flow:other": {"kind": "flow", "name": hostile, "queue": hostile},
            }.items()
        }
        garbage = {
            "task:t-2": f'{{"queue":"{queue}"',
            "task:t-3": b"\xff" + hostile.encode(),
            "task:t-4": f"P{hostile}",
        }
        client.hset(keys.due_entries(), mapping=written | garbage)
        client.hset(keys.task("t-1"), mapping={"state": "succeeded", "outcome": hostile, hostile: queue})
        client.hset(keys.dead("sharded"), "t-9", hostile)
        client.set(f"{keys.prefix}result:r-1", hostile, ex=90)
        client.set(keys.event("garbage"), queue)
        client.rpush(keys.events("lists"), queue)
        client.sadd(keys.domains(), "lists", b"\xff")
        client.hset(keys.manifests(), "broken", hostile)
    before = contents(source)

    move(source, target)

    first, after = target.of_shard(0), contents(target.of_shard(0))
    moved = Keys(first.namespace).queue("sharded", 7)
    assert {name: dump for name, dump in before.items() if name != b"due-entries"} == {
        name: dump for name, dump in after.items() if name != b"due-entries"
    }
    with connect(first) as client:
        entries = client.hgetall(Keys(first.namespace).due_entries())
        assert 0 < client.ttl("{new.0}:result:r-1") <= 90
    texts = {
        member.encode(): text if isinstance(text, bytes) else text.encode()
        for member, text in (written | garbage).items()
    }
    named = f'"queue":"{queue}"'.encode().replace(b"/", b"\\/")
    expected = texts | {
        member: texts[member].replace(named, f'"queue":"{moved}"'.encode(), 1)
        for member in (b"task:t-1", f"entry:{hostile} 1-1".encode())
    }
    assert entries == expected
    assert [json.loads(entries[member])["queue"] for member in expected if member[:5] == b"entry"] == [moved]
    assert json.loads(entries[b"task:t-1"]) == {**json.loads(texts[b"task:t-1"]), "queue": moved}


async def test_a_new_shard_has_webhooks_under_its_own_number_and_limits_that_an_operator_set(source, target):
    furnish(source)

    move(source, target)

    for number, ending in enumerate(("", ".1")):
        shard = target.of_shard(number)
        client, keys = open_async(shard, "test"), Keys(shard.namespace)
        _, stored = await WebhookStore(client, keys).all()
        off, on = [one.webhook for one in stored]
        assert [one.delivery_of("5-0") for one in (on, off)] == [f"w-on_5-0{ending}", f"w-off_5-0{ending}"]
        assert (on.enabled, off.enabled, off.disabled_why) == (True, False, "it answers 410")
        assert await client.hget(keys.webhook("w-off"), "off") == b"1"
        assert await client.hkeys(keys.webhooks_disabled()) == [b"w-off"]
        assert await client.smembers(keys.webhooks_behind()) == {b"w-on", b"w-off"}
        assert await client.hget(keys.webhook("w-on"), "behind") == (b"0-0" if number else b"7-0")
        limits = (await read_standings(client, keys))[NOOP].set
        assert limits == {"concurrency": 3, "throttle": "100/m"}
        assert await client.hget(keys.flow(NOOP), "declared") == b'{"concurrency":9}'
        assert json.loads(await client.hget(keys.flow(NOOP), "set"))["throttle"] == [600, 1000]
        await client.aclose()


async def test_what_a_killed_run_left_is_removed_before_it_is_copied_anew(source, target):
    await publish(source, events())
    with pytest.raises(Killed):
        move(source, target, commands=40)
    with connect(source) as client:
        client.delete(Keys("old").due(), Keys("old").due_entries())
        lua.run_sync(client, store_call(Keys("old"), WEBHOOK, b"", "7-0"))
        client.hset(Keys("old").paused(), NOOP, "{}")

    move(source, target)

    with connect(target.of_shard(0)) as client:
        assert not client.exists(Keys("new.0").due())
    with connect(target.of_shard(1)) as client:
        keys = Keys("new.1")
        assert client.hkeys(keys.manifests()) == [b"sharded"] and client.hkeys(keys.paused()) == [
            NOOP.encode()
        ]
        assert client.hget(keys.webhook("w-on"), "behind") == b"0-0" and client.smembers(
            keys.webhooks_behind()
        ) == {b"w-on"}


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
