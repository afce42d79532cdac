"""What people do with work under way: pause and resume, cancel, replay and drop dead letters, purge a queue."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import Any

import redis.asyncio
from streammesh import Context, Reject, lua
from streammesh.audit import Action, note_call
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.dead_letters.replay import Replaying
from streammesh.names import task_id as name_of_task
from streammesh.status.backlog import read_backlogs
from streammesh.status.queues import read_queues
from streammesh.status.streams import read_streams_call
from streammesh.subscriptions.manifest import Manifest
from streammesh.tasks.pause import pause_call
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import cancel_call
from streammesh.transport.purge import cancel_waiting
from streammesh.transport.scripts import QueueCalls

from tests.simulation import checkers
from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.witness import witness
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a task was set aside while its subscription was paused",
    "a task was cancelled before it began",
    "a task was cancelled while it ran",
    "a task had ended when it was to be cancelled",
    "a dead letter was replayed",
    "a replay was done again and found nothing",
    "an event that nobody can read became a dead letter",
    "a purged queue had a task in it",
    "a backlog was counted entry by entry",
    "progress was told",
)
TASK, TYPE = "mail.welcome", "user.registered"


def pausing(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: a subscription is paused and resumed, twice, while events come; backlogs are counted."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            make = witness(world)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]

            def pause(reason: str | None) -> Errand:
                call = pause_call(world.keys, world.settings, TASK, TYPE, reason)
                return lambda client: lua.run(client, call)

            async def count(client: redis.asyncio.Redis) -> None:
                # A group in the middle of a stream whose entries were deleted has no lag of its own.
                await client.xgroup_setid(world.keys.events("user"), "watching", "0-0", entries_read=None)
                found = await read_backlogs(client, world.keys, frozenset({"user"}))
                sometimes("a backlog was counted entry by entry", bool(found))
                await lua.run(client, read_streams_call(world.keys, ["user", "none"]))
                queues = await read_queues(client, world.keys, [Manifest("mail")])
                assert queues["mail"].waiting <= queues["mail"].length, f"{queues}"
                begun = await lua.run(client, note_call(world.keys, Action("ops", "subscription.pause")))
                await lua.run(
                    client, note_call(world.keys, Action("ops", "subscription.pause", status=200), begun)
                )

            async def watch(client: redis.asyncio.Redis) -> None:
                await client.xgroup_create(world.keys.events("user"), "watching", "$", mkstream=True)

            await world.plain(watch)
            world.start("dispatcher", world.dispatcher)
            world.start("mail", worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            errands = [pause("a test"), wait(0.7), count, pause(None), wait(0.3), pause("again"), wait(0.3)]
            world.start("operator", operator(world, [*errands, count, pause(None)]))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )
            held = [
                n
                for n in await world.plain(lambda client: checkers.notes(client, world))
                if n[1] == "task.held"
            ]
            sometimes("a task was set aside while its subscription was paused", bool(held))

    return run


def cancelling(*, events: int = 4, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: every task is cancelled at some moment: queued, running, between attempts, ended."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:

            async def act(data: Any, ctx: Context) -> Any:
                await ctx.progress(0.5, "half")
                sometimes("progress was told")
                if data["fails"] and ctx.attempt == 1:
                    raise RuntimeError("not yet")
                return None

            make = witness(world, act, takes=(0.0, 0.4, 1.5))
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            tasks = {id_: name_of_task("outside", id_, TASK) for id_ in ids}
            verdicts: defaultdict[str, set[str]] = defaultdict(set)
            began: dict[str, int] = {}

            def cancel(task_id: str) -> Errand:
                async def errand(client: redis.asyncio.Redis) -> None:
                    rows = await Rows(client, world.keys).tasks([task_id])
                    if not rows:
                        return
                    answer = await lua.run(client, cancel_call(world.keys, world.settings, rows[0]))
                    verdicts[task_id].add(answer.answer)
                    if answer.answer == "done":
                        began.setdefault(task_id, len(world.told.ran[task_id]))
                    sometimes("a task was cancelled before it began", answer.answer == "done")
                    sometimes("a task was cancelled while it ran", answer.answer == "asked")
                    sometimes("a task had ended when it was to be cancelled", answer.answer == "ended")

                return errand

            world.start("dispatcher", world.dispatcher)
            world.start("mail", worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda id_: {"fails": id_ > "e1"}))
            errands = [wait(0.1 + random.random())]
            for id_ in ids:
                errands += [cancel(tasks[id_]), wait(random.choice((0.0, 0.2)))]
            if random.random() < 0.3:  # who comes much too late
                errands += [wait(3.0), *map(cancel, tasks.values())]
            world.start("operator", operator(world, errands))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                assert set(ends) == set(tasks.values()), f"tasks: {ends}"
                wrong = {task: kinds for task, kinds in ends.items() if len(kinds) != 1}
                assert not wrong, f"not ended exactly once: {wrong}; {world.striker.history}"
                for task, said in verdicts.items():
                    if "done" in said:
                        assert ends[task] == ["task.cancelled"], f"{task} was cancelled and is {ends[task]}"
                        ran = len(world.told.ran[task])
                        assert ran == began[task], (
                            f"{task} began after it was cancelled: {world.striker.history}"
                        )

            await world.plain(check)

    return run


def dead_letters(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: every task fails in its first life and is replayed; garbage in a stream and in a queue
    becomes dead letters, which are dropped."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, lives_again=True) as world:
            lives: Counter[str] = Counter()  # replays that were answered, by task

            async def act(data: Any, ctx: Context) -> Any:
                if not lives[ctx.task_id]:
                    raise Reject("it does not fit yet")
                return None

            make = witness(world, act)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]

            async def litter(client: redis.asyncio.Redis) -> None:
                await client.xadd(world.keys.events("user"), {"e": "{no json"})
                await client.xadd(world.keys.queue("mail"), {"x": "no task"})

            async def replay(client: redis.asyncio.Redis) -> None:
                letters = DeadLetters(client, world.keys)
                found, _ = await letters.matching(DeadLetterFilter(), 100)
                for letter in found:
                    if letter.form == "task":
                        lives[letter.id] += 1  # whoever is told "no answer" may have done it
                        done = await Replaying(client, world.keys, world.settings).replay([letter])
                        sometimes("a dead letter was replayed", bool(done.replayed))
                        sometimes("a replay was done again and found nothing", bool(done.left))
                    else:
                        sometimes(
                            "an event that nobody can read became a dead letter", letter.form == "event"
                        )
                        await letters.drop([letter])
                never = any(not lives[name_of_task("outside", id_, TASK)] for id_ in ids)
                if found or (never and not world.losses):  # what was forgotten never fails
                    raise NotYet

            world.start("dispatcher", world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make))
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            await world.plain(litter)
            world.start("operator", operator(world, [replay]))

            async def done(client: redis.asyncio.Redis) -> str:
                if len(world.told.accepted) < events or world.is_busy():
                    return "not all is replayed"
                ends = await checkers.ends(client, world)
                over = sum(kinds[-1:] == ["task.succeeded"] for kinds in ends.values())
                return f"{over} succeeded" if over < events else await checkers.quiet(client, world, ["mail"])

            await world.settle(done)

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                told = await checkers.notes(client, world)
                queued = Counter(fields[b"k"].decode() for _, kind, fields in told if kind == "task.queued")
                for task, kinds in ends.items():
                    failed, succeeded = kinds.count("task.failed"), kinds.count("task.succeeded")
                    assert succeeded == 1, f"{task} ended as {kinds}; {world.striker.history}"
                    assert queued[task] == failed + 1, (
                        f"{task} queued {queued[task]} times, failed {failed} times"
                    )

            await world.plain(check)

    return run


def purging(*, events: int = 4, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: a queue is purged while its tasks wait; what waited is cancelled, and stays so."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            make = witness(world, takes=(0.2, 0.6))
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            stream = world.keys.queue("mail")
            calls = QueueCalls(world.keys, "purger", 2000, 50, 100)

            async def purge(client: redis.asyncio.Redis) -> None:
                waited = await client.xlen(stream)
                sometimes("a purged queue had a task in it", bool(waited))
                await on_this_loop(cancel_waiting, BlockingClient(client), world.keys, stream)
                await lua.run(client, calls.purge(stream, 100))

            world.start("dispatcher", world.dispatcher)
            world.start("publisher", world.publisher(ids, TYPE, lambda _: {}))
            world.start(
                "operator", operator(world, [wait(0.3 + random.random() / 2), purge, wait(0.5), purge])
            )
            await _later(world, make)
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))

            async def check(client: redis.asyncio.Redis) -> None:
                wrong = {
                    task: kinds
                    for task, kinds in (await checkers.ends(client, world)).items()
                    if len(kinds) != 1
                }
                assert not wrong, f"not ended exactly once: {wrong}; {world.striker.history}"

            await world.plain(check)

    return run


async def _later(world: World, make: Any) -> None:
    """Start a worker when something may wait in its queue."""
    await asyncio.sleep(0.6)
    world.start("mail", worker(world, make))
