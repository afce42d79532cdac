"""The router: reads each event once and hands it over to every service that wants it, in one script per batch.

Most services are at the head of their streams most of the time: all that was published was handed over to them. Those
are served by the router. It reads what follows in each domain's stream, finds by type who wants it, and moves the
position and makes the tasks in one step (`route.lua`): an event costs what wants it, not what is subscribed. A service
whose queue is full, or that has just joined, is served by its own lane, which reads the service's consumer group at its
own pace and leaves the service to the router when it has come to the head (`handoff.lua`). Nothing is kept for a
service that waits but a position; what waits for it are the events themselves, which are not trimmed before.

The position is the gate: of two dispatchers with the same entries one moves it. That only one of them reads a domain
saves work and is no promise; when it dies another one takes the domain after `TURN`. Whatever is odd (an entry that is
no event, one that Redis refuses) the router leaves to the lanes, each of which deals with it for its service.

What if SIGKILL here? Before the script nothing has happened, after it everything has; nothing is pending in between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.clock import Clock, to_ms
from streammesh.events.group_reader import Entry, read_after
from streammesh.events.publisher import most_bytes
from streammesh.keys import UNCLAIMED, Keys
from streammesh.redisio.client import is_unavailable
from streammesh.roles import keep_on
from streammesh.routed import (
    RoutedBatch,
    RouteVerdict,
    leave_call,
    level_call,
    members_of,
    route_call,
    take_call,
)
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Routes
from streammesh.tasks.handoff import Handover
from streammesh.telemetry import catalogue

from services.dispatcher.delivery_plan import Encode, plan_routing
from services.dispatcher.handoff_spans import make_spans
from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
TURN = timedelta(seconds=2)  # how long after a dispatcher fell silent another one routes its domains
RENEWALS_PER_TURN = 4  # three may fail
MEMORY_WAIT = timedelta(milliseconds=250)  # between two looks at a Redis that is full


class Served:
    """Which services the router serves in which domain, as far as this process knows. Redis decides."""

    def __init__(self) -> None:
        self._services: dict[str, frozenset[str]] = {}  # by domain
        self._notes = 0
        self.changed: Callable[[str], None] = lambda service: None

    def of(self, service: str) -> frozenset[str]:
        """Return the domains where the router serves a service."""
        return frozenset(domain for domain, services in self._services.items() if service in services)

    def begins(self, domain: str, service: str) -> None:
        """Note that the router serves a service."""
        self.note(domain, self._services.get(domain, frozenset()) | {service})

    def ends(self, domain: str, services: Collection[str]) -> None:
        """Note that it serves these no more."""
        self.note(domain, self._services.get(domain, frozenset()) - frozenset(services))

    def note(self, domain: str, services: frozenset[str]) -> None:
        """Note which services it serves in a domain."""
        self._notes += 1
        before = self._services.get(domain, frozenset())
        self._services[domain] = services
        for service in before ^ services:
            self.changed(service)

    async def look(self, client: redis.asyncio.Redis, keys: Keys, domains: Sequence[str]) -> None:
        """Read it: lanes of other dispatchers leave services to the router too."""
        notes, answers = -1, []
        while notes != self._notes:  # an answer may be older than what was noted while it was under way
            notes = self._notes
            pipeline = client.pipeline(transaction=False)
            for domain in domains:
                pipeline.hkeys(keys.routed(domain))
            answers = await pipeline.execute(raise_on_error=False)
        for domain, found in zip(domains, answers, strict=True):
            if isinstance(found, Exception) and is_unavailable(found):
                raise found
            self.note(domain, frozenset() if isinstance(found, Exception) else members_of(found))


@dataclass(slots=True)
class DomainCursor:
    """Where this process reads on in one domain, and for whom. `levelled`: up to where the groups followed."""

    position: str
    members: str
    services: frozenset[str]
    levelled: str = ""


@dataclass(frozen=True, slots=True)
class RouteBatch:
    """Entries of one domain that follow a position."""

    domain: str
    begins: str
    entries: Sequence[Entry]
    members: str
    services: frozenset[str]


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """What a batch becomes by one version of the manifests, up to an entry that only lanes can deal with."""

    batch: RouteBatch
    handovers: Sequence[Handover]
    broken: str | None
    version: str
    strangers: frozenset[str]  # served, and of no manifest that can be read: what they want is not known


class EventRouter:
    """The router of all domains that this dispatcher has taken."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        blocking: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        name: str,
        routes: Callable[[], Routes],
        look_again: Callable[[], Awaitable[None]],
        encode: Encode,
        clock: Clock,
        paused: Callable[[], Collection[str]],
        served: Served,
    ) -> None:
        self._client, self._blocking, self._keys = client, blocking, keys
        self._settings, self._own, self.name = settings, own, name
        self._routes, self._look_again = routes, look_again
        self._encode, self._clock, self._paused = encode, clock, paused
        self._served = served
        self._cursors: dict[str, DomainCursor] = {}
        self._renew_at = 0.0
        self._count = own.batch  # entries read at once: fewer where each is wanted by many
        self.domains: Collection[str] = ()
        self.changed = asyncio.Event()  # to be set when `domains` changed

    async def run(self) -> None:
        """Route until cancelled."""
        await keep_on("router", self._read)

    async def stop(self) -> None:
        """Once `run` is cancelled: let others have the domains at once."""
        gone = [take_call(self._keys, domain, self.name, timedelta(0)) for domain in self._cursors]
        await lua.run_many(self._client, gone)

    async def _read(self) -> None:
        self._cursors.clear()
        self._renew_at = 0.0
        under_way: asyncio.Task[None] | None = None
        try:
            while True:
                if asyncio.get_running_loop().time() >= self._renew_at or self.changed.is_set():
                    if under_way:
                        await under_way
                        under_way = None
                    await self._take()
                if not self._cursors:
                    await self._rest()
                    continue
                # While Redis hands one batch over, the next one is read and encoded; they stay in order.
                plans = self._plan(await self._read_on(wait=under_way is None))
                if under_way:
                    await under_way
                    under_way = None
                if plans:
                    under_way = asyncio.create_task(self._act(plans))
        finally:
            if under_way:
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)

    async def _rest(self) -> None:
        """Wait until a domain may be taken."""
        try:
            async with asyncio.timeout((TURN / RENEWALS_PER_TURN).total_seconds()):
                await self.changed.wait()
        except TimeoutError:
            pass

    async def _read_on(self, *, wait: bool) -> list[Entry]:
        positions = {domain: cursor.position for domain, cursor in self._cursors.items()}
        block = TURN / RENEWALS_PER_TURN if wait else None
        patience = self._settings.redis_timeout
        return await read_after(self._blocking, self._keys, positions, self._count, block, patience)

    async def _take(self) -> None:
        """Take the domains that nobody else routes, keep those that are taken, and let groups follow."""
        self.changed.clear()
        self._renew_at = asyncio.get_running_loop().time() + (TURN / RENEWALS_PER_TURN).total_seconds()
        domains = sorted(self.domains)
        known = {domain: cursor.members for domain, cursor in self._cursors.items()}
        calls = [take_call(self._keys, one, self.name, TURN, known.get(one, "")) for one in domains]
        behind = [one for one, cursor in self._cursors.items() if cursor.levelled != cursor.position]
        answers = await lua.run_many(
            self._client, [*calls, *(level_call(self._keys, domain) for domain in behind)]
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        for domain in behind:
            self._cursors[domain].levelled = self._cursors[domain].position
        before, self._cursors = self._cursors, {}
        for domain, taken in zip(domains, answers, strict=False):
            if taken is None:
                continue
            cursor = before.get(domain)
            if taken.services is None and cursor is not None:
                services = cursor.services
            else:
                services = taken.services or frozenset()
                self._served.note(domain, services)
            levelled = cursor.levelled if cursor else ""
            self._cursors[domain] = DomainCursor(taken.position, taken.members, services, levelled)
            if cursor is None:
                log.info("router.took", domain=domain, services=len(services))

    # --- one batch -----------------------------------------------------------------------------

    def _plan(self, entries: Sequence[Entry]) -> list[RoutePlan]:
        plans = []
        for domain, found in groupby(entries, key=lambda entry: entry.domain):
            cursor = self._cursors.get(domain)
            if cursor is None:
                continue
            batch = RouteBatch(domain, cursor.position, list(found), cursor.members, cursor.services)
            plan = self._planned(batch)
            plans.append(plan)
            if plan.handovers:
                cursor.position = plan.handovers[-1].entry
            is_cut = len(plan.handovers) < len(batch.entries)
            self._count = max(1, len(plan.handovers)) if is_cut else min(self._own.batch, 2 * self._count)
        return plans

    def _planned(self, batch: RouteBatch) -> RoutePlan:
        routes = self._routes()
        handovers, broken = plan_routing(
            batch.entries, routes, batch.services, self._encode, most_bytes(self._settings)
        )
        strangers = batch.services - routes.services - {UNCLAIMED}
        return RoutePlan(batch, handovers, broken.reason if broken else None, routes.version, strangers)

    async def _act(self, plans: Sequence[RoutePlan]) -> None:
        for plan in plans:
            domain = plan.batch.domain
            if domain not in self._cursors:
                continue  # the batch before it was refused
            try:
                done = await self._route(plan)
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                await self._leave_to_lanes(domain, str(error)[:200])
                continue
            if done.verdict is RouteVerdict.MOVED:
                self._begin_anew(domain)
            elif plan.broken:
                await self._leave_to_lanes(domain, plan.broken)

    async def _route(self, plan: RoutePlan) -> RoutedBatch:
        """Hand one batch over; it is planned again where the manifests changed, and waits for memory."""
        waits = False
        while plan.handovers:
            batch = plan.batch
            if plan.strangers:
                await lua.run(self._client, leave_call(self._keys, batch.domain, plan.strangers))
                return RoutedBatch(RouteVerdict.MOVED)
            call = route_call(
                *(self._keys, self._settings, batch.domain, plan.handovers, self._paused(), plan.version),
                begins=batch.begins,
                members=batch.members,
            )
            done = await lua.run(self._client, call)
            if done.verdict is RouteVerdict.STALE:
                log.info("router.plans_again", domain=batch.domain)
                await self._look_again()
                plan = self._planned(batch)
            elif done.verdict is RouteVerdict.FULL:
                if not waits:
                    log.warning("router.waits_for_memory", domain=batch.domain)
                waits = True
                await asyncio.sleep(MEMORY_WAIT.total_seconds())
            else:
                if done.left:
                    log.info("router.leaves", domain=batch.domain, services=sorted(done.left))
                    self._served.ends(batch.domain, done.left)
                    self._begin_anew(batch.domain)
                if done.verdict is RouteVerdict.DONE:
                    self._measure(plan.handovers, done)
                return done
        return RoutedBatch(RouteVerdict.DONE)

    def _begin_anew(self, domain: str) -> None:
        """Read on from where the router really is, for whom it really serves."""
        self._cursors.pop(domain, None)
        self._renew_at = 0.0

    async def _leave_to_lanes(self, domain: str, reason: str) -> None:
        log.warning("router.leaves_all", domain=domain, reason=reason[:200])
        self._begin_anew(domain)
        await lua.run(self._client, leave_call(self._keys, domain, None))
        await self._served.look(self._client, self._keys, [domain])

    def _measure(self, handovers: Sequence[Handover], done: RoutedBatch) -> None:
        events: Counter[str] = Counter()
        tasks: Counter[str] = Counter()
        for handover in handovers:
            services = [one.delivery.subscription.service for one in handover.deliveries]
            tasks.update(services)
            events.update(set(services))
        for service, number in events.items():
            catalogue.HANDED_OVER.inc(service, by=number)
            if service not in done.left:
                catalogue.DELIVERIES.inc(service, by=tasks[service])
        _observe_wait(handovers, events, to_ms(self._clock.now()))
        make_spans(handovers)


def _observe_wait(handovers: Sequence[Handover], services: Mapping[str, int], now_ms: int) -> None:
    came = int(handovers[0].entry.partition("-")[0])
    for service in services:
        catalogue.PUBLISH_TO_QUEUE.observe(max(0, now_ms - came) / 1000, service)
