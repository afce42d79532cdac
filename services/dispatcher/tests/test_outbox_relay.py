"""What is published in one shard and belongs to another is stored there once, and leaves the outbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from streammesh import lua, names
from streammesh.embedded import EmbeddedServer
from streammesh.events.envelope import Event, build, from_json
from streammesh.keys import Keys
from streammesh.redisio.client import open_sync
from streammesh.roles import end, keep_on
from streammesh.schedules import Change, parse_entry
from streammesh.schedules.store import store_call
from streammesh.schedules.ticker import Ticker
from streammesh.settings import MeshSettings
from streammesh.shards import shard_of
from streammesh.tasks.settlement import Ending
from structlog.testing import capture_logs

from services.dispatcher.outbox_relay import OutboxRelay, Target
from tests.harness.moves import Moves


@dataclass
class Pair:
    settings: list[MeshSettings]
    redis: list[redis.asyncio.Redis]
    keys: list[Keys]
    server: EmbeddedServer  # the second shard's

    def target(self) -> Target:
        return Target(self.redis[0], self.keys[0], self.redis[1], self.settings[1], 1)

    async def settle(self, *follow_ups: Event, id: str = "e1") -> None:
        moves = Moves(self.redis[0], self.keys[0], self.settings[0])
        if id == "e1":
            await moves.join()
        moved = await moves.hand_over(id)
        await moves.deliver()
        await moves.claim(moved)
        call = moves.settlement.call(moved.ref, moved.place, 1, Ending.success(None, follow_ups))
        assert (await lua.run(self.redis[0], call)).answer == "done"

    async def stored(self) -> list[str]:
        entries = await self.redis[1].xrange(self.keys[1].events("paid"))
        return [id_of(fields[b"e"]) for _, fields in entries]

    async def waiting(self) -> int:
        return int(await self.redis[0].xlen(self.keys[0].outbox(1)))


def id_of(raw: bytes) -> str:
    return from_json(raw).id


@pytest.fixture
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with EmbeddedServer(folder / "a") as first, EmbeddedServer(folder / "b") as second:
        whole = MeshSettings(
            _env_file=None, redis_url=f"{first.url} {second.url}", shards=2, redis_timeout="500ms"
        )
        settings = [whole.of_shard(0), whole.of_shard(1)]
        clients = [redis.asyncio.Redis.from_url(one.url) for one in (first, second)]
        yield Pair(settings, clients, [Keys(one.namespace) for one in settings], second)
        for client in clients:
            await client.aclose()


def of_shard(number: int) -> str:
    return next(key for key in map(str, range(100)) if shard_of(key, "", "", 2) == number)


def paid(id: str, shard: int = 1, **extensions: str) -> Event:
    return build(
        "billing", "paid.fully", {}, id=id, extensions={"partitionkey": of_shard(shard), **extensions}
    )


async def test_a_follow_up_goes_where_its_partitionkey_says_and_others_stay(pair: Pair):
    await pair.settle(paid("there"), paid("here", 0), build("billing", "paid.fully", {}, id="plain"))

    assert await pair.waiting() == 1
    assert await pair.target().relay()
    assert not await pair.target().relay()
    assert await pair.stored() == ["there"]
    here = await pair.redis[0].xrange(pair.keys[0].events("paid"))
    assert [id_of(fields[b"e"]) for _, fields in here] == ["here", "plain"]
    assert await pair.redis[1].hget(pair.keys[1].counters(), "published") == b"1"


async def test_one_that_is_killed_before_it_removes_an_event_publishes_it_no_second_time(pair: Pair):
    await pair.settle(paid("once"))
    outbox = pair.keys[0].outbox(1)
    [(_, fields)] = await pair.redis[0].xrange(outbox)
    await pair.target().relay()
    await pair.redis[0].xadd(outbox, fields)  # as if it had not been removed

    assert await pair.target().relay()
    assert await pair.stored() == ["once"]
    assert await pair.waiting() == 0


async def test_what_is_no_event_and_what_contradicts_one_is_passed_over(pair: Pair):
    await pair.settle(paid("first"))
    await pair.target().relay()
    outbox = pair.keys[0].outbox(1)
    await pair.redis[0].xadd(outbox, {"e": b"garbage"})
    await pair.redis[0].xadd(outbox, {"x": b"y"})
    await pair.settle(paid("first", subject="other"), paid("second"), id="e2")

    assert await pair.target().relay()
    assert await pair.stored() == ["first", "second"]
    assert await pair.waiting() == 0


async def test_a_tick_goes_to_the_shard_of_its_partitionkey_once_and_one_without_stays(pair: Pair):
    with open_sync(pair.settings[0], "beat") as client:
        second = round(time.time()) * 1000 - 1_000
        for name, more in (("there", {"partitionkey": of_shard(1)}), ("here", {})):
            entry = parse_entry({"name": name, "every": "366d", "event": {"type": "paid.due", **more}})
            change = Change(name, b"", entry.to_json(), second)
            assert lua.run_sync(client, store_call(pair.keys[0], [change])) == [True]
        Ticker(client, pair.keys[0], pair.settings[0], "beat@test:1").tick(5)
    [(_, fields)] = await pair.redis[0].xrange(pair.keys[0].outbox(1))
    assert await pair.redis[0].hget(pair.keys[0].counters(), "published") == b"1"

    assert await pair.target().relay()
    await pair.redis[0].xadd(pair.keys[0].outbox(1), fields)  # as if the relay had been killed in between
    assert await pair.target().relay()

    here = await pair.redis[0].xrange(pair.keys[0].events("paid"))
    assert await pair.stored() == [names.tick_id("there", second)]
    assert [id_of(fields[b"e"]) for _, fields in here] == [names.tick_id("here", second)]


async def test_events_wait_while_the_other_shard_is_away_and_go_when_it_is_back(pair: Pair):
    pair.server.stop(kill=True)
    await pair.settle(paid("late"))
    relay = OutboxRelay(pair.redis[0], pair.keys[0], pair.settings[0])
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0.3)
    assert await pair.waiting() == 1

    pair.server.start()
    async with asyncio.timeout(10):
        while await pair.waiting():
            await asyncio.sleep(0.05)
    assert await pair.stored() == ["late"]
    await pair.settle(paid("next"), id="e2")
    relay.changed()
    async with asyncio.timeout(3):  # at once, and not at the next look
        while await pair.waiting():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_own_shard_that_is_away_for_a_moment_is_no_fault_of_the_relay(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    tried = 0
    again = asyncio.Event()

    async def relay(self: Target) -> bool:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise RedisConnectionError("away")
        again.set()
        return False

    monkeypatch.setattr(Target, "relay", relay)
    with capture_logs() as logged:
        role = keep_on("outbox relay", OutboxRelay(pair.redis[0], pair.keys[0], pair.settings[0]).run)
        running = asyncio.create_task(role)
        async with asyncio.timeout(5):
            await again.wait()
        await end([running])

    assert [one["event"] for one in logged] == ["redis.away"]
