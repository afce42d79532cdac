"""The dispatcher stopped between any two of its awaits, one after the other: whatever it had in hand is done once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import redis.asyncio
from streammesh.clock import SystemClock
from streammesh.events import envelope
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.lua import run
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.handoff import Encoded
from streammesh.testing.conditions import wait_until

from services.dispatcher.lane import Lane
from services.dispatcher.settings import DispatcherSettings
from tests.faults.stopping import cut, run_up_to

pytestmark = pytest.mark.faults
OWN = DispatcherSettings(_env_file=None, block="100ms", reclaim_idle="1ms", reclaim_every="5ms", batch=2)
MANIFEST = Manifest("mail", subscriptions=(Subscription("mail", "mail.welcome", "user.registered"),))
EVENTS = 5
MOST = 400  # awaits; far more than a dispatcher has for this


class Dispatcher:
    """One dispatcher process with one lane, and clients of its own."""

    def __init__(self, name: str, settings: Any) -> None:
        self.keys, self.name = Keys(settings.namespace), name
        self.client, self.blocking = open_async(settings, name), open_async(settings, name, blocking=True)
        reader = GroupReader(self.client, self.blocking, self.keys, "mail", name)
        self.reader = reader
        self.lane = Lane(
            "mail", ["user"], reader, self.client, self.keys, settings, OWN,
            lambda: Routes([MANIFEST], "*"), self._not_again, self._encode, SystemClock(),
        )  # fmt: skip

    def _encode(self, delivery: Any, raw: Any, priority: Any) -> Any:
        return Encoded(delivery, self.keys.queue("mail"), (b"{}",), raw)

    async def _not_again(self) -> None:
        raise AssertionError("the manifests do not change here")

    async def die(self) -> None:
        await cut(self.client, self.blocking)


async def published(client: Any, settings: Any) -> Any:
    keys = Keys(settings.namespace)
    await run(client, register_call(keys, MANIFEST))
    publisher = Publisher(client, keys, settings, "tests")
    for n in range(EVENTS):
        await publisher.publish("user.registered", {}, id=str(n))
    await publisher.publish("user.left", {}, id="unwanted")
    await client.xadd(keys.events("user"), {"e": b"{"})
    return keys


async def outcome(client: Any, keys: Any) -> Any:
    """How often each event was queued, told and parked."""
    queued = [envelope.from_json(f[b"b"]).id for _, f in await client.xrange(keys.queue("mail"))]
    notes = [(f[b"t"].decode(), f[b"e"].decode()) for _, f in await client.xrange(keys.notifications())]
    counters = await client.hgetall(keys.counters())
    return (
        Counter(queued),
        Counter(notes),
        int(counters.get(b"parked", 0)),
        await client.hlen(keys.dead("mail")),
    )


async def test_a_lane_stopped_between_any_two_awaits_hands_everything_over_once(
    mesh_redis: redis.asyncio.Redis, mesh_settings: MeshSettings
) -> None:
    for awaits in range(MOST):
        settings = mesh_settings.model_copy(update={"namespace": f"{mesh_settings.namespace}-{awaits}"})
        keys = await published(mesh_redis, settings)
        first, second = Dispatcher("first", settings), Dispatcher("second", settings)

        async def all_of_it(dispatcher: Any = first) -> None:
            await dispatcher.reader.join(["user"])
            while entries := await dispatcher.reader.read(["user"], OWN.batch, OWN.block):
                await dispatcher.lane.hand_over(entries)

        done = await run_up_to(all_of_it(), awaits)
        await first.die()
        other = asyncio.create_task(second.lane.run())

        async def nothing_left(keys: Any = keys) -> Any:
            [group] = await mesh_redis.xinfo_groups(keys.events("user"))
            return group["lag"] == 0 and group["pending"] == 0

        await wait_until(f"all is handed over after a stop at await {awaits}", nothing_left)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        queued, notes, parked, dead = await outcome(mesh_redis, keys)
        ids = [str(n) for n in range(EVENTS)]
        assert queued == Counter(ids), f"stopped at await {awaits}"
        told = Counter({("task.queued", n): 1 for n in ids} | {("event.unrouted", "unwanted"): 1})
        assert (notes, parked, dead) == (told, 1, 1), f"stopped at await {awaits}"
        for client in (first.client, first.blocking, second.client, second.blocking):
            await client.aclose()
        if done:
            assert awaits > 10
            return
    raise AssertionError(f"it was never through within {MOST} awaits")


async def test_a_promoter_stopped_between_any_two_awaits_lets_everything_go_once(
    mesh_redis: redis.asyncio.Redis, mesh_settings: MeshSettings
) -> None:
    for awaits in range(MOST):
        settings = mesh_settings.model_copy(update={"namespace": f"{mesh_settings.namespace}-{awaits}"})
        keys = Keys(settings.namespace)
        publisher = Publisher(mesh_redis, keys, settings, "tests")
        later = datetime.now(UTC) + timedelta(hours=1)
        for n in range(EVENTS):
            await publisher.publish("user.registered", {}, id=str(n), deliver_at=later)
        due_ms = round(later.timestamp() * 1000) + 1
        first, second = open_async(settings, "first"), open_async(settings, "second")

        async def promote(client: Any = first, keys: Any = keys, due_ms: Any = due_ms) -> None:
            due = DueSet(client, keys)
            await due.now_ms()
            while await due.promote(due_ms, limit=2):
                await due.next_due_ms()

        done = await run_up_to(promote(), awaits)
        await cut(first)
        rest = DueSet(second, keys)
        while await rest.next_due_ms() is not None:
            await rest.promote(due_ms)

        entries = await mesh_redis.xrange(keys.events("user"))
        stored = Counter(orjson.loads(fields[b"e"])["id"] for _, fields in entries)
        assert stored == Counter(str(n) for n in range(EVENTS)), f"stopped at await {awaits}"
        assert await mesh_redis.hlen(keys.due_entries()) == 0
        await first.aclose()
        await second.aclose()
        if done:
            assert awaits > 5
            return
    raise AssertionError(f"it was never through within {MOST} awaits")
