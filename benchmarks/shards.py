"""What shards cost: the same work in one, two, three and four, each on a server of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import redis.asyncio
from streammesh.api_keys import ApiKeys
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.events import envelope
from streammesh.keys import Keys
from streammesh.lua import run
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.shards import ShardedPublisher, shard_of
from streammesh.subscriptions.registry import register_call

from benchmarks.arena import Cost, listens, rate_until, until
from benchmarks.front_door import CONNECTIONS, SINGLE, event
from benchmarks.http_load import Load, post
from benchmarks.measuring import Results
from benchmarks.server import server
from benchmarks.workers import noop_worker
from tests.harness.processes import MeshProcess

PROCESSES = {1: 3, 2: 4, 3: 3, 4: 4}  # of the worker, by the number of shards
CPU, RATES = (1, 2, 4), (1, 3)  # which of them are compared
START_SECONDS = 300  # that up to ten processes may take on a machine that has other things to do
ROUNDS = 4
WARM = 200  # events for each shard, before anything is measured
PUBLISHED = 4  # of how many events one is published over HTTP


@dataclass(frozen=True)
class ShardedMesh:
    """Some servers with a shard each, and clients of them."""

    servers: Sequence[EmbeddedServer]
    settings: MeshSettings
    clients: Sequence[redis.asyncio.Redis]
    folder: Path

    @property
    def keys(self) -> list[Keys]:
        """The keys of each shard."""
        return [Keys(self.settings.of_shard(number).namespace) for number in range(self.settings.shards)]

    async def handed_over(self) -> int:
        """Tasks that were handed over so far, in all shards."""
        return sum(
            [
                int(await client.hget(keys.counters(), "handed_over") or 0)
                for client, keys in zip(self.clients, self.keys, strict=True)
            ]
        )

    async def ended(self) -> int:
        """Tasks that have ended so far, in all shards."""
        pairs = zip(self.clients, self.keys, strict=True)
        return sum([int(await client.xlen(keys.tasks_recent())) for client, keys in pairs])

    async def workers(self) -> int:
        """Processes of the worker that are there, in all shards."""
        pairs = zip(self.clients, self.keys, strict=True)
        return sum([int(await client.zcard(keys.alive(noop_worker.service.name))) for client, keys in pairs])

    async def cpu_seconds(self) -> float:
        """CPU that the servers have used so far, as they say themselves: who else is at work here does not count."""
        said = [await client.info("cpu") for client in self.clients]
        return sum(float(one["used_cpu_user"]) + float(one["used_cpu_sys"]) for one in said)

    async def cost(self, done: Callable[[], Awaitable[int]], tasks: int, process: MeshProcess) -> Cost:
        """Let a process that was halted do so many tasks: how many a second, and what each costs the servers."""
        before, cpu = await done(), await self.cpu_seconds()

        async def since() -> int:
            return await done() - before

        resume(process)
        rate = await rate_until(since, tasks)
        halt(process)
        return Cost(rate, {"server": 1e6 * (await self.cpu_seconds() - cpu) / tasks})

    async def publish(self, size: int, *, evenly: bool = False) -> None:
        """Put events into the streams of all shards, by their identity or `evenly`."""
        shards = self.settings.shards
        keys = [
            next(key for key in map(str, count()) if shard_of(key, "", "", shards) == n)
            for n in range(shards)
        ]
        publisher = ShardedPublisher(self.settings, "bench")
        try:
            for first in range(0, size, 1_000):
                await publisher.publish_events(
                    [
                        envelope.build(
                            "bench",
                            "bench.noop",
                            {"n": n, "text": "x" * 150},
                            extensions={"partitionkey": keys[n % shards]} if evenly else None,
                        )
                        for n in range(first, min(size, first + 1_000))
                    ]
                )
        finally:
            await publisher.aclose()

    @asynccontextmanager
    async def process(self, module: str, **env: str) -> AsyncIterator[MeshProcess]:
        """A process of the mesh, which serves all shards."""
        of_mesh = {
            "MESH_REDIS_URL": self.settings.redis_url,
            "MESH_SHARDS": str(self.settings.shards),
            "MESH_LOG_LEVEL": "warning",
            "MESH_MAX_QUEUED": str(self.settings.max_queued),
        }
        process = MeshProcess(module, module, of_mesh | env, self.folder).start()
        try:
            yield process
        finally:
            process.kill()


def halt(process: MeshProcess) -> None:
    """Stop it and its children where they are; they know nothing of it."""
    os.killpg(process.pid, signal.SIGSTOP)


def resume(process: MeshProcess) -> None:
    """Let them go on."""
    os.killpg(process.pid, signal.SIGCONT)


@asynccontextmanager
async def mesh_of(shards: int) -> AsyncIterator[ShardedMesh]:
    """A fresh mesh; everything of it ends with the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mesh-bench-")))
        servers = [stack.enter_context(server(folder / f"redis-{number}")) for number in range(shards)]
        settings = MeshSettings(
            _env_file=None,
            redis_url=" ".join(one.url for one in servers),
            shards=shards,
            max_queued=10_000_000,
        )
        clients = [open_async(settings.of_shard(number), "bench") for number in range(shards)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        made = ShardedMesh(servers, settings, clients, folder)
        for client, keys in zip(clients, made.keys, strict=True):
            await run(client, register_call(keys, noop_worker.service.manifest()))
        yield made


async def shards(results: Results, size: int) -> None:
    """`scale.shards`: Redis's CPU for each task with 1, 2 and 4 shards, and the rates with 3 beside those with 1."""
    cpu, rates = {}, {}
    for number in PROCESSES:
        async with mesh_of(number) as mesh:
            handed, drained = await _worked_off(mesh, size)
            if number in RATES:
                published = await _published(mesh, size // PUBLISHED)
                rates[number] = {"publish": published, "handoff": handed.rate, "drain": drained.rate}
            if number in CPU:
                cpu[number] = handed.cpu_us["server"] + drained.cpu_us["server"]
                results.add(f"scale.shards.{number}.cpu", "µs/task", cpu[number])
    for number, found in rates.items():
        for name, rate in found.items():
            results.add(f"scale.shards.{number}.{name}", "/s", rate)
    results.add("scale.shards.cpu", "x of 1", max(cpu[number] / cpu[1] for number in CPU))
    for name, rate in rates[3].items():
        results.add(f"scale.shards.{name}", "x of 1", rate / rates[1][name])


async def _worked_off(mesh: ShardedMesh, size: int) -> tuple[Cost, Cost]:
    """What it costs to hand so many tasks over, and then to run them.

    Both are there before, and have done some in each shard: starting processes takes longer than the work, and a
    script that a server meets for the first time costs it as much as a hundred tasks.
    """
    processes = str(PROCESSES[mesh.settings.shards])
    async with (
        mesh.process("services.dispatcher") as dispatcher,
        mesh.process("benchmarks.workers.noop_worker", MESH_PROCESSES=processes) as worker,
    ):
        warm = WARM * mesh.settings.shards
        await mesh.publish(warm, evenly=True)

        async def is_warm() -> bool:
            for process in (dispatcher, worker):
                if not process.running or "refused" in process.log.read_text():
                    raise RuntimeError(f"it does no work:\n{process.log.read_text()[-3000:]}")
            return await mesh.ended() == warm and await mesh.workers() == int(processes)

        await until(is_warm, START_SECONDS, pause=0.1)
        halt(dispatcher)
        halt(worker)
        handed, drained = [], []
        for _ in range(ROUNDS):
            await mesh.publish(size // ROUNDS)
            handed.append(await mesh.cost(mesh.handed_over, size // ROUNDS, dispatcher))
            drained.append(await mesh.cost(mesh.ended, size // ROUNDS, worker))
        return best(handed), best(drained)


def best(rounds: Sequence[Cost]) -> Cost:
    """The highest rate and the lowest cost: what else goes on on the machine only makes them worse."""
    cheapest = min(one.cpu_us["server"] for one in rounds)
    return Cost(max(one.rate for one in rounds), {"server": cheapest})


async def _published(mesh: ShardedMesh, size: int) -> float:
    """Events a second over HTTP, one by one."""
    port = free_port()
    key = await ApiKeys(mesh.clients[0], mesh.keys[0]).create("bench", admin=True)
    async with mesh.process("services.api", API_HOST="127.0.0.1", API_PORT=str(port)) as api:

        async def answers() -> bool:
            if not api.running:
                raise RuntimeError("the API ended by itself")
            return await listens(port)

        await until(answers)

        def single(_: int) -> bytes:
            return post("/v1/events", f"127.0.0.1:{port}", key, SINGLE, orjson.dumps(event()))

        warm = min(500, size // 2)
        await Load(warm, CONNECTIONS, single).run(f"http://127.0.0.1:{port}")
        rest = size - warm
        return rest / await Load(rest, CONNECTIONS, single).run(f"http://127.0.0.1:{port}")
