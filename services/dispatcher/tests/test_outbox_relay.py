"""What is published in one shard and belongs to another is stored there once, and leaves the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import redis.asyncio
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.events.envelope import Event, build, from_json
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.shards import shard_of
from streammesh.tasks.settlement import Ending

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
