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
from streammesh.cancellation.canceller import Canceller, canceller_subscription
from streammesh.durable.calls import AwaitedEvent, DurableCalls
from streammesh.durable.other_shards import OtherShards
from streammesh.embedded import EmbeddedServer
from streammesh.events.envelope import Event, build, from_json
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.redisio.client import open_sync
from streammesh.roles import end, keep_on
from streammesh.schedules import Change, parse_entry
from streammesh.schedules.store import store_call
from streammesh.schedules.ticker import Ticker
from streammesh.settings import MeshSettings
from streammesh.shards import shard_of
from streammesh.subscriptions.manifest import Subscription, delivery
from streammesh.tasks.handoff import Encoded, Handover
from streammesh.tasks.settlement import Ending
from structlog.testing import capture_logs

from services.dispatcher.canceller import EventCanceller
from services.dispatcher.outbox_relay import OutboxRelay, Target
from tests.harness.moves import SERVICE, Moved, Moves


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


# --- what a shard is told of another one's events ------------------------------------------------

DIGEST, VALUE = "d" * 32, b'{"id":"paid"}'


async def waits(pair: Pair, id: str = "order") -> tuple[Moves, Moved]:
    """A run of the second shard that begins to wait for the event."""
    moves = Moves(pair.redis[1], pair.keys[1], pair.settings[1])
    if id == "order":
        await moves.join()
    moved = await moves.hand_over(id)
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    calls = DurableCalls(moves.keys, moves.settings)
    call = calls.suspend(moved.ref, moved.place, attempt, 1, "w", 60, {"for": "event"}, DIGEST)
    assert await lua.run(moves.redis, call) == "done"
    return moves, moved


async def comes(pair: Pair) -> None:
    """It comes in the first shard."""
    calls = DurableCalls(pair.keys[0], pair.settings[0])
    await lua.run(pair.redis[0], calls.arrive(AwaitedEvent(SERVICE, DIGEST, VALUE, "paid", "tests")))


async def test_an_event_wakes_the_run_that_waits_in_another_shard_once(pair: Pair):
    _, moved = await waits(pair)
    await comes(pair)
    await comes(pair)  # its answer was lost
    [(_, fields)] = await pair.redis[0].xrange(pair.keys[0].outbox(1))

    for _ in range(2):  # the second time as if the relay had been killed in between
        assert await pair.target().relay()
        state, steps, step = await pair.redis[1].hmget(
            pair.keys[1].task(moved.ref.task_id), "state", "steps", "step:w"
        )
        assert (state, steps) == (b"queued", b"1")
        assert step.endswith(b" event " + VALUE)
        await pair.redis[0].xadd(pair.keys[0].outbox(1), fields)


async def test_one_that_was_told_before_the_run_waits_is_found_and_one_that_is_older_is_not(pair: Pair):
    await comes(pair)  # before the run's own event
    [(place, fields)] = await pair.redis[0].xrange(pair.keys[0].outbox(1))
    await pair.redis[0].xdel(pair.keys[0].outbox(1), place)
    await pair.redis[0].xadd(
        pair.keys[0].outbox(1), {**fields, b"at": b"%d" % (int(fields[b"at"]) - 60_000_000)}
    )
    assert await pair.target().relay()
    moves, moved = await waits(pair)
    assert (await moves.row(moved)).state == "waiting"

    await pair.redis[0].xadd(pair.keys[0].outbox(1), {**fields, b"v": b'{"id":"later"}', b"at": b"9" * 16})
    assert await pair.target().relay()
    moves, found = await waits(pair, "second")
    assert (await moves.row(moved)).state == "queued"
    assert (await moves.row(found)).state == "waiting"  # it came before that one's own event


async def test_what_cannot_be_told_holds_up_nothing_and_waits_while_the_shard_is_away(pair: Pair):
    moves, moved = await waits(pair)
    outbox = pair.keys[0].outbox(1)
    for broken in (
        {"s": SERVICE, "d": DIGEST, "v": "x"},
        {"s": "no service", "d": DIGEST, "v": "x", "at": "1" * 16},
        {"s": SERVICE, "d": "../..", "v": "x", "at": "1" * 16},
        {"w": "nothing", "by": "{}", "at": "1" * 16},
    ):
        await pair.redis[0].xadd(outbox, broken)
    await pair.redis[1].set(pair.keys[1].arrived(SERVICE, "e" * 32), "what a script cannot write to")
    calls = DurableCalls(pair.keys[0], pair.settings[0])
    await lua.run(pair.redis[0], calls.arrive(AwaitedEvent(SERVICE, "e" * 32, VALUE, "paid", "tests")))
    await comes(pair)

    with capture_logs() as told:
        pair.server.stop(kill=True)
        assert await pair.target().relay()  # which removes the broken ones
        assert await pair.waiting() == 2
        pair.server.start()
        async with asyncio.timeout(10):
            while await pair.waiting():
                await pair.target().relay()
    assert [one["event"] for one in told].count("outbox.broken") >= 4
    assert (await moves.row(moved)).state == "queued"


async def test_an_event_cancels_what_was_published_before_it_in_another_shard(pair: Pair):
    wants = Subscription(
        SERVICE, f"{SERVICE}.bill", "order.placed", cancel_on={"order.gone": ("data.n", "data.n")}
    )
    cancels = canceller_subscription(wants, "order.gone")
    there = Moves(pair.redis[1], pair.keys[1], pair.settings[1], wants)
    await there.join()
    before = await there.hand_over("before")
    here = Moves(pair.redis[0], pair.keys[0], pair.settings[0], cancels)
    await here.join()
    gone = build("tests", "order.gone", {"n": 1}, id="gone")
    await Publisher(here.redis, here.keys, here.settings, "tests").publish_events([gone])
    [[_, [(place, _)]]] = await here.redis.xreadgroup(SERVICE, "test", {here.keys.events("order"): ">"})
    encoded = Encoded(delivery(gone, cancels), here.keys.queue(SERVICE), (b'{"headers":{}}',), b"[[],{},{}]")
    for _ in range(2):  # its answer was lost
        await here.hand(Handover(place.decode(), gone, 1, [encoded]))
    assert await pair.waiting() == 1
    assert await pair.target().relay()
    await asyncio.sleep(0.01)
    after = await there.hand_over("after")
    await EventCanceller(Canceller(there.keys, there.settings), there.redis, there.keys).run_once()

    assert (await there.row(before)).state == "cancelled"
    assert (await there.row(after)).state == "queued"


async def test_a_run_knows_what_may_still_come_from_another_shard(pair: Pair):
    (here, there) = (Moves(pair.redis[n], pair.keys[n], pair.settings[n]) for n in (0, 1))
    await here.join()
    await there.join()
    moved = await here.hand_over("order")
    task, now = moved.ref.task_id, round(time.time() * 1000)
    others = OtherShards(pair.settings[0])

    async def may_send(last_ms: int = now + 10_000) -> float:
        await here.redis.hset(here.keys.task(task), "last:w", last_ms * 1000)
        return await asyncio.to_thread(others.look_again_in, task, "w", SERVICE, "order")

    assert others.are_there
    assert not OtherShards(MeshSettings(_env_file=None)).are_there
    assert not await may_send()
    [given] = await there.given(("paid", {"n": 1}))  # a lane has it in hand
    assert await may_send()
    assert not await may_send(now - 1_000)  # it was published too late
    await there.hand(given)
    assert not await may_send()
    await there.redis.zadd(there.keys.waking(SERVICE), {"a task": now * 1000})
    assert await may_send()
    await there.redis.delete(there.keys.waking(SERVICE))
    await there.redis.xadd(there.keys.outbox(0), {"s": SERVICE})  # and nobody brings it
    assert await may_send()
    await there.redis.delete(there.keys.outbox(0))
    assert not await may_send()
    pair.server.stop(kill=True)
    assert await may_send() > 1
    assert not await may_send(now - 3_700_000)  # nobody waits for ever
    pair.server.start()
