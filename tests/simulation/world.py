"""The simulated mesh: one server, any number of processes on one seeded loop, each on a host of its own.

A process is the product's own code: the dispatcher's whole `dispatch`, the kit's publisher, the API's batching
and hub, the delivery tasks of a real `Service` with their ledger calls. What stands in is named: Celery's
consumer and its threads (`Worker` reads the queue with the kit's own calls instead), and the kernel.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import detangle
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from streammesh import lua
from streammesh.errors import MeshError
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable, open_async
from streammesh.schedules.ticker import Ticker
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call

from services.dispatcher.__main__ import dispatch
from services.dispatcher.settings import DispatcherSettings
from tests.simulation import determinism
from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.faults import NOWHERE, Aim, Striker
from tests.simulation.server import HOST, SimulatedServer

URL = f"redis://{HOST}:6379"
OWN = DispatcherSettings(
    _env_file=None, block="200ms", reclaim_idle="500ms", reclaim_every="200ms", batch=4,
    janitor_every="2s", janitor_after="6s", trim_every="1s",
)  # type: ignore[call-arg]  # fmt: skip


def mesh_settings(**others: Any) -> MeshSettings:
    """Return short durations, so that much happens in little virtual time."""
    return MeshSettings(
        _env_file=None, redis_url=URL, namespace="sim", **{"lease": "2s", "redis_timeout": "1s", **others}
    )


@dataclass
class Told:
    """What outsiders know, gathered without asking the code under test."""

    accepted: dict[str, str] = field(
        default_factory=dict
    )  # event id -> entry that the publisher was answered
    tried: set[str] = field(default_factory=set)  # event ids that a publisher sent, answered or not
    ran: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    followed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # follower -> positions
    missed: list[int] = field(default_factory=list)  # after how many the follower was told that some are gone


class World:
    """One run. `start` brings processes up; a killed one comes back under a new name after a moment."""

    aim: Aim = NOWHERE  # of the schedule that is played; the explorer sets it

    def __init__(self, budget: int, settings: Mapping[str, Any] | None = None, **faults: Any) -> None:
        self.told = Told()
        self.settings, self.keys = mesh_settings(**(settings or {})), Keys("sim")
        self.striker = Striker(budget, self._crash, self._restart, aim=World.aim, **faults)
        self.unfinished: list[list[Any]] = []  # errands of operators
        self.server = SimulatedServer(self.striker)
        self.generation: Counter[str] = Counter()
        self._roles: dict[str, Callable[[str], Awaitable[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._restarting = False
        self.broken: list[BaseException] = []

    async def open(self) -> None:
        """Start the server."""
        network = detangle.network()
        network.ensure_host(HOST)
        await self._spawn(self.server.start(), HOST)

    def _spawn(self, coroutine: Any, host: str) -> asyncio.Task[Any]:
        task = detangle.spawn(coroutine, host=host, name=host)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self.note_end(task)

    def note_end(self, task: asyncio.Task[Any]) -> None:
        """Keep the error that something ended with."""
        if not task.cancelled() and task.exception() is not None:
            self.broken.append(task.exception())  # type: ignore[arg-type]

    def start(self, name: str, role: Callable[[str], Awaitable[Any]]) -> None:
        """Start a process `name` that is `role(host)`; each life has a host of its own."""
        self._roles[name] = role
        self.generation[name] += 1
        host = f"{name}-{self.generation[name]}"
        self._spawn(self._live(role, host), host)

    async def _live(self, role: Callable[[str], Awaitable[Any]], host: str) -> None:
        await role(host)

    def end(self, host: str) -> None:
        """End a process that has left in good order, whatever still runs in it; another one is started."""
        asyncio.get_running_loop().call_soon(self._crash, host)

    def _crash(self, host: str) -> None:
        name = host.rpartition("-")[0]
        detangle.network().crash(host)
        if name in self._roles:
            self._spawn(self._again(name), HOST)

    async def _again(self, name: str) -> None:
        await asyncio.sleep(0.3)
        self.start(name, self._roles[name])

    async def _restart(self) -> None:
        if self._restarting:
            return  # it is away already
        self._restarting = True
        await self._spawn(self.server.restart(0.5), HOST)
        self._restarting = False

    # --- processes ---------------------------------------------------------------------------

    async def dispatcher(self, host: str) -> None:
        """The dispatcher as it is wired in production."""
        # Its forwarders have threads; they are simulated apart, see forwarding.py.
        await dispatch(self.settings.model_copy(update={"broker_url": None}), OWN, asyncio.Event())

    async def beat(self, host: str) -> None:
        """One Beat."""
        client = open_async(self.settings, "beat")
        ticker = Ticker(BlockingClient(client), self.keys, self.settings, host)  # type: ignore[arg-type]
        while True:
            wait = await on_this_loop(ticker.tick, 0.5)
            await asyncio.sleep(max(0.02, wait))

    def publisher(
        self, ids: list[str], event_type: str, data: Callable[[str], Any], every: float = 0.02
    ) -> Callable[[str], Any]:
        """Return a role that publishes events one after another, each until it is answered, under the same id."""

        async def role(host: str) -> None:
            client = open_async(self.settings, "publisher")
            publisher = Publisher(client, self.keys, self.settings, "outside")
            for id_ in ids:
                while id_ not in self.told.accepted:
                    self.told.tried.add(id_)
                    try:
                        done = await publisher.publish(event_type, data(id_), id=id_)
                        self.told.accepted[id_] = done.entry
                    except (MeshError, RedisError, OSError) as error:
                        if not (is_unavailable(error) or isinstance(error, MeshError)):
                            raise
                        await asyncio.sleep(0.1)
                await asyncio.sleep(every)

        return role

    async def plain(self, ask: Callable[[redis.asyncio.Redis], Awaitable[Any]]) -> Any:
        """Ask the server something as an outsider whom no fault strikes."""

        async def act() -> Any:
            while True:
                client = redis.asyncio.Redis.from_url(URL)
                try:
                    return await ask(client)
                except (RedisConnectionError, OSError):
                    await asyncio.sleep(0.1)  # the server is restarting
                finally:
                    await client.aclose()

        return await detangle.spawn(act(), host="checker")

    async def plain_until(self, ask: Callable[[redis.asyncio.Redis], Awaitable[Any]]) -> None:
        """Let virtual time pass until an outsider is answered something true."""
        for _ in range(600):
            if await self.plain(ask):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"it did not come about within a minute; struck: {self.striker.history}")

    def is_busy(self) -> bool:
        """Whether an operator has errands left."""
        return any(self.unfinished)

    async def until_errands_are_done(self) -> None:
        """Let virtual time pass until no operator has anything left to do."""
        for _ in range(600):
            if not self.is_busy():
                return
            await asyncio.sleep(0.1)
            self.check_unbroken()
        raise AssertionError(f"errands were not done within a minute; struck: {self.striker.history}")

    async def register(self, service: Service) -> None:
        """Tell the mesh what a service wants, before anything is published."""
        await self.register_manifest(service.manifest())

    async def register_manifest(self, manifest: Manifest) -> None:
        """Register a manifest as an outsider."""
        await self.plain(lambda client: lua.run(client, register_call(self.keys, manifest)))

    async def settle(
        self, done: Callable[[redis.asyncio.Redis], Awaitable[str]], seconds: float = 120
    ) -> None:
        """Let virtual time pass until `done` answers "" and not what is missing."""
        missing = "?"
        for _ in range(int(seconds / 0.5)):
            await asyncio.sleep(0.5)
            self.check_unbroken()
            missing = "errands" if self.is_busy() else await self.plain(done)
            if not missing:
                return
        raise AssertionError(
            f"after {seconds:g} s of virtual time: {missing}; struck: {self.striker.history}"
        )

    def check_unbroken(self) -> None:
        """Fail when a process ended by an error of its own, or logged one that it did not expect."""
        if determinism.broke:
            raise AssertionError(
                f"an error that nobody expected: {determinism.broke[0]}; {self.striker.history}"
            )
        if self.broken:
            raise AssertionError(
                f"a process ended by itself: {self.broken[0]!r}: {self.broken[0]}"
            ) from self.broken[0]
