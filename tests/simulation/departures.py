"""What leaves: workers in good order, workers of an older version, services for good, queue entries, old events."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import orjson
import redis.asyncio
from streammesh import Context, Service, lua
from streammesh.retirement import Fate, NoSuchService, Retirement, ServiceAlive
from streammesh.routed import members_of
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.dispatcher.__main__ import dispatch
from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.follower import follower
from tests.simulation.forgetting import Forgotten
from tests.simulation.operators import NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.witness import witness
from tests.simulation.worker import Manner, worker
from tests.simulation.world import OWN

declare(
    "a service was at the head and the router served it",
    "a full service left the router to the others",
    "a service was removed while something waited for it",
    "a removal was done again after it had ended",
    "a task whose queue entry vanished was queued again",
    "events were trimmed while a group had not had them all",
)
TYPE = "user.registered"


def leaving(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two workers leave in good order again and again, with handlers under way, and put entries
    back; consumers that are gone are removed."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:

            async def act(data: Any, ctx: Context) -> Any:
                await ctx.progress(0.5)
                ctx.publish("mail.sent", {"of": ctx.event.id})

            make = witness(world, act, takes=(0.0, 0.3, 1.0))
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            world.start("dispatcher", world.dispatcher)
            manner = Manner(stays=2.0, puts_back_one_in=4, silent_ms=2_000)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make, manner))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )
            await world.plain(lambda client: checkers.followed_up_once(client, world, "mail.sent", ids))

    return run


def deployment(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: an old worker, which does not know a task, and a new one, which registers while the old
    one lives."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, settings={"unknown_task_timeout": "1h"}) as world:
            make = witness(world)
            manifest = make("first").manifest()
            ids = [f"e{n}" for n in range(events)]

            def old(host: str) -> Service:
                service = Service("mail", settings=world.settings)

                @service.on("user.deleted", breaker=False)
                async def goodbye(data: Any) -> None:
                    return None

                return service

            async def register(client: redis.asyncio.Redis) -> None:
                await lua.run(client, register_call(world.keys, manifest))

            world.start("dispatcher", world.dispatcher)
            world.start("mail old", worker(world, old, Manner(stays=3.0)))
            world.start("operator", operator(world, [register]))
            await world.until_errands_are_done()
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            await asyncio.sleep(1.0)
            world.start("mail new", worker(world, make))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events), 240)
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )

    return run


def removal(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: a service whose workers are gone is removed, while events for it and another one come."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            make = witness(world)
            gone = witness(world, name="audit")("first").manifest()
            fate: Fate = random.choice(("drop", "dead-letter"))
            await world.register(make("first"))
            await world.register_manifest(gone)
            ids = [f"e{n}" for n in range(events)]
            rounds = 0

            async def remove(client: redis.asyncio.Redis) -> None:
                nonlocal rounds
                rounds += 1
                try:
                    retired = await Retirement(client, world.keys, world.settings, "audit", fate).run(2.0)
                except NoSuchService:
                    sometimes("a removal was done again after it had ended", rounds > 1)
                    return
                except ServiceAlive as error:
                    raise AssertionError(f"{error}, and no worker of it was ever started") from error
                waited = bool(retired.events or retired.tasks)
                sometimes("a service was removed while something waited for it", waited)
                if not retired.done:
                    raise NotYet

            world.start("dispatcher", world.dispatcher)
            world.start("mail", worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            world.start("operator", operator(world, [wait(random.choice((0.05, 0.3, 0.8))), remove]))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                wrong = {task: kinds for task, kinds in ends.items() if len(kinds) != 1}
                assert not wrong, f"not ended exactly once: {wrong}; {world.striker.history}"
                done = [kinds for kinds in ends.values() if kinds == ["task.succeeded"]]
                assert len(done) == events, f"{len(done)} of mail's {events} tasks succeeded: {ends}"
                groups = await client.xinfo_groups(world.keys.events("user"))
                assert {group["name"] for group in groups} == {b"mail"}, f"groups are left: {groups}"
                manifests = await client.hkeys(world.keys.manifests())
                assert manifests == [b"mail"], f"manifests: {manifests}"
                for key in (world.keys.open_tasks("audit"), world.keys.queue("audit")):
                    assert not await client.exists(key), f"{key} is left; {world.striker.history}"

            await world.plain(check)

    return run


def routed(*, events: int = 8, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two dispatchers route; one service's queue is full again and again, it comes back each time."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            world.settings = world.settings.model_copy(update={"max_queued": 2})
            for service in ("mail", "audit"):
                await world.register_manifest(
                    Manifest(service, subscriptions=(Subscription(service, f"{service}.handle", TYPE),))
                )
            ids = [f"e{n}" for n in range(events)]
            worked: dict[str, set[bytes]] = {"mail": set(), "audit": set()}
            # What is worked off here leaves no outcome, and would be taken for lost.
            own = OWN.model_copy(update={"janitor_every": timedelta(hours=1)})

            async def dispatcher(host: str) -> None:
                await dispatch(world.settings.model_copy(update={"broker_url": None}), own, asyncio.Event())

            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, dispatcher)
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}, every=0.2))

            async def work_off(client: redis.asyncio.Redis, service: str) -> None:
                queue = world.keys.queue(service)
                for position, _ in await client.xrange(queue):
                    worked[service].add(position)
                    await client.xdel(queue, position)

            async def work(client: redis.asyncio.Redis) -> None:
                await work_off(client, "mail")
                found = len(worked["mail"])
                if found % 3 == 0 or found >= events or world.losses:
                    await work_off(client, "audit")

            async def missing(client: redis.asyncio.Redis) -> str:
                served = members_of(await client.hkeys(world.keys.routed("user")))
                sometimes("a service was at the head and the router served it", "mail" in served)
                full = "audit" not in served and "mail" in served
                sometimes("a full service left the router to the others", full)
                return "" if all(len(found) >= events for found in worked.values()) else f"{worked}"

            async def check_record(client: redis.asyncio.Redis) -> None:
                told = await checkers.notes(client, world)
                queued = Counter(
                    (fields[b"e"].decode(), fields[b"v"].decode())
                    for _, kind, fields in told
                    if kind == "task.queued"
                )
                found = await client.xrange(world.keys.events("user"))
                stored = [orjson.loads(fields[b"e"])["id"] for _, fields in found]
                wanted = Counter(itertools.product(stored, worked))
                assert queued == wanted, (
                    f"too often: {queued - wanted}, lost: {wanted - queued}; {world.striker.history}"
                )

            try:
                await world.settle(missing, 120, work)
            except Forgotten:
                await world.plain(check_record)
                raise
            await asyncio.sleep(3.0)

            async def check(client: redis.asyncio.Redis) -> None:
                for service in worked:
                    await work_off(client, service)
                    found = len(worked[service])
                    assert found == events, f"{service}: {found} of {events}; {world.striker.history}"

            await world.plain(check)

    return run


def vanishing(*, events: int = 3, budget: int = 2, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: somebody deletes a queue; its tasks lie nowhere, and are queued again."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            make = witness(world)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            await asyncio.sleep(1.0)

            async def delete(client: redis.asyncio.Redis) -> int:
                return int(await client.delete(world.keys.queue("mail")))

            deleted = await world.plain(delete)
            world.start("mail", worker(world, make))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            told = await world.plain(lambda client: checkers.notes(client, world))
            sometimes("a task whose queue entry vanished was queued again", bool(deleted))
            ended = [fields[b"k"] for _, kind, fields in told if kind in checkers.ENDS]
            assert len(ended) == len(set(ended)) == events, f"ended: {ended}; {world.striker.history}"

    return run


def trimming(*, events: int = 6, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: events are kept for a moment; a follower whose connection breaks goes on all the same.
    What nobody has had yet is not trimmed."""

    async def run() -> None:
        settings = {"retention": "2s", "notifications_kept": 100}
        async with a_world(budget, kinds=kinds, settings=settings, trims=True) as world:
            make = witness(world)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            world.start("dispatcher a", world.dispatcher)
            world.start("dispatcher b", world.dispatcher)
            world.start("follower", follower(world, trims=True))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}, every=0.7))
            await asyncio.sleep(random.choice((0.0, 4.0)))
            world.start("mail", worker(world, make))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            left = await world.plain(lambda client: client.xlen(world.keys.events("user")))
            sometimes("events were trimmed while a group had not had them all", left < events)
            for task, runs in world.told.ran.items():
                assert runs, f"{task} never ran"
            assert len(world.told.ran) == events, f"{len(world.told.ran)} of {events} tasks ran"
            await world.plain(lambda client: checkers.gapless(client, world))

    return run
