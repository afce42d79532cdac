"""Streams of chunks: what a handler sends to clients while it runs, under its attempt's fencing token."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis.asyncio
from streammesh import Context, Service
from streammesh.errors import MeshUnavailable
from streammesh.names import task_id as name_of_task
from streammesh.redisio.client import open_async

from services.api.chunk_reader import BEGINNING, Chunk, ChunkReader
from services.api.read_limit import ReadLimit
from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a stream of chunks began a new epoch",
    "a reader of chunks resumed in the middle",
)
TYPE, TASK, STREAM, PIECES = "story.wanted", "writer.write", "tokens", 4
LEAVES = 0.2  # of the looks at a stream of which it has a part
Read = defaultdict[str, list[Chunk]]


def chunk_reader(world: World, tasks: list[str], got: Read) -> Callable[[str], Any]:
    """Return a role: an API process, by which one client follows the streams of all tasks. What it got outlives the process."""

    async def role(host: str) -> None:
        client = open_async(world.settings, "api")
        reader = ChunkReader(client, world.keys, ReadLimit(1.0))
        resumed = {task for task in tasks if got[task]}
        while True:
            for task in tasks:
                mine = got[task]
                if mine and random.random() < LEAVES:  # the client comes to another API process
                    reader = ChunkReader(client, world.keys, ReadLimit(1.0))
                    resumed.add(task)
                try:
                    look = await reader.look(task, STREAM, mine[-1].at if mine else BEGINNING)
                except MeshUnavailable:
                    continue
                if look.restarted:
                    mine.clear()
                for chunk in look.chunks:
                    if mine and chunk.at[0] != mine[-1].at[0]:
                        sometimes("a stream of chunks began a new epoch")
                        mine.clear()
                    mine.append(chunk)
                sometimes("a reader of chunks resumed in the middle", task in resumed and bool(look.chunks))
                if not world.losses:
                    _is_of_one_attempt(world, task, mine)
            await asyncio.sleep(0.1)

    return role


def chunks(*, events: int = 2, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: handlers stream words, some fail half way; a client follows. What it has is at each moment what one
    attempt sent, from its first word on without a gap; in the end it is all that the attempt sent which took effect."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            got: Read = defaultdict(list)

            def make(host: str) -> Service:
                service = Service("writer", settings=world.settings)

                @service.on(TYPE, retries=5, backoff=0.1, breaker=False)
                async def write(data: Any, ctx: Context) -> None:
                    world.told.ran[ctx.task_id].append((ctx.attempt, host))
                    stream, pause = ctx.stream(STREAM), random.choice((0.0, 0.1, 0.5))
                    for number in range(PIECES):
                        await stream.send(f"{ctx.attempt} {host} {number}")
                        await asyncio.sleep(pause)
                        if number == 1 and ctx.attempt == 1 and data["fails"]:
                            raise RuntimeError("not yet")

                return service

            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            tasks = [name_of_task("outside", id_, TASK) for id_ in ids]
            world.start("dispatcher", world.dispatcher)
            for name in ("writer a", "writer b"):
                world.start(name, worker(world, make))
            world.start("reader", chunk_reader(world, tasks, got))
            world.start("publisher", world.publisher(ids, TYPE, lambda id_: {"fails": id_ == "e1"}))

            async def missing(client: redis.asyncio.Redis) -> str:
                if left := await checkers.all_told(client, world, ["writer"], events, events):
                    return left
                short = [task for task in tasks if len(got[task]) < PIECES]
                return f"of {short} the reader has not all" if short else ""

            await world.settle(missing)

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                for task in tasks:
                    assert ends.get(task) == ["task.succeeded"], f"{task} ended as {ends.get(task)}"
                    attempt, host = max(world.told.ran[task])
                    wanted = [f"{attempt} {host} {number}" for number in range(PIECES)]
                    found = await client.xrange(world.keys.chunks(task, STREAM))
                    lie = [fields[b"d"].decode() for _, fields in found]
                    assert lie == wanted, f"{task}: {lie}, not {wanted}; {world.striker.history}"
                    read = [chunk.data for chunk in got[task]]
                    assert read == wanted, f"{task}: read {read}, not {wanted}; {world.striker.history}"

            await world.plain(check)

    return run


def _is_of_one_attempt(world: World, task: str, read: list[Chunk]) -> None:
    """Fail where what was read is not the beginning of what one attempt sent."""
    words = [chunk.data.rpartition(" ") for chunk in read]
    numbers, writers = [int(number) for *_, number in words], {writer for writer, *_ in words}
    assert numbers == list(range(len(read))), f"{task}: read {numbers}; {world.striker.history}"
    assert len(writers) <= 1, f"{task}: read what {writers} sent, as one; {world.striker.history}"
