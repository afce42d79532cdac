"""A mesh to measure: a server of its own, and the processes that a measurement asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis.asyncio
from streammesh.api_keys import ApiKeys
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.lua import run
from streammesh.redisio.client import open_async
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import register_call

from benchmarks.machine import cpu_seconds
from benchmarks.measuring import Results
from benchmarks.server import server
from benchmarks.targets import OURS
from tests.harness.processes import MeshProcess

START_SECONDS = 60


@dataclass(frozen=True)
class Cost:
    """What was reached: how many a second, and the microseconds of CPU that each one cost, by process."""

    rate: float
    cpu_us: Mapping[str, float]

    def add_to(self, results: Results, name: str, unit: str, system: str = OURS) -> None:
        """Record `name` and, for each process, `cpu.<process>.<name>`."""
        results.add(name, f"{unit}s/s", self.rate, system)
        for process, us in self.cpu_us.items():
            results.add(f"cpu.{process}.{name}", f"µs/{unit}", us, system)


class Arena:
    """One private server and the processes of one measurement."""

    def __init__(
        self, server: EmbeddedServer, folder: Path, client: redis.asyncio.Redis, settings: MeshSettings
    ) -> None:
        self.server, self.folder, self.redis, self.settings = server, folder, client, settings
        self.keys = Keys(settings.namespace)
        self.env = {
            "MESH_REDIS_URL": server.url,
            "MESH_LOG_LEVEL": "warning",
            "MESH_MAX_QUEUED": str(settings.max_queued),
        }
        self.api_url, self.api_key = "", ""
        self._processes: list[MeshProcess] = []

    async def start(
        self, module: str, *, role: str | None = None, count: int = 1, **env: str
    ) -> list[MeshProcess]:
        """Start processes and wait until each of them shows life (where they have a role that does)."""
        before = await self.redis.zcard(self.keys.alive(role)) if role else 0
        started = [
            MeshProcess(
                f"{module.rpartition('.')[2]}-{len(self._processes) + n}",
                module,
                {**self.env, **env},
                self.folder,
            ).start()
            for n in range(count)
        ]
        self._processes += started
        if role:

            async def all_there() -> bool:
                self._all_run()
                return bool(await self.redis.zcard(self.keys.alive(role)) >= before + count)

            await until(all_there)
        return started

    async def start_api(self) -> int:
        """One API process with a key of its own; answers its process id."""
        port = free_port()
        self.api_key = await ApiKeys(self.redis, self.keys).create("bench", admin=True)
        [process] = await self.start("services.api", API_HOST="127.0.0.1", API_PORT=str(port))
        self.api_url = f"http://127.0.0.1:{port}"

        async def answers() -> bool:
            self._all_run()
            return await listens(port)

        await until(answers)
        return process.pid

    async def register(self, service: Service) -> None:
        """Store a service's manifest, so that its events are handed over before its worker runs."""
        await run(self.redis, register_call(self.keys, service.manifest()))

    async def publish(self, event_type: str, count: int, *, small: bool = False, keys: int = 0) -> None:
        """Put events straight into their stream, in batches; `keys`: of so many, in turn, each names one."""
        publisher = Publisher(self.redis, self.keys, self.settings, "bench")
        for first in range(0, count, 1000):
            batch = [
                envelope.make(
                    event_type,
                    ({"n": n} if small else {"n": n, "text": "x" * 150})
                    | ({"key": n % keys} if keys else {}),
                    source="bench",
                )
                for n in range(first, min(count, first + 1000))
            ]
            await publisher.publish_events(batch)

    def _all_run(self) -> None:
        ended = [process.name for process in self._processes if not process.running]
        if ended:
            raise RuntimeError(f"ended by itself: {', '.join(ended)}")

    def stop(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
        self._processes = []


@asynccontextmanager
async def arena(*, max_queued: int = 10_000_000) -> AsyncIterator[Arena]:
    """A fresh mesh; everything of it ends with the block."""
    with TemporaryDirectory(prefix="mesh-bench-") as name:
        folder = Path(name)
        with server(folder / "redis") as running:
            settings = MeshSettings(_env_file=None, redis_url=running.url, max_queued=max_queued)
            client = open_async(settings, "bench")
            made = Arena(running, folder, client, settings)
            try:
                yield made
            except BaseException:
                for log in sorted(folder.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text()[-3000:]}")
                raise
            finally:
                made.stop()
                await client.aclose()


async def listens(port: int) -> bool:
    """Whether something takes connections at this port of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float = START_SECONDS, *, pause: float = 0.02
) -> None:
    """Wait for a condition, looking again after every pause. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} s")
        await asyncio.sleep(pause)


async def rate_until(count: Callable[[], Awaitable[int]], total: int, seconds: float = 120) -> float:
    """How many a second are done, from the first tenth to the last, asking every 20 ms."""
    return (await cost_until(count, total, {}, seconds)).rate


async def cost_until(
    count: Callable[[], Awaitable[int]], total: int, pids: Mapping[str, Sequence[int]], seconds: float = 120
) -> Cost:
    """The same, with the CPU time that named groups of processes spent on it. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    first: tuple[float, int] | None = None
    spent: dict[str, float] = {}
    while True:
        done = await count()
        now = time.monotonic()
        if first is None and done >= total / 10:
            first, spent = (now, done), _cpu(pids)
        if done >= total:
            assert first is not None
            tasks = max(1, done - first[1])
            cpu = {name: 1e6 * (cpu - spent[name]) / tasks for name, cpu in _cpu(pids).items()}
            return Cost((done - first[1]) / max(1e-9, now - first[0]), cpu)
        if now > deadline:
            raise TimeoutError(f"{done} of {total} after {seconds} s")
        await asyncio.sleep(0.02)


def _cpu(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {name: sum(cpu_seconds(pid) for pid in group) for name, group in pids.items()}
