"""Small cases: few processes and few events, so that many schedules of each can be tried, or all within a bound."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import Any

import orjson
import redis.asyncio
from detangle.lin import History
from streammesh import Context, Service, lua
from streammesh.clock import SystemClock
from streammesh.errors import MeshError
from streammesh.events import envelope
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.redisio.client import open_async
from streammesh.schedules import parse_entry, plan_sync
from streammesh.schedules.store import store_call
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.records import Rows

from services.dispatcher.lane import Lane
from tests.simulation import checkers
from tests.simulation.determinism import seeded
from tests.simulation.faults import KINDS, know_scripts
from tests.simulation.follower import follower
from tests.simulation.identities import NOT_THERE, Identities
from tests.simulation.operators import NotYet, operator
from tests.simulation.scenarios import Scenario
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import OWN, World

declare(
    "a publisher was told that its event was stored before",
    "a tick was published by the other Beat",
    "an event was looked for before it was published",
)
MANIFEST = Manifest("mail", subscriptions=(Subscription("mail", "mail.welcome", "user.registered"),))


def lane(world: World) -> Any:
    """Return a role: the lane of the service `mail` alone, as a dispatcher runs it."""

    async def again() -> None:
        return None

    async def role(host: str) -> None:
        client = open_async(world.settings, "lane")
        waits = open_async(world.settings, "lane-read", blocking=True)
        reader = GroupReader(client, waits, world.keys, "mail", host, world.settings.redis_timeout)
        queue = world.keys.queue("mail")
        await Lane(
            "mail", ["user"], reader, client, world.keys, world.settings, OWN, lambda: Routes([MANIFEST], "*"),
            again, lambda delivery, raw, _: Encoded(delivery, queue, (b"{}",), raw), SystemClock(),
        ).run()  # fmt: skip

    return role


def two_dispatchers(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two dispatchers and some events, one of them garbage; each is handed over once."""

    async def run() -> None:
        with seeded():
            know_scripts()
            world = World(budget, kinds=kinds, spared=frozenset({"checker"}), one_in=8, long=1.2)
            await world.open()
            await world.register_manifest(MANIFEST)
            ids = [f"e{n}" for n in range(events)]
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, lane(world))
            world.start("publisher", world.publisher(ids, "user.registered", lambda _: {}))

            async def missing(client: redis.asyncio.Redis) -> str:
                if len(world.told.accepted) < events:
                    return "events not accepted yet"
                groups = await client.xinfo_groups(world.keys.events("user"))
                return "" if groups and not groups[0]["pending"] and not groups[0]["lag"] else f"{groups}"

            await world.settle(missing, 60)

            async def check(client: redis.asyncio.Redis) -> None:
                queued = Counter(
                    envelope.from_json(fields[b"b"]).id
                    for _, fields in await client.xrange(world.keys.queue("mail"))
                )
                wanted = Counter(ids)
                assert queued == wanted, (
                    f"too often: {queued - wanted}, lost: {wanted - queued}; {world.striker.history}"
                )

            await world.plain(check)
            await world.plain(lambda client: checkers.stored_once(client, world, "user"))
            world.check_unbroken()

    return run


def two_workers(*, events: int = 2, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two workers and some tasks; the dispatcher and the publisher are spared."""

    async def run() -> None:
        with seeded():
            know_scripts()
            spared = frozenset({"checker", "dispatcher-1", "publisher-1"})
            world = World(budget, kinds=kinds, spared=spared, one_in=6, long=2.6)
            await world.open()

            def make(host: str) -> Service:
                service = Service("mail", settings=world.settings)

                @service.on("user.registered", retries=2, backoff=0.1, backoff_cap=0.2, breaker=False)
                async def welcome(data: Any, ctx: Context) -> dict[str, int]:
                    lives = world.told.ran[ctx.task_id]
                    lives.append((ctx.attempt, host))
                    sometimes("a handler ran again after its worker died", len({h for _, h in lives}) > 1)
                    await asyncio.sleep(random.choice([0.0, 0.05, 0.6]))
                    if ctx.attempt == 1 and data["fails"]:
                        raise RuntimeError("not yet")
                    ctx.publish("mail.sent", {"of": ctx.event.id})
                    return {"attempt": ctx.attempt}

                return service

            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            world.start("dispatcher", world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make))
            world.start(
                "publisher", world.publisher(ids, "user.registered", lambda id_: {"fails": id_ == "e1"})
            )
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events), 90)
            await world.plain(lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1)))
            await world.plain(lambda client: checkers.followed_up_once(client, world, "mail.sent", ids))
            world.check_unbroken()

    return run


def one_client_resuming(*, events: int = 6, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: one follower whose API process is struck, while events come and are unwanted. It resumes
    in their midst too, and finds some that are past."""

    async def run() -> None:
        with seeded():
            know_scripts()
            spared = frozenset({"checker", "dispatcher-1", "publisher-1"})
            world = World(budget, kinds=kinds, spared=spared, one_in=6)
            await world.open()
            ids = [f"e{n}" for n in range(events)]
            world.start("dispatcher", world.dispatcher)
            every = random.choice((0.02, 0.15))
            world.start("publisher", world.publisher(ids, "user.registered", lambda _: {}, every))
            await asyncio.sleep(random.choice((0.0, 0.1)))
            world.start("follower", follower(world))

            async def missing(client: redis.asyncio.Redis) -> str:
                there = len(await checkers.notes(client, world))
                got = len(world.told.followed["follower"])
                return "" if there == got >= events else f"{got} of {there} followed"

            await world.settle(missing, 60)
            await world.plain(lambda client: checkers.gapless(client, world))
            world.check_unbroken()

    return run


def two_beats(*, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two Beats on one schedule; every due time is published once, whoever is struck."""

    async def run() -> None:
        with seeded():
            know_scripts()
            world = World(budget, kinds=kinds, spared=frozenset({"checker"}), one_in=6)
            await world.open()
            entry = parse_entry(
                {
                    "name": "often",
                    "every": "1s",
                    "misfire": "all",
                    "event": {"type": "clock.ticked", "data": {}},
                }
            )

            async def store(client: redis.asyncio.Redis) -> int:
                now = (await client.time())[0] * 1000
                await lua.run(client, store_call(world.keys, plan_sync({}, [entry], now)))
                return int(now)

            await world.plain(store)

            for name in ("beat a", "beat b"):
                world.start(name, world.beat)
            await asyncio.sleep(8)

            async def check(client: redis.asyncio.Redis) -> str:
                found = await client.xrange(world.keys.events("clock"))
                due = [orjson.loads(fields[b"e"])["data"]["due_at"] for _, fields in found]
                assert len(due) == len(set(due)), f"published twice: {due}; {world.striker.history}"
                seconds = [at[11:19] for at in sorted(due)]
                whole = all(int(b[6:]) - int(a[6:]) in {1, -59} for a, b in itertools.pairwise(seconds))
                assert whole, f"a due time was passed over: {seconds}; {world.striker.history}"
                sometimes("a tick was published by the other Beat", len(due) > 1)
                return "" if len(due) >= 3 else f"{len(due)} ticks"

            await world.settle(check, 40)
            world.check_unbroken()

    return run


def publishing_again(*, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two publishers send the same identities; each is stored once, and both are told where."""

    async def run() -> None:
        with seeded():
            know_scripts()
            world = World(budget, kinds=kinds, spared=frozenset({"checker"}), one_in=5)
            await world.open()
            answers: dict[str, set[str]] = {f"e{n}": set() for n in range(3)}
            history = History()
            done: set[str] = set()

            def role(name: str) -> Any:
                async def publish(host: str) -> None:
                    client = open_async(world.settings, "publisher")
                    publisher = Publisher(client, world.keys, world.settings, "outside")
                    for id_ in answers:
                        for _ in range(2):
                            while True:
                                world.told.tried.add(id_)
                                asked = history.invoke(host, "publish", id_)
                                try:
                                    stored = await publisher.publish("user.registered", {"n": id_}, id=id_)
                                    history.ok(asked, stored.entry)
                                    break
                                except MeshError:
                                    history.info(asked)
                                    await asyncio.sleep(0.1)
                            answers[id_].add(stored.entry)
                            world.told.accepted[id_] = stored.entry
                            sometimes(
                                "a publisher was told that its event was stored before", stored.duplicate
                            )
                    done.add(name)

                return publish

            world.start("publisher a", role("a"))
            world.start("publisher b", role("b"))

            async def read(client: redis.asyncio.Redis) -> None:
                for id_ in answers:
                    asked = history.invoke("reader", "read", id_)
                    rows = await Rows(client, world.keys).events(id_)
                    history.ok(asked, rows[0].entry if rows else NOT_THERE)
                    sometimes("an event was looked for before it was published", not rows)
                if len(done) < 2:
                    raise NotYet

            world.start("reader", operator(world, [read]))

            async def missing(_: redis.asyncio.Redis) -> str:
                return "" if len(done) == 2 else f"{done} are done"

            await world.settle(missing, 60)
            for id_, entries in answers.items():
                assert len(entries) == 1, f"{id_} was stored as {entries}; {world.striker.history}"
            await world.plain(lambda client: checkers.stored_once(client, world, "user"))
            history.assert_linearizable(Identities())
            world.check_unbroken()

    return run
