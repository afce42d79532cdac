"""The simulated mesh: one server, any number of processes on one seeded loop, each on a host of its own.

A process is the product's own code: the dispatcher's whole `dispatch`, the kit's publisher, the API's batching
and hub, the delivery tasks of a real `Service` with their ledger calls. What stands in is named: Celery's
consumer and its threads (`Worker` reads the queue with the kit's own calls instead), and the kernel.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import detangle
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from streammesh import lua
from streammesh.errors import MeshError
from streammesh.events.publisher import Published, Publisher
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable, open_async
from streammesh.schedules.ticker import Ticker
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call

from services.dispatcher.__main__ import dispatch
from services.dispatcher.settings import DispatcherSettings
from tests.simulation import determinism, forgetting
from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.faults import Aim, Striker
from tests.simulation.server import HOST, SimulatedServer
from tests.simulation.sometimes import sometimes
from tests.simulation.tape import Tape

URL = f"redis://{HOST}:6379"
OWN = DispatcherSettings(
    _env_file=None, block="400ms", reclaim_idle="500ms", reclaim_every="400ms", batch=4,
    janitor_every="2s", janitor_after="6s", trim_every="2s",
)  # fmt: skip


def mesh_settings(**others: Any) -> MeshSettings:
    """Return short durations, so that much happens in little virtual time."""
    return MeshSettings(
        _env_file=None,
        namespace="sim",
        **{"redis_url": URL, "lease": "2s", "redis_timeout": "1s", **others},
    )


async def nothing_more() -> str:
    """Miss nothing."""
    return ""


class Errands:
    """What one operator still has to do, and when the rest was answered."""

    def __init__(self, todo: Sequence[Any]) -> None:
        self.todo = list(todo)
        self._done: list[tuple[float, Any]] = []

    def answered(self) -> None:
        """Note that the first one was answered."""
        self._done.append((time.time(), self.todo.pop(0)))

    def forget(self, since: float) -> None:
        """Put back what was answered since then."""
        again = [errand for when, errand in self._done if when >= since]
        self._done = [(when, errand) for when, errand in self._done if when < since]
        self.todo[:0] = again
        sometimes("an errand was done again because it was forgotten", bool(again))


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

    aims: tuple[Aim, ...] = ()  # of the schedule that is played; the explorer sets them
    tape: Tape | None = None  # where it is recorded
    current: World  # the one that is played

    def __init__(
        self,
        budget: int,
        settings: Mapping[str, Any] | None = None,
        *,
        trims: bool = False,
        lives_again: bool = False,
        servers: Sequence[str] = (HOST,),
        **faults: Any,
    ) -> None:
        """`trims`: what was told may be gone by right. `lives_again`: a task that ended may be queued once more.

        `servers`: hosts, one for each shard, or one for all.
        """
        self.told = Told()
        self.trims, self.lives_again = trims, lives_again
        self.losses: list[tuple[float, float]] = []  # what was written between these times is gone
        self.to_publish = 0
        self.working: set[str] = set()  # services that have a worker
        urls = " ".join(f"redis://{host}:6379" for host in servers)
        self.settings, self.keys = mesh_settings(redis_url=urls, **(settings or {})), Keys("sim")
        self.url = URL  # whom outsiders ask
        self.striker = Striker(budget, self._crash, self._restart, aims=list(World.aims), **faults)
        self.errands: list[Errands] = []
        self.servers = [SimulatedServer(self.striker, host) for host in servers]
        self.server = self.servers[0]
        self.server.tape = World.tape
        World.current = self
        self.generation: Counter[str] = Counter()
        self._roles: dict[str, Callable[[str], Awaitable[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._restarting: list[SimulatedServer] = []
        self.broken: list[BaseException] = []

    async def open(self) -> None:
        """Start the servers."""
        for server in self.servers:
            detangle.network().ensure_host(server.host)
            await self._spawn(server.start(), server.host)
        if self.striker.may_forget():
            self._spawn(self._sync(), HOST)

    async def _sync(self) -> None:
        while True:
            self.server.fsync()
            await asyncio.sleep(1.0)

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
        if name not in self._roles:
            self.server.fsync()  # what was prepared lies on the disk
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

    async def _restart(self, server: SimulatedServer, with_loss: bool) -> None:
        if server in self._restarting:
            return  # it is away already
        self._restarting.append(server)
        if with_loss:
            since = server.synced_at
            self.losses.append((since, time.time()))
            for errands in self.errands:
                errands.forget(since)
        await self._spawn(server.restart(0.5, with_loss=with_loss), server.host)
        self._restarting.remove(server)

    @asynccontextmanager
    async def without(self, server: SimulatedServer) -> AsyncIterator[None]:
        """Within: one of the servers is away."""
        while server in self._restarting:
            await asyncio.sleep(0.1)
        self._restarting.append(server)
        await self._spawn(server.kill(), server.host)
        yield
        await self._spawn(server.start(), server.host)
        self._restarting.remove(server)

    def may_be_forgotten(self, when: float) -> bool:
        """Return whether a loss explains that what was written then is gone."""
        return any(since - 0.002 <= when <= until for since, until in self.losses)

    # --- processes ---------------------------------------------------------------------------

    async def dispatcher(self, host: str) -> None:
        """The dispatcher as it is wired in production."""
        # Its forwarders have threads; they are simulated apart, see forwarding.py.
        await dispatch(self.settings.model_copy(update={"broker_url": None}), OWN, asyncio.Event())

    async def beat(self, host: str) -> None:
        """One Beat."""
        client = open_async(self.settings, "beat")
        ticker = Ticker(BlockingClient(client), self.keys, self.settings, host)
        while True:
            wait = await on_this_loop(ticker.tick, 0.5)
            await asyncio.sleep(max(0.02, wait))

    async def publish(self, id_: str, send: Callable[[], Awaitable[Published]]) -> None:
        """Publish an event, again under the same id until that is answered; nothing where it was answered before."""
        while id_ not in self.told.accepted:
            self.told.tried.add(id_)
            try:
                self.told.accepted[id_] = (await send()).entry
            except (MeshError, RedisError, OSError) as error:
                if not (is_unavailable(error) or isinstance(error, MeshError)):
                    raise
                await asyncio.sleep(0.1)

    def publisher(
        self, ids: list[str], event_type: str, data: Callable[[str], Any], every: float = 0.02
    ) -> Callable[[str], Any]:
        """Return a role that publishes events one after another, each until it is answered, under the same id."""

        self.to_publish += len(ids)

        async def role(host: str) -> None:
            client = open_async(self.settings, "publisher")
            publisher = Publisher(client, self.keys, self.settings, "outside")
            for id_ in ids:
                await self.publish(id_, partial(publisher.publish, event_type, data(id_), id=id_))
                await asyncio.sleep(every)

        return role

    async def plain(self, ask: Callable[[redis.asyncio.Redis], Awaitable[Any]]) -> Any:
        """Ask the server something as an outsider whom no fault strikes."""

        async def act() -> Any:
            while True:
                client = redis.asyncio.Redis.from_url(self.url)
                try:
                    return await ask(client)
                except (RedisConnectionError, RedisTimeout, OSError):
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
        return any(errands.todo for errands in self.errands)

    async def until_errands_are_done(self) -> None:
        """Let virtual time pass until no operator has anything left to do."""
        for _ in range(600):
            if not self.is_busy():
                if self.losses:
                    await self.settle(lambda _: nothing_more())
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
        self,
        done: Callable[[redis.asyncio.Redis], Awaitable[str]],
        seconds: float = 120,
        meanwhile: Callable[[redis.asyncio.Redis], Awaitable[None]] | None = None,
    ) -> None:
        """Let virtual time pass until `done` answers "" and not what is missing.

        `meanwhile` is what outsiders do before each look; `done` is not asked any more once the server forgot something.
        Raises Forgotten where the server forgot something, when all is quiet and well but for that.
        """

        async def look(client: redis.asyncio.Redis) -> str:
            if meanwhile is not None:
                await meanwhile(client)
            return await (forgetting.unrest(client, self) if self.losses else done(client))

        missing, looks = "?", 0
        for _ in range(int(seconds / 0.5)):
            await asyncio.sleep(0.5)
            self.check_unbroken()
            if self.is_busy():
                missing = "errands"
            else:
                missing = await self.plain(look)
                if self.losses:
                    # A look takes several commands, between which work moves on.
                    looks = 0 if missing else looks + 1
                    missing = missing or ("" if looks > 1 else "a second look")
            if not missing and not self._restarting:
                self.striker.forgets_no_more()
                if self.losses:
                    await self.plain(lambda client: forgetting.check(client, self))
                    self.check_unbroken()
                    raise forgetting.Forgotten
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
