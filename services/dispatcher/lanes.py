"""Keeps the router and one lane per subscribing service running, and follows changes of manifests and domains.

Domains that no service reads have a lane of their own, `_unclaimed`, whose whole work is to account
for events that nobody wants.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.clock import Clock
from streammesh.events.group_reader import GroupReader
from streammesh.keys import UNCLAIMED, Keys
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import process_name
from streammesh.routed import leave_call
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Routes
from streammesh.subscriptions.registry import Registered, lanes, read_registered
from streammesh.tasks.pause import read_paused

from services.dispatcher.delivery_plan import Encode
from services.dispatcher.lane import Lane
from services.dispatcher.router import EventRouter, Served
from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
LAST_HAND_OVER = timedelta(seconds=3)  # of a stopping process
REMEMBERED = timedelta(seconds=10)  # three heartbeats of workers, after Redis lost its data


class RunningLane(NamedTuple):
    """A lane at work."""

    domains: frozenset[str]
    lane: Lane
    task: asyncio.Task[None]


class Lanes:
    """All lanes of one dispatcher process."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        encode: Encode,
        clock: Clock,
    ) -> None:
        self._client, self._keys, self._settings, self._own = client, keys, settings, own
        self._encode, self._clock = encode, clock
        self._routes = Routes([])
        self._paused: frozenset[str] = frozenset()
        self._known: dict[str, Manifest] = {}
        self._known_domains: frozenset[str] = frozenset()
        self._lost_at: float | None = None
        self._looked = False
        self._running: dict[str, RunningLane] = {}
        # Domains that a service took over, where the group of nobody has to go.
        self._leaving: set[str] = set()
        self._consumer = process_name("dispatcher")
        self._served = Served()
        self._served.changed = self._tell_lane
        self._routing: tuple[EventRouter, asyncio.Task[None]] | None = None

    def why_not_ready(self) -> str | None:
        """Return what to say while it is not known which lanes there should be, or a lane's task has ended."""
        if not self._looked:
            return "it has not read the manifests yet"
        if self._routing is None or self._routing[1].done():
            return "the router has ended"
        dead = [service for service, running in self._running.items() if running.task.done()]
        return f"the lane of {', '.join(sorted(dead))} has ended" if dead else None

    async def look(self) -> Registered:
        """Look at manifests and domains; from now on events are judged by them."""
        found = await read_registered(self._client, self._keys)
        manifests = self._and_forgotten(self._and_broken(found), found)
        self._routes = Routes(manifests, found.version, found.joined)
        return replace(found, manifests=manifests)

    async def refresh(self) -> None:
        """Look, and start, change or stop lanes so that they fit."""
        found = await self.look()
        self._paused = frozenset(await read_paused(self._client, self._keys))
        domains, wanted = found.domains, lanes(found.manifests, found.domains)
        claimed = frozenset().union(*wanted.values()) if wanted else frozenset()
        unclaimed = domains - claimed
        if unclaimed:
            wanted[UNCLAIMED] = unclaimed
        await self._served.look(self._client, self._keys, sorted(domains.union(*wanted.values())))
        self._route(domains)
        for service in list(self._running):
            if wanted.get(service) != self._running[service].domains:
                before = (await self._stop(service)).domains
                if service == UNCLAIMED:
                    self._leaving |= before
        for service, reads in wanted.items():
            if service not in self._running and reads:
                self._start(service, reads)
        self._looked = True
        # Last: a domain where Redis refuses it holds up no lane and no other domain.
        self._leaving -= unclaimed
        refused = None
        for domain in sorted(self._leaving):
            try:
                await self._leave(domain)
                self._leaving.discard(domain)
            except ResponseError as error:
                refused = error
        if refused is not None:
            raise refused

    async def _look_again(self) -> None:
        await self.look()

    def _and_broken(self, found: Registered) -> list[Manifest]:
        """The manifests, and of services whose stored one cannot be read the last one that could.

        Without it their events would be taken for unwanted ones until the worker, where it lives, registers anew.
        """
        return [
            *found.manifests,
            *(self._known[name] for name in sorted(found.broken) if name in self._known),
        ]

    def _and_forgotten(self, manifests: list[Manifest], found: Registered) -> list[Manifest]:
        """The manifests, and for a moment those that Redis lost: their workers, where they live, register anew.

        Without it events that come in that moment would be taken for unwanted ones.
        """
        now, domains = asyncio.get_running_loop().time(), found.domains
        # A service that was removed leaves the version behind; a Redis that lost its data has none.
        lost = bool(self._known_domains - domains) or (
            bool(self._known) and not manifests and not found.version
        )
        if lost and self._lost_at is None:
            log.error("redis.lost_data", services=sorted(self._known))
            self._lost_at = now
        if self._lost_at is not None and now - self._lost_at < REMEMBERED.total_seconds():
            stored = {manifest.service for manifest in manifests}
            return [*manifests, *(m for name, m in self._known.items() if name not in stored)]
        self._lost_at = None
        self._known = {manifest.service: manifest for manifest in manifests}
        self._known_domains = domains
        return manifests

    def _route(self, domains: frozenset[str]) -> None:
        if self._routing is None:
            blocking = open_async(self._settings, "router", blocking=True)
            router = EventRouter(
                self._client, blocking, self._keys, self._settings, self._own, self._consumer,
                lambda: self._routes, self._look_again, self._encode, self._clock, lambda: self._paused, self._served,
            )  # fmt: skip

            async def run() -> None:
                try:
                    await router.run()
                finally:
                    await blocking.aclose()

            self._routing = router, asyncio.create_task(run(), name="router")
        router = self._routing[0]
        if domains != router.domains:
            router.domains = domains
            router.changed.set()

    def _tell_lane(self, service: str) -> None:
        if (running := self._running.get(service)) is not None:
            running.lane.changed.set()

    def _start(self, service: str, domains: frozenset[str]) -> None:
        blocking = open_async(self._settings, f"lane-{service}", blocking=True)
        lane = Lane(
            service,
            sorted(domains),
            GroupReader(
                self._client, blocking, self._keys, service, self._consumer, self._settings.redis_timeout
            ),
            self._client,
            self._keys,
            self._settings,
            self._own,
            lambda: self._routes,
            self._look_again,
            self._encode,
            self._clock,
            lambda: self._paused,
            self._served,
        )

        async def run() -> None:
            try:
                await lane.run()
            finally:
                await blocking.aclose()

        task = asyncio.create_task(run(), name=f"lane {service}")
        self._running[service] = RunningLane(domains, lane, task)
        log.info("lane.started", service=service, domains=sorted(domains))

    async def _stop(self, service: str) -> RunningLane:
        running = self._running.pop(service)
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        return running

    def leave(self, domain: str) -> None:
        """Have the group of nobody taken away there with the next `refresh`, if a service reads the domain.

        It stays where the process that was to take it away died, or Redis forgot that it had gone.
        """
        self._leaving.add(domain)

    async def _leave(self, domain: str) -> None:
        """A service took the domain over: account for what is still unread, then take the group away."""
        await lua.run(self._client, leave_call(self._keys, domain, [UNCLAIMED]))
        reader = GroupReader(self._client, self._client, self._keys, UNCLAIMED, self._consumer)
        lane = Lane(
            UNCLAIMED, [domain], reader, self._client, self._keys, self._settings, self._own,
            lambda: self._routes, self._look_again, self._encode, self._clock,
        )  # fmt: skip
        try:
            await reader.join([domain])
            while rest := [
                *await reader.reclaim([domain], timedelta(0), self._own.batch),
                *await reader.read([domain], self._own.batch, None),
            ]:
                await lane.hand_over(rest)
            await reader.leave(domain)
        except ResponseError as error:
            if "NOGROUP" not in str(error):  # another dispatcher has done it meanwhile
                raise

    async def stop(self) -> None:
        """Stop every lane. What was read is handed over still; where Redis is away, others take it over later."""
        if self._routing is not None:
            self._routing[1].cancel()
            await asyncio.gather(self._routing[1], return_exceptions=True)
        stopped = [await self._stop(service) for service in list(self._running)]
        try:
            async with asyncio.timeout(LAST_HAND_OVER.total_seconds()):
                if self._routing is not None:
                    await self._routing[0].stop()
                for running in stopped:
                    await running.lane.finish()
        except Exception as error:
            log.warning("lane.left_pending", reason=str(error) or type(error).__name__)
