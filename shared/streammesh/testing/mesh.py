"""A whole mesh in a test's process: a real server, the real dispatcher, real handlers, on an event loop of its own.

Since the loop is its own, tests may be `async def` under pytest-asyncio (strict or auto) or anyio, or plain `def`: what
it answers can be awaited, or waited for with `.get()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import uvloop

from streammesh import plain_json
from streammesh.durable.records import waits_of
from streammesh.embedded import EmbeddedServer
from streammesh.events.envelope import Event, build
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.lines.state import key_of
from streammesh.names import ENDED, TaskState
from streammesh.redisio.client import open_async, open_sync
from streammesh.schedules.file import parse_file
from streammesh.schedules.file_watch import FileWatch
from streammesh.schedules.ticker import Ticker
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.subscriptions.declaration import duration
from streammesh.subscriptions.manifest import Routes
from streammesh.subscriptions.registry import read_manifests
from streammesh.tasks.records import EventRow, Rows, TaskRow
from streammesh.testing.dispatcher import load
from streammesh.testing.trial_outcome import TrialOutcome
from streammesh.testing.worker import TrialWorker

T = TypeVar("T")
LOOK_SECONDS = (0.002, 0.02)  # between two looks: the first, the longest
STOP_SECONDS = 10.0
SKIPPABLE = (
    TaskState.RETRYING,
    TaskState.PENDING,
)  # what waits so, waits for a time: a retry, a quiet period, a rate


class Pending(Generic[T]):
    """What the mesh will answer: `await` it in an `async def` test, `.get()` in a `def` one."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def get(self, seconds: float = 30) -> T:
        """Wait for it here."""
        return self._future.result(seconds)


class Mesh:
    """One mesh that only one test uses. Times are the server's; `skip` brings what waits for later nearer."""

    def __init__(
        self,
        settings: MeshSettings,
        server: EmbeddedServer,
        start: Callable[..., subprocess.Popen[bytes]] | None = None,
    ) -> None:
        self.settings, self.keys = settings, Keys(settings.namespace)
        self._server, self._start = server, start
        self._workers: list[TrialWorker] = []
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-mesh", daemon=True)

    # --- what a test does ------------------------------------------------------------------------

    def run(self, *services: Service) -> None:
        """Run the handlers of these services from now on."""
        for service in services:
            self._ask(self._run(service)).get()

    def start(self, module: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run a worker as a process, `python -m MODULE`, until the test ends: for workflows and Celery's pools."""
        if self._start is None:
            raise RuntimeError("this mesh was made without processes")
        return self._start(module, **environment)

    def publish(self, event_type: str, data: Any = None, **attributes: Any) -> Pending[Event]:
        """Publish one event; `attributes` as of `Publisher.publish`: id, subject, deliver_at, priority, …"""
        return self._ask(self._publish(build("tests", event_type, data, **attributes)))

    def outcome(self, event: Event, *, seconds: float = 10, skip: bool = True) -> Pending[TrialOutcome]:
        """Wait until everything that the event became has ended. With `skip`, waits for a retry or a set time are skipped.

        Raises TimeoutError, with what it waits for, after so many seconds, and what broke in a worker.
        """
        return self._ask(self._outcome(event, seconds, skip))

    def skip(self, by: float | str | timedelta) -> Pending[int]:
        """Bring everything that waits nearer by a duration (`"2h"`): retries, events set for later, schedules, expiry.

        Answers how many things were moved. Time stays what it is for handlers, and for the breaker.
        """
        return self._ask(self._skip(duration("skip", by).total_seconds()))

    def schedules(self, file: Path | str) -> Pending[int]:
        """Keep the schedules of a TOML file, as Beat does; answers how many there are."""
        return self._ask(self._schedules(Path(file)))

    def crash(self, service: Service) -> Pending[int]:
        """End the service's worker as SIGKILL does, and start another; answers how many handlers were cut off."""
        [worker] = [one for one in self._workers if one.service is service]
        return self._ask(worker.crash())

    @contextlib.contextmanager
    def redis_away(self) -> Iterator[None]:
        """Within, the server keeps its connections and answers nothing."""
        self._server.pause()
        try:
            yield
        finally:
            self._server.resume()

    def leaks(self) -> Pending[list[str]]:
        """Return the keys that would stay for ever: of another name than the mesh's, or of an end without an expiry."""
        return self._ask(self._leaks())

    # --- its life --------------------------------------------------------------------------------

    def __enter__(self) -> Mesh:
        self._thread.start()
        self._ask(self._open()).get()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask(self._close()).get()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS)
            self._loop.close()

    def _ask(self, coroutine: Coroutine[Any, Any, T]) -> Pending[T]:
        return Pending(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def _open(self) -> None:
        dispatch, own = load()
        self._client = open_async(self.settings, "test")
        self._rows = Rows(self._client, self.keys)
        self._publisher = Publisher(self._client, self.keys, self.settings, "tests")
        self._foreign = {key async for key in self._client.scan_iter(count=1_000)}
        self._stop = asyncio.Event()
        self._beats: list[asyncio.Task[None]] = []
        self._dispatcher = asyncio.create_task(
            dispatch(self.settings, own(_env_file=None, block="1s"), self._stop)
        )

    async def _close(self) -> None:
        for beat in self._beats:
            beat.cancel()
        await asyncio.gather(*self._beats, return_exceptions=True)
        for worker in self._workers:
            await worker.stop()
        self._stop.set()
        await asyncio.wait((self._dispatcher,), timeout=STOP_SECONDS)
        left = [key async for key in self._client.scan_iter(match=f"{self.keys.prefix}*", count=1_000)]
        if left:
            await self._client.unlink(*left)
        await self._client.aclose()

    # --- what it does on its loop ----------------------------------------------------------------

    async def _run(self, service: Service) -> None:
        worker = TrialWorker(service, self.settings)
        await worker.start()
        self._workers.append(worker)

    async def _publish(self, event: Event) -> Event:
        await self._publisher.publish_events([event])
        return event

    async def _outcome(self, event: Event, seconds: float, skip: bool) -> TrialOutcome:
        wait, longest = LOOK_SECONDS
        deadline = time.monotonic() + seconds
        while True:
            row = await self._rows.event(event.id, event.source)
            if row is not None and (row.completed or await self._is_unwanted(event, row)):
                return await self._ended(event, row)
            for worker in self._workers:
                if worker.broken:
                    raise worker.broken[0]
            if self._dispatcher.done():
                self._dispatcher.result()
            if time.monotonic() > deadline:
                raise TimeoutError(await self._standing(event, row, seconds))
            if skip and row is not None:
                await self._skip_to_next(row)
            await asyncio.sleep(wait)
            wait = min(longest, wait * 1.5)

    async def _is_unwanted(self, event: Event, row: EventRow) -> bool:
        if row.wanted is not None or row.entry == "held":
            return False
        return not Routes(await read_manifests(self._client, self.keys)).wanting(event)

    async def _ended(self, event: Event, row: EventRow) -> TrialOutcome:
        tasks = sorted(await self._rows.tasks(row.task_ids), key=lambda task: task.name)
        published = []
        for told in [told for task in tasks for told in task.events]:
            for found in await self._rows.events(told["id"]):
                envelope = await self._rows.envelope(found)
                if envelope is not None and envelope.extensions.get("causationid") == event.id:
                    published.append(envelope)
        return TrialOutcome(event, tuple(tasks), tuple(published))

    async def _standing(self, event: Event, row: EventRow | None, seconds: float) -> str:
        tasks = await self._rows.tasks(row.task_ids) if row else []
        states = ", ".join(f"{task.name} is {task.state}, attempt {task.attempt}" for task in tasks)
        return f"after {seconds:g} s {event.type} {event.id} has not ended: {states or 'no task was made'}"

    async def _skip_to_next(self, row: EventRow) -> None:
        """Skip to what is due next, where nothing of the event would go on before."""
        tasks = await self._rows.tasks(row.task_ids)
        left = [task for task in tasks if not task.ended]
        if not (row.entry == "held" or left) or any(task.state not in SKIPPABLE for task in left):
            return
        scores = [await self._client.zscore(*self._due_in(task)) for task in left]
        if row.entry == "held":
            scores.append(await self._client.zscore(self.keys.due(), f"event:{row.id} {row.source}"))
        if None in scores:  # it waits for a place, or goes on just now
            return
        now = await self._now()
        ahead = min(score - now for score in scores if score is not None)
        if ahead > 0:
            await self._skip(ahead / 1000)

    def _due_in(self, task: TaskRow) -> tuple[str, str]:
        """Where it stands when a task goes on: a set, and the member."""
        if task.state is TaskState.PENDING:
            return self.keys.flow_slow(task.name), key_of(task.flow)
        return self.keys.due(), f"task:{task.id}"

    async def _now(self) -> float:
        seconds, micros = await self._client.time()
        return float(seconds) * 1000 + float(micros) / 1000

    async def _skip(self, seconds: float) -> int:
        by, moved = seconds * 1000, 0
        flows = [name.decode() for name in await self._client.smembers(self.keys.flows())]
        slow = [key(name) for name in flows for key in (self.keys.flow_slow, self.keys.flow_until)]
        for key in (self.keys.due(), self.keys.schedules_due(), *slow):
            for member in await self._client.zrange(key, 0, -1):
                await self._client.zincrby(key, -by, member)
                moved += 1
        async for key in self._client.scan_iter(match=f"{self.keys.task('')}*", count=1_000):
            if await self._client.hexists(key, "expires"):
                await self._client.hincrby(key, "expires", -round(by))
                moved += 1
            for name, wait in waits_of(await self._client.hgetall(key)).items():
                left = f"{max(0, wait.until_ms - round(by))} ".encode() + plain_json.dumps(wait.about)
                await self._client.hset(key, f"wait:{name}", left)
        await self._client.publish(self.keys.manifests_changed(), "due")
        return moved

    async def _schedules(self, file: Path) -> int:
        entries = parse_file(file.read_text("utf-8"), self.settings.timezone)
        client = open_sync(self.settings, "test-beat")
        ticker = Ticker(client, self.keys, self.settings, "test-beat", FileWatch(file))

        async def beat() -> None:
            try:
                while True:
                    await asyncio.sleep(min(0.05, await asyncio.to_thread(ticker.tick, 0.05)))
            finally:
                client.close()

        await asyncio.to_thread(ticker.tick, 0.05)
        self._beats.append(asyncio.create_task(beat()))
        return len(entries)

    async def _leaks(self) -> list[str]:
        prefix, found = self.keys.prefix.encode(), []
        async for key in self._client.scan_iter(count=1_000):
            if not key.startswith(prefix):
                if key not in self._foreign:
                    found.append(f"{key.decode('utf-8', 'replace')} is outside of the mesh's own keys")
            elif key.startswith(self.keys.task("").encode()):
                state = await self._client.hget(key, "state")
                ended = state is not None and TaskState(state.decode()) in ENDED
                if ended and await self._client.ttl(key) < 0:
                    found.append(f"{key.decode()} has ended and does not expire")
            elif key.startswith(self.keys.event("").encode()) and await self._client.ttl(key) < 0:
                found.append(f"{key.decode()} does not expire")
        return found
