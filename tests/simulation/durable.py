"""Durable handlers, which sleep and wait without a worker, and the archiver, which writes down what has ended."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import detangle
import redis.asyncio
from streammesh import Context, Service, lua
from streammesh.durable.calls import DurableCalls
from streammesh.history.store import HistoryBatch
from streammesh.names import task_id as name_of_task
from streammesh.redisio.client import open_async
from streammesh.roles import keep_on
from streammesh.tasks.records import Rows

from services.archiver.archiver import Archiver
from services.archiver.settings import ArchiverSettings
from services.archiver.stream_group import StreamGroup
from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a step was recorded by one worker and read by another",
    "a durable handler was woken by an event",
    "an event was written into the history before it had ended",
)
TYPE, PAID, TASK = "user.registered", "bill.paid", "orders.place"
PATIENCE = 60.0  # seconds for an answer
OWN = ArchiverSettings(_env_file=None, linger="300ms", reclaim_idle="1s", look_every="1s")


class Books:
    """The history's tables, in the memory of the schedule."""

    def __init__(self) -> None:
        self.events: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}

    def write(self, batch: HistoryBatch) -> set[tuple[str, str]]:
        """Write; answer which of the ends are of events that are there."""
        for event in batch.events:
            sometimes("an event was written into the history before it had ended", event.ended is None)
            if self.events.get(event.id, event).ended is None or event.ended is not None:
                self.events[event.id] = event
        self.tasks.update({task.id: task for task in batch.tasks})
        known = [end for end in batch.ends if end.id in self.events]
        for end in known:
            self.events[end.id] = self.events[end.id]._replace(state=end.state, ended=end.ended)
        return {(end.id, end.source) for end in known}

    def recount(self, ids: Any) -> None:
        """Nothing is replayed here."""


def archiver(world: World, books: Books) -> Callable[[str], Any]:
    """Return a role: an archiver that writes into `books`."""

    async def role(host: str) -> None:
        client = open_async(world.settings, "archiver")
        blocking = open_async(world.settings, "archiver-ears", blocking=True)
        group = StreamGroup(client, blocking, host, world.settings.redis_timeout)
        store: Any = books
        await keep_on("archiver", Archiver(client, group, world.keys, world.settings, OWN, store).run)

    return role


def durable(*, events: int = 2, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: runs of several steps, which sleep, wait for a payment and for an answer; two workers, two
    archivers. A step that was recorded is not made again, each run ends once, and all of it is in the history."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            approved: dict[str, float] = {}
            heard: dict[str, float] = {}
            made: defaultdict[tuple[str, str], list[str]] = defaultdict(list)  # task, step -> what happened

            def make(host: str) -> Service:
                service = Service("orders", settings=world.settings)

                @service.on(TYPE, retries=5, backoff=0.1, breaker=False, waits={PAID: "data.order"})
                async def place(data: Any, ctx: Context) -> Any:
                    async def work(name: str) -> str:
                        made[ctx.task_id, name].append("ran")
                        await asyncio.sleep(0.05)
                        return host

                    async def step(name: str) -> None:
                        by = await ctx.step(name, work, name)
                        made[ctx.task_id, name].append("kept")
                        sometimes("a step was recorded by one worker and read by another", by != host)

                    world.told.ran[ctx.task_id].append((ctx.attempt, host))
                    await step("before")
                    paid = await ctx.wait_for(PAID, match={"data.order": data["order"]}, timeout=2)
                    sometimes("a durable handler was woken by an event", paid is not None)
                    await ctx.sleep(0.2)
                    await step("after")
                    answer = await ctx.wait_for_signal("approval", timeout=PATIENCE)
                    heard[ctx.task_id] = detangle.now()
                    return answer

                return service

            calls = DurableCalls(world.keys, world.settings)

            def approve(task: str) -> Errand:
                async def errand(client: redis.asyncio.Redis) -> None:
                    rows = await Rows(client, world.keys).tasks([task])
                    if not rows:
                        if world.losses:
                            return  # what was forgotten never comes; the wait ends when its time is over
                        raise NotYet
                    await lua.run(client, calls.signal(rows[0], "approval", b"true"))
                    approved[task] = detangle.now()

                return errand

            await world.register(make("first"))
            ids, bills = [f"e{n}" for n in range(events)], [f"p{n}" for n in range(events)]
            books = Books()
            world.start("dispatcher", world.dispatcher)
            for name in ("orders a", "orders b"):
                world.start(name, worker(world, make))
            for name in ("archiver a", "archiver b"):
                world.start(name, archiver(world, books))
            world.start("publisher a", world.publisher(ids, TYPE, lambda id_: {"order": id_[1:]}))
            world.start(
                "publisher b", world.publisher(bills, PAID, lambda id_: {"order": id_[1:]}, every=0.3)
            )
            early_or_late = wait(random.choice((0.0, 2.0)))  # before it is waited for, or after
            errands = [approve(name_of_task("outside", id_, TASK)) for id_ in ids]
            world.start("operator", operator(world, [early_or_late, *errands]))

            async def done(client: redis.asyncio.Redis) -> str:
                if missing := await checkers.all_told(client, world, ["orders"], 2 * events, 2 * events):
                    return missing
                ended = sum(event.ended is not None for event in books.events.values())
                if ended < 2 * events:
                    return f"{ended} events are in the history as ended"
                # Another archiver may write them, and it may have died meanwhile.
                left = set(await checkers.ends(client, world)) - set(books.tasks)
                return f"{left} are not in the history" if left else ""

            await world.settle(done)

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                wrong = {task: kinds for task, kinds in ends.items() if kinds != ["task.succeeded"]}
                assert not wrong, f"not ended once: {wrong}; {world.striker.history}"
                for (task, step), what in made.items():
                    again = "kept" in what and "ran" in what[what.index("kept") :]
                    assert not again, f"{step} of {task} was made again: {what}; {world.striker.history}"
                late = {task for task, at in approved.items() if heard[task] - at > PATIENCE / 2}
                assert not late, f"approved and not woken: {late}; {world.striker.history}"

            await world.plain(check)

    return run
