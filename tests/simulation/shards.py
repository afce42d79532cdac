"""A mesh of two shards: batches over both, what belongs to the other one is brought there once, and one may be away."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import redis.asyncio
from redis.exceptions import RedisError
from streammesh import Context, Reject, Service, lua
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.dead_letters.replay import Replaying
from streammesh.errors import MeshError
from streammesh.events.envelope import build
from streammesh.events.publisher import Published
from streammesh.keys import Keys
from streammesh.names import task_id as name_of_task
from streammesh.redisio.client import is_unavailable
from streammesh.shards import PartlyStored, ShardedPublisher, shard_of
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import cancel_call

from tests.simulation import checkers
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.operators import Errand, NotYet, operator
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.server import HOST
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "an event was brought into the other shard",
    "an event stayed in its shard",
    "a part of a batch was stored and another shard was away",
    "an event waited in the outbox for a shard that was away",
    "a shard completed events while the other was away",
    "a dead letter of each shard was replayed",
    "a task was cancelled in the shard that knows it",
)
TYPE, SENT, SHARDS, TASK = "user.registered", "mail.sent", 2, "mail.welcome"
SERVERS = (HOST, "redis-b")
PROMPT = 2.0  # seconds in which an event completes where nobody was struck


@dataclass
class Plan:
    """What is tried in one schedule: for each event the shard that it is published in, and its follow-up's `partitionkey`."""

    ids: list[str]
    keys: dict[str, str]
    hopeless: list[str]  # these fail until they are replayed
    cancelled: str | None
    lives: Counter[str] = field(default_factory=Counter)  # replays, by task
    ended: dict[str, str] = field(default_factory=dict)  # event -> as what, as its shard's record says
    follow_ups: dict[int, Counter[str]] = field(default_factory=dict)  # shard -> whose lie there

    def home(self, id_: str) -> int:
        """Return the shard that an event is published in."""
        return shard_of(None, "outside", id_, SHARDS)

    def target(self, id_: str) -> int:
        """Return the shard that its follow-up event belongs to."""
        return shard_of(self.keys[id_], "mail", "", SHARDS)

    def ids_of(self, number: int) -> list[str]:
        """Return the events of a shard."""
        return [id_ for id_ in self.ids if self.home(id_) == number]


def shard(world: World, number: int) -> World:
    """Return the world as one shard has it: processes and what outsiders know are those of the whole."""
    one = copy.copy(world)
    one.settings = world.settings.of_shard(number)
    one.url = one.settings.redis_url
    one.keys = Keys(one.settings.namespace)
    return one


def task_of(id_: str) -> str:
    """Return the task of an event that was published from outside."""
    return name_of_task("outside", id_, TASK)


def two_shards(*, events: int = 6, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: batches are published over two shards, each with a dispatcher and a worker; each handler publishes
    with its outcome an event whose `partitionkey` is of a shard by chance. Some fail until they are replayed, one is
    cancelled, and sometimes the second shard is away for a while. Each event is stored in its own shard, once, and ends once.
    """
    kinds = tuple(
        kind for kind in kinds if kind != FORGETS
    )  # a second lost in both shards is looked at for one mesh only

    async def run() -> None:
        servers = random.choice((SERVERS, SERVERS, SERVERS, SERVERS[:1]))
        async with a_world(
            budget, kinds=kinds, settings={"shards": SHARDS}, servers=servers, lives_again=True
        ) as world:
            parts = [shard(world, number) for number in range(SHARDS)]
            ids = [f"e{n}" for n in range(events)]
            keys = {id_: random.choice(("ada", "bob", "cid", "dan")) for id_ in ids}
            hopeless = random.sample(ids, random.choice((0, 1, 2)))
            others = [id_ for id_ in ids if id_ not in hopeless]
            plan = Plan(ids, keys, hopeless, random.choice((None, random.choice(others))))
            for number, part in enumerate(parts):
                make = _mail(world, part, plan)
                await part.register(make("first"))
                world.start(f"dispatcher {number}", part.dispatcher)
                world.start(f"mail {number}", worker(part, make))
            world.start("publisher", _publisher(world, plan))
            for number, part in enumerate(parts):
                errands = [_replay(part, plan, number)] if hopeless else []
                errands += [_cancel(part, plan, number)] if plan.cancelled else []
                world.start(f"operator {number}", operator(part, errands))
            if len(servers) > 1 and random.random() < 0.5:
                await asyncio.sleep(random.choice((0.0, 0.1, 0.5)))
                await _second_away(world, parts, plan, random.choice((1.0, 5.0)))

            async def missing(_: redis.asyncio.Redis) -> str:
                if len(world.told.accepted) < events:
                    return "events not accepted yet"
                ends: dict[str, list[str]] = {}
                for number, part in enumerate(parts):
                    ends |= await part.plain(partial(checkers.ends, world=part))
                    if left := await part.plain(partial(unrest, part=part, number=number)):
                        return str(left)
                done = [id_ for id_ in ids if ends.get(task_of(id_), [])[-1:] == ["task.succeeded"]]
                over = [id_ for id_ in ids if ends.get(task_of(id_), [])[-1:] == ["task.cancelled"]]
                followed = len(ends) - len({task_of(id_) for id_ in ids} & set(ends))
                wanted = events, len(done)
                found = len(done) + len(over), followed
                return "" if found == wanted else f"{found} have ended, not {wanted}"

            await world.settle(missing)
            for number, part in enumerate(parts):
                await part.plain(partial(_check, part=part, plan=plan, number=number))
            done = [id_ for id_, kind in plan.ended.items() if kind == "task.succeeded"]
            for number, found in plan.follow_ups.items():
                wanted = Counter(id_ for id_ in done if plan.target(id_) == number)
                assert found == wanted, f"shard {number} has {found}, not {wanted}; {world.striker.history}"
            moved = sum(plan.home(id_) != plan.target(id_) for id_ in done)
            sometimes("an event was brought into the other shard", moved > 0)
            sometimes("an event stayed in its shard", moved < len(done))

    return run


def _mail(world: World, part: World, plan: Plan) -> Callable[[str], Service]:
    def make(host: str) -> Service:
        service = Service("mail", settings=part.settings)

        @service.on(TYPE, retries=3, backoff=0.1, breaker=False)
        async def welcome(data: Any, ctx: Context) -> None:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))
            ctx.publish(SENT, {"of": ctx.event.id}, partitionkey=data["key"])
            await asyncio.sleep(random.choice((0.0, 0.01, 0.3)))
            if ctx.event.id in plan.hopeless and not plan.lives[ctx.task_id]:
                raise Reject("it does not fit yet")
            if data["fails"] and ctx.attempt == 1:
                raise RuntimeError("not yet")

        @service.on(SENT, retries=3, backoff=0.1, breaker=False)
        async def note(data: Any, ctx: Context) -> None:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))

        return service

    return make


def _publisher(world: World, plan: Plan) -> Callable[[str], Any]:
    """Publish batches of two and three over both shards, each until all of it is answered, under the same ids."""
    accepted = world.told.accepted
    batches = [plan.ids[:2], plan.ids[2:5], plan.ids[5:]]

    def note(answers: list[Published]) -> None:
        for one in answers:
            before = accepted.setdefault(one.id, one.entry)
            assert before == one.entry, f"{one.id} was answered as {before} and {one}"

    async def role(host: str) -> None:
        publisher = ShardedPublisher(world.settings, "outside")
        for batch in batches:
            while not set(batch) <= set(accepted):
                world.told.tried.update(batch)
                events = [
                    build("outside", TYPE, {"key": plan.keys[id_], "fails": id_ == "e1"}, id=id_)
                    for id_ in batch
                ]
                try:
                    note(await publisher.publish_events(events))
                except PartlyStored as error:
                    sometimes("a part of a batch was stored and another shard was away")
                    note([*error.stored])
                except (MeshError, RedisError, OSError) as error:
                    if not (is_unavailable(error) or isinstance(error, MeshError)):
                        raise
                    await asyncio.sleep(0.1)
            await asyncio.sleep(random.choice((0.02, 0.3)))

    return role


def _replay(part: World, plan: Plan, number: int) -> Errand:
    """Return an errand: the dead letters of a shard are replayed until each of its hopeless events was."""
    mine = {task_of(id_) for id_ in plan.hopeless if plan.home(id_) == number}

    async def errand(client: redis.asyncio.Redis) -> None:
        found, _ = await DeadLetters(client, part.keys).matching(DeadLetterFilter(), 100)
        for letter in found:
            assert letter.id in mine, f"{letter} lies in shard {number}; {part.striker.history}"
            plan.lives[letter.id] += 1  # whoever is told "no answer" may have done it
            await Replaying(client, part.keys, part.settings).replay([letter])
        if found or any(not plan.lives[task] for task in mine):
            raise NotYet
        homes = {plan.home(id_) for id_ in plan.hopeless if plan.lives[task_of(id_)]}
        sometimes("a dead letter of each shard was replayed", len(homes) == SHARDS)

    return errand


def _cancel(part: World, plan: Plan, number: int) -> Errand:
    """Return an errand: each shard is asked for the task that is to be cancelled, and the one that knows it cancels it."""

    async def errand(client: redis.asyncio.Redis) -> None:
        assert plan.cancelled is not None
        is_home = plan.home(plan.cancelled) == number
        rows = await Rows(client, part.keys).tasks([task_of(plan.cancelled)])
        assert is_home or not rows, f"shard {number} knows {rows}; {part.striker.history}"
        if is_home and not rows:
            raise NotYet
        for row in rows:
            answer = await lua.run(client, cancel_call(part.keys, part.settings, row))
            sometimes("a task was cancelled in the shard that knows it", answer.answer in {"done", "asked"})

    return errand


async def _second_away(world: World, parts: list[World], plan: Plan, seconds: float) -> None:
    """Have the second shard away; the first does its work meanwhile, and keeps what belongs to the other."""
    first = parts[0]
    async with world.without(world.servers[1]):
        await asyncio.sleep(seconds - PROMPT if seconds > PROMPT else 0.0)
        there = [id_ for id_ in plan.ids_of(0) if id_ in world.told.accepted]
        await asyncio.sleep(min(seconds, PROMPT))
        ends = await first.plain(lambda client: checkers.ends(client, first))
        waiting = await first.plain(lambda client: client.xlen(first.keys.outbox(1)))
        sometimes("an event waited in the outbox for a shard that was away", waiting > 0)
        completed = [id_ for id_ in there if ends.get(task_of(id_))]
        sometimes("a shard completed events while the other was away", bool(completed))
        if not world.striker.history:
            assert completed == there, f"{there} were to be done while the other shard was away: {ends}"


async def unrest(client: redis.asyncio.Redis, part: World, number: int, service: str = "mail") -> str:
    """Return what is not at rest in a shard, its outbox included."""
    if left := await client.xlen(part.keys.outbox(1 - number)):
        return f"{left} in the outbox of shard {number}"
    return await checkers.quiet(client, part, [service])


async def _check(client: redis.asyncio.Redis, part: World, plan: Plan, number: int) -> None:
    """Hold what lies in one shard against what was published into both."""
    history, mine = part.striker.history, plan.ids_of(number)
    stored = {
        entry.decode(): orjson.loads(fields[b"e"])["id"]
        for entry, fields in await client.xrange(part.keys.events("user"))
    }
    assert Counter(stored.values()) == Counter(mine), (
        f"shard {number} has {stored}, not {mine} once; {history}"
    )
    for id_ in mine:
        entry = part.told.accepted[id_]
        assert stored.get(entry) == id_, f"{id_} was accepted as {entry}: {stored}; {history}"
    ends = await checkers.ends(client, part)
    for id_ in mine:
        kinds = ends.pop(task_of(id_))
        failed = kinds[:-1] if kinds else []
        assert set(failed) <= {"task.failed"}, f"{id_} ended as {kinds}; {history}"
        assert len(failed) == (plan.lives[task_of(id_)] > 0), f"{id_} ended as {kinds}; {history}"
        assert kinds[-1] == "task.succeeded" or (kinds[-1] == "task.cancelled" and id_ == plan.cancelled), (
            f"{id_} ended as {kinds}; {history}"
        )
        plan.ended[id_] = kinds[-1]
    plan.follow_ups[number] = Counter(
        orjson.loads(fields[b"e"])["data"]["of"]
        for _, fields in await client.xrange(part.keys.events("mail"))
    )
    wrong = {task: kinds for task, kinds in ends.items() if kinds != ["task.succeeded"]}
    assert not wrong, f"follow-up events that did not end once: {wrong}; {history}"
    assert len(ends) == plan.follow_ups[number].total(), f"{len(ends)} tasks in shard {number}; {history}"
    left = await client.hlen(part.keys.dead("mail"))
    assert not left, f"{left} dead letters are left in shard {number}; {history}"
