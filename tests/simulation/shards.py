"""A mesh of two shards: what belongs to the other one is brought there, once."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import Any

import orjson
import redis.asyncio
from streammesh import Context, Service
from streammesh.keys import Keys
from streammesh.shards import shard_of

from tests.simulation import checkers
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "an event was brought into the other shard",
    "an event stayed in its shard",
)
TYPE, SENT, SHARDS = "user.registered", "mail.sent", 2


def shard(world: World, number: int) -> World:
    """Return the world as one shard has it: processes and what outsiders know are those of the whole."""
    one = copy.copy(world)
    one.settings = world.settings.of_shard(number)
    one.keys = Keys(one.settings.namespace)
    return one


def two_shards(*, events: int = 4, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: each handler publishes with its outcome an event whose `partitionkey` is of a shard by chance; a
    dispatcher and a worker in each shard. Each of these events is stored in its own shard, once, and done there once.
    """
    kinds = tuple(
        kind for kind in kinds if kind != FORGETS
    )  # a second lost in both shards is looked at for one mesh only

    async def run() -> None:
        async with a_world(budget, kinds=kinds, settings={"shards": SHARDS}) as world:
            parts = [shard(world, number) for number in range(SHARDS)]

            def make(part: World) -> Any:
                def service(host: str) -> Service:
                    made = Service("mail", settings=part.settings)

                    @made.on(TYPE, retries=3, backoff=0.1, breaker=False)
                    async def welcome(data: Any, ctx: Context) -> None:
                        world.told.ran[ctx.task_id].append((ctx.attempt, host))
                        ctx.publish(SENT, {"of": ctx.event.id}, partitionkey=data["key"])
                        if data["fails"] and ctx.attempt == 1:
                            raise RuntimeError("not yet")

                    @made.on(SENT, retries=3, backoff=0.1, breaker=False)
                    async def note(data: Any, ctx: Context) -> None:
                        world.told.ran[ctx.task_id].append((ctx.attempt, host))

                    return made

                return service

            ids = [f"e{n}" for n in range(events)]
            keys = {id_: random.choice(("ada", "bob", "cid", "dan")) for id_ in ids}
            home = {id_: shard_of(None, "outside", id_, SHARDS) for id_ in ids}
            target = {id_: shard_of(keys[id_], "mail", "", SHARDS) for id_ in ids}

            def data(id_: str) -> dict[str, Any]:
                return {"key": keys[id_], "fails": id_ == "e1"}

            for number, part in enumerate(parts):
                await part.register(make(part)("first"))
                world.start(f"dispatcher {number}", part.dispatcher)
                world.start(f"mail {number}", worker(part, make(part)))
                mine = [id_ for id_ in ids if home[id_] == number]
                world.start(f"publisher {number}", part.publisher(mine, TYPE, data))

            async def missing(client: redis.asyncio.Redis) -> str:
                if len(world.told.accepted) < events:
                    return "events not accepted yet"
                done = 0
                for number, part in enumerate(parts):
                    told = await checkers.notes(client, part)
                    done += sum(kind == "event.completed" for _, kind, _ in told)
                    if left := await client.xlen(part.keys.outbox(1 - number)):
                        return f"{left} in the outbox of shard {number}"
                    if left_over := await checkers.quiet(client, part, ["mail"]):
                        return left_over
                return f"{done} events completed" if done < 2 * events else ""

            await world.settle(missing)

            async def check(client: redis.asyncio.Redis) -> None:
                history = world.striker.history
                for number, part in enumerate(parts):
                    wanted = Counter(id_ for id_ in ids if target[id_] == number)
                    stored = await client.xrange(part.keys.events("mail"))
                    found = Counter(orjson.loads(fields[b"e"])["data"]["of"] for _, fields in stored)
                    assert found == wanted, f"shard {number} has {found}, not {wanted}; {history}"
                    ends = await checkers.ends(client, part)
                    wrong = {task: kinds for task, kinds in ends.items() if kinds != ["task.succeeded"]}
                    assert not wrong, f"not ended once: {wrong}; {history}"
                    here = sum(one == number for one in home.values())
                    assert len(ends) == here + wanted.total(), f"{len(ends)} tasks in shard {number}"
                moved = sum(home[id_] != target[id_] for id_ in ids)
                sometimes("an event was brought into the other shard", moved > 0)
                sometimes("an event stayed in its shard", moved < events)

            await world.plain(check)

    return run
