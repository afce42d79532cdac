"""What is administered beside the way of a task: API keys, schedules, alerts, and keys where something else lies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sized
from datetime import timedelta
from typing import Any

import orjson
import redis.asyncio
from streammesh import Reject, lua
from streammesh.api_keys import ApiKeys
from streammesh.errors import ApiKeyExists
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.refused_services import refusal_call
from streammesh.schedules import ScheduleEntry, parse_entry, plan_sync
from streammesh.schedules.store import read_call, store_call

from services.scheduler.alert_watch import AlertWatch
from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.witness import witness
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a name of an API key was taken",
    "an API key was rotated twice because an answer was lost",
    "a schedule had changed when a change of it was to be stored",
    "an alert was raised",
    "something else that lay under a key was set aside",
)
TYPE = "user.registered"


def api_keys(*, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two people make, rotate and revoke API keys of the same names."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, one_in=4) as world:
            given: dict[str, list[str]] = {
                "shop": [],
                "till": [],
            }  # name -> secrets in the order in which they were given
            rotated: Counter[str] = Counter()

            def make(name: str) -> Errand:
                async def errand(client: redis.asyncio.Redis) -> None:
                    try:
                        given[name].append(await ApiKeys(client, world.keys).create(name, publish=["user.*"]))
                    except ApiKeyExists:
                        sometimes("a name of an API key was taken")

                return errand

            def rotate(name: str) -> Errand:
                async def errand(client: redis.asyncio.Redis) -> None:
                    rotated[name] += 1
                    given[name].append(await ApiKeys(client, world.keys).rotate(name, timedelta(0)))
                    sometimes("an API key was rotated twice because an answer was lost", rotated[name] > 1)

                return errand

            async def revoke(client: redis.asyncio.Redis) -> None:
                await ApiKeys(client, world.keys).revoke("till")

            world.start("operator a", operator(world, [make("shop"), make("till"), rotate("shop")]))
            world.start("operator b", operator(world, [make("shop"), make("till")]))
            await world.until_errands_are_done()
            world.start("operator c", operator(world, [revoke]))
            await world.until_errands_are_done()

            async def check(client: redis.asyncio.Redis) -> None:
                keys = await ApiKeys(client, world.keys).list()
                assert [key.name for key in keys] == ["shop"], f"{keys}; {world.striker.history}"
                valid = [s for s in given["shop"] if await ApiKeys(client, world.keys).verify(s)]
                assert valid == given["shop"][-1:], f"valid: {valid}, given: {given}; {world.striker.history}"
                assert not [s for s in given["till"] if await ApiKeys(client, world.keys).verify(s)]

            await world.plain(check)

    return run


def entry(name: str, every: str) -> ScheduleEntry:
    """Return a schedule."""
    return parse_entry(
        {
            "name": name,
            "every": every,
            "misfire": "all",
            "origin": "file",
            "event": {"type": "clock.ticked", "data": {}},
        }
    )


class Wishes:
    """What several people want the schedules to be; each makes them so, whatever the others want.

    Two who want different things could undo each other's for ever. So each is done when all of his own was stored,
    and stands or was overruled: somebody else has sent changes since. With nobody else about it has to stand.
    """

    def __init__(self, keys: Keys, losses: Sized) -> None:
        self._keys, self._losses = keys, losses
        self._sent: list[Errand] = []  # whose changes were sent, in order

    def sync(self, *entries: ScheduleEntry) -> Errand:
        """Return an errand that makes the schedules what the entries say."""
        # When it was all stored: how much was sent before that was read, and how often something was forgotten.
        stored_whole: tuple[int, int] | None = None

        async def errand(client: redis.asyncio.Redis) -> None:
            nonlocal stored_whole
            before, stored_whole = stored_whole, None
            since, losses = len(self._sent), len(self._losses)
            now, stored = await lua.run(client, read_call(self._keys))
            changes = plan_sync(stored, entries, now)
            if not changes:
                return
            if before is not None and before[1] == losses:
                overruled = any(who is not errand for who in self._sent[before[0] : since])
                if overruled:
                    return
            self._sent.append(errand)
            made = await lua.run(client, store_call(self._keys, changes))
            sometimes("a schedule had changed when a change of it was to be stored", not all(made))
            stored_whole = (since, losses) if all(made) else None
            raise NotYet

        return errand


def changing_schedules(*, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: schedules are stored, changed and removed by two people while two Beats fire them."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            sync = Wishes(world.keys, world.losses).sync
            for name in ("beat a", "beat b"):
                world.start(name, world.beat)
            often, seldom = entry("often", "1s"), entry("often", "2s")
            first = [sync(often), wait(1.5), sync(seldom, entry("other", "1s")), wait(2.0), sync()]
            world.start("operator a", operator(world, first))
            await asyncio.sleep(random.choice((0.0, 1.5)))
            # Who wants nothing of his own here only reads what stands: his changes come to none.
            world.start("operator b", operator(world, [sync(often)]))
            await world.until_errands_are_done()
            # What somebody's process had sent before it stood still may arrive after all.
            world.start("operator c", operator(world, [wait(4.0), sync()]))
            await world.until_errands_are_done()

            async def check(client: redis.asyncio.Redis) -> None:
                found = await client.xrange(world.keys.events("clock"))
                due: Counter[tuple[str, str]] = Counter()
                for _, fields in found:
                    event = orjson.loads(fields[b"e"])
                    due[event["source"], event["id"]] += 1
                assert all(count == 1 for count in due.values()), (
                    f"published twice: {due}; {world.striker.history}"
                )
                left = await client.hgetall(world.keys.schedules())
                assert not left, f"removed schedules are there: {left}; {world.striker.history}"
                assert not await client.zcard(world.keys.schedules_due()), (
                    "a removed schedule stands somewhere"
                )

            await world.plain(check)

    return run


def alerts(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two schedulers watch for dead letters; each letter is told of in one alert."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:

            async def act(data: Any, ctx: Any) -> Any:
                raise Reject("it never fits")

            make = witness(world, act)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]

            async def watch(host: str) -> None:
                client = open_async(world.settings, "alerts")
                from streammesh.roles import keep_on

                watcher = AlertWatch(client, world.keys, world.settings, timedelta(seconds=1))
                await keep_on("alerts", watcher.run)

            for name in ("scheduler a", "scheduler b"):
                world.start(name, watch)
            await world.plain_until(lambda client: client.exists(world.keys.alerted()))
            world.start("dispatcher", world.dispatcher)
            world.start("mail", worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}, every=0.8))
            refused = (("mail", "it has another key"), ("stranger", "it has no key"), ("mail", ""))
            world.start("operator", operator(world, [_note(world, *one) for one in refused]))

            async def told(client: redis.asyncio.Redis) -> list[dict[str, Any]]:
                found = await client.xrange(world.keys.events("alert"))
                return [orjson.loads(fields[b"e"])["data"] for _, fields in found]

            async def done(client: redis.asyncio.Redis) -> str:
                if missing := await checkers.all_told(client, world, ["mail"], events, events):
                    return missing
                letters = sum(int(data["dead_letters"]) for data in await told(client))
                return "" if letters >= events else f"{letters} letters told of"

            await world.settle(done)

            async def check(client: redis.asyncio.Redis) -> None:
                sometimes("an alert was raised", bool(await told(client)))
                letters = sum(int(data["dead_letters"]) for data in await told(client))
                assert letters == events, f"{letters} letters told of, not {events}; {world.striker.history}"
                noted = await client.hkeys(world.keys.refusals())
                assert noted == [b"stranger"], f"refused: {noted}; {world.striker.history}"

            await world.plain(check)

    return run


def _note(world: World, service: str, reason: str) -> Errand:
    """Return an errand: a worker notes that it was refused, or let in."""
    return lambda client: lua.run(client, refusal_call(world.keys, service, reason))


def wrong_types(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: somebody writes text under keys of the mesh; it is set aside, and the mesh goes on."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            keys = world.keys
            make = witness(world)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            targets = [
                keys.alive("dispatcher"),
                keys.tasks_recent(),
                keys.counters(),
                keys.last_seen(),
                keys.failures(),
            ]

            async def write(client: redis.asyncio.Redis) -> None:
                for key in random.sample(targets, 3):
                    await client.set(key, "somebody was here")

            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            world.start("mail", worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}, every=0.3))
            for _ in range(3):
                await world.plain(write)
                await asyncio.sleep(random.random())
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )
            aside = await world.plain(lambda client: client.keys("*aside*"))
            sometimes("something else that lay under a key was set aside", bool(aside))

    return run
