"""What shards cost: the same work in one, two, three and four, each on a server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from streammesh.shards import ShardedPublisher
from streammesh.subscriptions.registry import register_call

from benchmarks.arena import Cost, cost_until, listens, until
from benchmarks.front_door import CONNECTIONS, SINGLE, event
from benchmarks.http_load import Load, post
from benchmarks.measuring import Results
from benchmarks.server import server
from benchmarks.workers import async_worker
from tests.harness.processes import MeshProcess

WORKERS = 3  # processes, in one shard and in three alike; in four there is one for each
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

    async def cost(self, count: Callable[[], Awaitable[int]], total: int) -> Cost:
        """How many a second, and what each costs the servers."""
        return await cost_until(count, total, {"server": [one.pid for one in self.servers]})

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
            await run(client, register_call(keys, async_worker.service.manifest()))
        yield made


async def shards(results: Results, size: int) -> None:
    """`scale.shards`: Redis's CPU for each task with 1, 2 and 4 shards, and the rates with 3 beside those with 1."""
    cpu, rates = {}, {}
    for count in (1, 2, 3, 4):
        async with mesh_of(count) as mesh:
            if count in (1, 3):
                rates[count] = {"publish": await _published(mesh, size // PUBLISHED)}
            publisher = ShardedPublisher(mesh.settings, "bench")
            try:
                for first in range(0, size, 1_000):
                    numbers = range(first, min(size, first + 1_000))
                    await publisher.publish_events(
                        [
                            envelope.make("bench.noop", {"n": n, "text": "x" * 150}, source="bench")
                            for n in numbers
                        ]
                    )
            finally:
                await publisher.aclose()
            total = size + (size // PUBLISHED if count in rates else 0)
            async with mesh.process("services.dispatcher"):
                handed = await mesh.cost(mesh.handed_over, total)
            processes = str(max(WORKERS, count))
            async with mesh.process("benchmarks.workers.async_worker", MESH_PROCESSES=processes):
                drained = await mesh.cost(mesh.ended, total)
            if count in rates:
                rates[count] |= {"handoff": handed.rate, "drain": drained.rate}
            if count != 3:
                cpu[count] = handed.cpu_us["server"] + drained.cpu_us["server"]
                results.add(f"scale.shards.{count}.cpu", "µs/task", cpu[count])
    for count, found in rates.items():
        for name, rate in found.items():
            results.add(f"scale.shards.{count}.{name}", "/s", rate)
    results.add("scale.shards.cpu", "x of 1", max(cpu[count] / cpu[1] for count in (2, 4)))
    for name, rate in rates[3].items():
        results.add(f"scale.shards.{name}", "x of 1", rate / rates[1][name])


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
