"""What reaches over two shards: events that a run of the other one waits for, and events that cancel it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import redis.asyncio
from streammesh import Context, Service, lua
from streammesh.durable.other_shards import OtherShards
from streammesh.events.envelope import build
from streammesh.events.publisher import Published
from streammesh.keys import Keys
from streammesh.names import task_id as name_of_task
from streammesh.redisio.client import open_async
from streammesh.redisio.shard_marks import mark_call
from streammesh.shards import ShardedPublisher, shard_of
from streammesh.tasks.records import Rows

from tests.simulation import checkers
from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.operators import Errand, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.shards import SERVERS, SHARDS, shard, unrest
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a run was woken by an event of another shard",
    "a run was cancelled by an event of another shard",
    "an event for a run of another shard was on its way",
    "nothing was on its way from another shard",
    "both processes of a mesh that begins marked its shards",
)
PLACED, PAID, REFUSED, TASK = "order.placed", "bill.paid", "bill.refused", "orders.fulfil"
PATIENCE = {PAID: 90, REFUSED: 90, "": 4}  # seconds that a run waits for its payment
KEYS = ("ada", "bob", "cid", "dan")


@dataclass
class Plan:
    """What is tried in one schedule: for each order what follows it, and the `partitionkey` of each of the two."""

    then: dict[str, str]  # PAID, REFUSED or ''
    keys: dict[str, tuple[str, str]]

    def home(self, order: str) -> int:
        """Return the shard of an order."""
        return shard_of(self.keys[order][0], "", "", SHARDS)

    def bill_in(self, order: str) -> int:
        """Return the shard in which its bill is published."""
        return shard_of(self.keys[order][1], "", "", SHARDS)


class _Asked(OtherShards):
    """The other shards, asked over connections of the simulated loop."""

    def _at(self, number: int) -> tuple[Any, Keys]:
        settings = self._whole.of_shard(number)
        return BlockingClient(open_async(settings, "expectations")), Keys(settings.namespace)


def _task(order: str) -> str:
    return name_of_task("outside", order, TASK)


def over_shards(*, orders: int = 4, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: orders in two shards, each of which waits for its payment; some are paid, some refused, which
    cancels them, each in a shard by chance. Who was paid goes on, who was refused ends as cancelled, the others wait in vain.
    """
    kinds = tuple(kind for kind in kinds if kind != FORGETS)  # of one mesh only, as in shards.py

    async def run() -> None:
        servers = random.choice((SERVERS, SERVERS, SERVERS, SERVERS[:1]))
        async with a_world(budget, kinds=kinds, settings={"shards": SHARDS}, servers=servers) as world:
            parts = [shard(world, number) for number in range(SHARDS)]
            ids = [f"o{n}" for n in range(orders)]
            then = {order: random.choice((PAID, PAID, REFUSED, "")) for order in ids}
            plan = Plan(then, {order: (random.choice(KEYS), random.choice(KEYS)) for order in ids})
            births: set[str] = set()
            for number, part in enumerate(parts):
                make = _orders(world, part)
                await part.register(make("first"))
                world.start(f"dispatcher {number}", part.dispatcher)
                world.start(f"orders {number}", worker(part, make))
            world.start("publisher", _publisher(world, plan))
            for number, part in enumerate(parts):
                looks = [wait(random.choice((0.0, 0.4, 2.0))), _look(part, plan, number)]
                errands = [_mark(part, number, births), *looks, *looks]
                world.start(f"operator {number}", operator(part, errands))

            async def missing(_: redis.asyncio.Redis) -> str:
                wanted = orders + sum(bool(kind) for kind in then.values())
                if (told := len(world.told.accepted)) < wanted:
                    return f"{told} of {wanted} events accepted"
                ended = 0
                for number, part in enumerate(parts):
                    ends = await part.plain(partial(checkers.ends, world=part))
                    ended += sum(bool(ends.get(_task(order))) for order in ids)
                    if left := await part.plain(partial(_unrest, part=part, number=number)):
                        return str(left)
                return "" if ended == orders else f"{ended} orders have ended"

            await world.settle(missing, seconds=180)
            for number, part in enumerate(parts):
                await part.plain(partial(_check, part=part, plan=plan, number=number))
            sometimes("both processes of a mesh that begins marked its shards", len(births) == SHARDS)

    return run


def _orders(world: World, part: World) -> Callable[[str], Service]:
    def make(host: str) -> Service:
        service = Service("orders", settings=part.settings)

        @service.on(
            PLACED,
            retries=3,
            backoff=0.1,
            breaker=False,
            waits={PAID: "data.order"},
            cancel_on={REFUSED: "data.order"},
        )
        async def fulfil(data: Any, ctx: Context) -> bool:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))
            await asyncio.sleep(random.choice((0.0, 0.0, 0.4)))
            paid = await ctx.wait_for(PAID, match={"data.order": data["order"]}, timeout=data["patience"])
            return paid is not None

        return service

    return make


def _publisher(world: World, plan: Plan) -> Callable[[str], Any]:
    """Publish orders, and what follows each, until it is answered, under the same id; each bill is later than its order."""

    async def publish(publisher: ShardedPublisher, event_type: str, id_: str, key: str, data: Any) -> None:
        event = build("outside", event_type, data, id=id_, extensions={"partitionkey": key})

        async def send() -> Published:
            [answer] = await publisher.publish_events([event])
            return answer

        await world.publish(id_, send)

    async def role(host: str) -> None:
        publisher = ShardedPublisher(world.settings, "outside")
        for order, kind in plan.then.items():
            first, second = plan.keys[order]
            await publish(publisher, PLACED, order, first, {"order": order, "patience": PATIENCE[kind]})
            await asyncio.sleep(random.choice((0.05, 0.05, 0.6, 2.0)))  # never before it, by the other clock
            if kind:
                await publish(publisher, kind, f"b{order}", second, {"order": order})

    return role


def _mark(part: World, number: int, births: set[str]) -> Errand:
    """Return an errand: a process of a mesh that begins marks its shard; what was noted first stays."""
    mine = f"birth-{random.random()}"

    async def errand(client: redis.asyncio.Redis) -> None:
        noted = await lua.run(client, mark_call(part.keys, SHARDS, number, mine))
        again = await lua.run(client, mark_call(part.keys, SHARDS, number, "another", is_whole=True))
        assert (noted.shards, noted.shard) == (SHARDS, number), f"{noted}; {part.striker.history}"
        assert again.birth == noted.birth == mine, f"{again} after {noted}; {part.striker.history}"
        assert not again.is_whole, f"{again}; {part.striker.history}"
        births.add(mine)

    return errand


def _look(part: World, plan: Plan, number: int) -> Errand:
    """Return an errand: the other shard is asked whether a payment is on its way here. Where none is, no run waits for one."""

    async def errand(client: redis.asyncio.Redis) -> None:
        paid = [
            order
            for order, kind in plan.then.items()
            if kind == PAID and f"b{order}" in part.told.accepted
            if plan.home(order) == number != plan.bill_in(order)
        ]
        asked = _Asked(part.settings)
        is_open = await on_this_loop(asked._sends, 1 - number, "orders", "bill", 0)
        sometimes("an event for a run of another shard was on its way", is_open)
        sometimes("nothing was on its way from another shard", bool(paid) and not is_open)
        if is_open or not paid:
            return
        rows = await Rows(client, part.keys).tasks([_task(order) for order in paid])
        left = [row.id for row in rows if row.state == "waiting"]
        assert not left, (
            f"{left} wait in shard {number} for what is said to have come; {part.striker.history}"
        )

    return errand


async def _unrest(client: redis.asyncio.Redis, part: World, number: int) -> str:
    if await client.zcard(part.keys.cancelling()):
        return f"something is to be cancelled in shard {number}"
    return await unrest(client, part, number, "orders")


async def _check(client: redis.asyncio.Redis, part: World, plan: Plan, number: int) -> None:
    """Hold how the orders of one shard ended against what was published."""
    history, ends = part.striker.history, await checkers.ends(client, part)
    for order, kind in plan.then.items():
        task = _task(order)
        if plan.home(order) != number:
            assert task not in ends, f"{order} is known in shard {number}; {history}"
            continue
        wanted = "task.cancelled" if kind == REFUSED else "task.succeeded"
        assert ends.get(task) == [wanted], f"{order}, {kind}, ended as {ends.get(task)}; {history}"
        outcome = orjson.loads(await client.hget(part.keys.task(task), "outcome") or b"{}")
        is_far = plan.bill_in(order) != number
        if kind == REFUSED:
            by = outcome["error"].get("by", {}).get("id")
            assert by == f"b{order}", f"{order} was cancelled by {by}; {history}"
            sometimes("a run was cancelled by an event of another shard", is_far)
        else:
            assert outcome["result"] is (kind == PAID), f"{order}, {kind}, found {outcome}; {history}"
            sometimes("a run was woken by an event of another shard", kind == PAID and is_far)
    left = await client.zrange(part.keys.cancellable(TASK), 0, -1)
    assert not left, f"ended tasks stand among those that may be cancelled: {left}; {history}"
