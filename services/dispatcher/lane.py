"""One lane: reads what one service subscribes to and hands it over to that service's queue.

It is how a service catches up: when it is new, when its queue was full, when something in a stream cannot be handed over.
At the head of a stream the router serves all services at once (`router.py`), and the lane waits until it does not.

What if SIGKILL here? Before the hand-off call the entries are pending and another dispatcher takes
them over; within it nothing can happen, it is one script; after it they are acknowledged and queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.clock import Clock, to_ms
from streammesh.dead_letters.parked_events import park_event_call
from streammesh.events.group_reader import Entry, GroupReader
from streammesh.events.publisher import most_bytes
from streammesh.keys import UNCLAIMED, Keys
from streammesh.redisio.client import is_unavailable
from streammesh.roles import keep_on
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Routes
from streammesh.tasks.handoff import HandedOver, Handover, handoff_call
from streammesh.telemetry import catalogue

from services.dispatcher.delivery_plan import Broken, DeliveryPlan, Encode, plan_batch
from services.dispatcher.handoff_spans import make_spans
from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
FULL_WAIT = timedelta(milliseconds=100)  # between two looks at a queue that is full
MOST_REFUSED = 5  # whole batches in a row; a lane tries again for some seconds before it gives its events up
MEMORY_WAIT = timedelta(milliseconds=250)  # between two looks at a Redis that is full
GONE_WAIT = timedelta(seconds=1)
EARLY_WAIT = timedelta(
    milliseconds=20
)  # between two looks whether another lane has handed over what was before
SAID_EVERY = timedelta(minutes=1)  # how often a lane that goes on waiting says so
SERVED_RECLAIM = 20  # times as long until a lane looks again for what others left, while the router serves
REFILL_AT = 0.9  # a lane goes on when its queue has fallen to this part of `max_queued`


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries, what they become, and by which version of the manifests."""

    entries: Sequence[Entry]
    plans: dict[str, DeliveryPlan]
    version: str


class ServedDomains(Protocol):
    """Where the router is known to serve a service; without one the lane does all by itself."""

    def of(self, service: str) -> Collection[str]:
        """Return the domains."""

    def begins(self, domain: str, service: str) -> None:
        """Note that the router serves the service from now on."""


class Lane:
    """The lane of one service over a fixed set of domains; when the set changes, a new lane is made."""

    def __init__(
        self,
        service: str,
        domains: Sequence[str],
        reader: GroupReader,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        routes: Callable[[], Routes],
        look_again: Callable[[], Awaitable[None]],
        encode: Encode,
        clock: Clock,
        paused: Callable[[], Collection[str]] = frozenset,
        served: ServedDomains | None = None,
    ) -> None:
        self._paused = paused
        self._served = served
        self.changed = asyncio.Event()  # to be set when the router begins or ceases to serve the service
        self._refused_in_a_row = 0
        self.service, self.domains = service, sorted(domains)
        self._reader, self._client, self._keys = reader, client, keys
        self._settings, self._own = settings, own
        self._routes, self._look_again = routes, look_again
        self._encode, self._clock = encode, clock

    async def run(self) -> None:
        """Read and hand over, and take over what other dispatchers left, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_on(f"lane {self.service}", self._read))
            group.create_task(keep_on(f"reclaimer {self.service}", self._reclaim))

    async def finish(self) -> None:
        """Once `run` is cancelled: hand over what this process was given as it stopped.

        The answer to a read that was cut short is lost, and its entries would wait until others take them over.
        """
        await (
            self._client.ping()
        )  # by its answer the server has seen that the waiting read's connection is gone
        while mine := await self._mine():
            await self.hand_over(mine)

    async def _mine(self) -> list[Entry]:
        """Return what this process was given; nothing where a group is gone, which the next read of new entries meets."""
        try:
            return await self._reader.mine(self.domains, self._own.batch)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return []

    async def _join(self) -> None:
        """Make the group where it is missing; that of a removed service stays away, until it registers again."""
        while not await self._reader.join(self.domains):
            await self._look_again()
            await asyncio.sleep(GONE_WAIT.total_seconds())  # this lane is about to be stopped

    async def _read(self) -> None:
        await self._join()
        # What this process was given before its last read was cut short is pending under its name.
        while mine := await self._mine():
            await self.hand_over(mine)
        await self._offer()
        under_way: asyncio.Task[bool] | None = None
        try:
            while True:
                self.changed.clear()
                if not under_way and not self._unserved():
                    await self.changed.wait()
                    continue
                # While Redis hands one batch over, the next one is read and encoded; they stay in order.
                entries = await self._read_new(None if under_way else self._own.block)
                if not entries and not under_way:
                    await self._offer()
                batch = self._plan(entries) if entries else None
                if under_way:
                    full, under_way = await under_way, None
                    if full:
                        await self._wait_for_room()
                if batch:
                    under_way = asyncio.create_task(self._act(batch))
        finally:
            if under_way:
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)

    def _unserved(self) -> list[str]:
        """Return the domains that the lane has to read itself."""
        served = self._served.of(self.service) if self._served else ()
        return [domain for domain in self.domains if domain not in served]

    async def _offer(self) -> None:
        """Leave the service to the router where nothing waits for it."""
        if self._served is None:
            return
        version = self._routes().version
        for domain in self._unserved():
            done = await lua.run(self._client, self._call(domain, [], version))
            if done.routed:
                self._served.begins(domain, self.service)

    async def _read_new(self, block: timedelta | None) -> list[Entry]:
        unserved = self._unserved()
        if not unserved:
            return []
        try:
            return await self._reader.read(unserved, self._own.batch, block)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._look_again()
            if self._is_removed():
                await asyncio.sleep(GONE_WAIT.total_seconds())  # this lane is about to be stopped
                return []
            log.warning("lane.group_lost", service=self.service)
            await self._join()
            return []

    async def _reclaim(self) -> None:
        while (
            True
        ):  # looks first: what was left by processes that die soon after they start waits no longer for it
            try:
                stale = await self._reader.reclaim(self.domains, self._own.reclaim_idle, self._own.batch)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                stale = []  # the reader makes it anew
            if stale:
                log.info("lane.took_over", service=self.service, count=len(stale))
                await self.hand_over(stale)
            every = self._own.reclaim_every * (1 if self._unserved() else SERVED_RECLAIM)
            await asyncio.sleep(every.total_seconds())

    async def hand_over(self, entries: Sequence[Entry]) -> bool:
        """Hand a batch over, exactly once each; answers whether what it went into is full now."""
        return await self._act(self._plan(entries))

    def _plan(self, entries: Sequence[Entry]) -> Batch:
        most, routes = most_bytes(self._settings), self._routes()
        plans = plan_batch(entries, routes, self.service, self._encode, most)
        return Batch(entries, plans, routes.version)

    async def _act(self, batch: Batch) -> bool:
        full = False
        for domain, plan in batch.plans.items():
            for broken in plan.broken:
                await self._park(broken)
            if not plan.handovers:
                continue
            done = await self._hand_off(domain, plan.handovers, batch.version)
            if (
                done.stale
            ):  # a subscription came or went since: none of these events is judged by the old ones
                log.info("lane.plans_again", service=self.service, domain=domain)
                await self._look_again()
                if self._is_removed():
                    log.info("lane.service_removed", service=self.service)
                    return full  # what it was given is dealt with by whoever removes the service
                rest = self._plan([entry for entry in batch.entries if entry.domain == domain])
                full = await self._act(rest) or full
                continue
            if done.routed and self._served is not None:
                self._served.begins(domain, self.service)
            if done.skipped < len(plan.handovers):  # else another handed all of it over, the router mostly
                self._measure(plan.handovers, done)
            full = full or (done.queued or 0) >= self._settings.max_queued
            full = full or (done.held or 0) >= self._settings.max_held
            if done.tasks:
                log.debug("events.handed_over", service=self.service, domain=domain, tasks=done.tasks)
        return full

    def _measure(self, handovers: Sequence[Handover], done: HandedOver) -> None:
        catalogue.HANDED_OVER.inc(self.service, by=len(handovers))
        catalogue.DELIVERIES.inc(self.service, by=done.tasks)
        came = int(handovers[0].entry.partition("-")[0])
        catalogue.PUBLISH_TO_QUEUE.observe(max(0, to_ms(self._clock.now()) - came) / 1000, self.service)
        make_spans(handovers)

    def _is_removed(self) -> bool:
        return self.service != UNCLAIMED and self.service not in self._routes().services

    def _call(self, domain: str, handovers: Sequence[Handover], version: str) -> lua.Call[HandedOver]:
        return handoff_call(
            *(self._keys, self._settings, domain, self.service, handovers, self._paused(), version),
            may_join=self._served is not None,
        )

    async def _hand_off(self, domain: str, handovers: Sequence[Handover], version: str) -> HandedOver:
        """Hand over in one step. Where Redis refuses that for what one entry meets, the others go all the same."""
        try:
            call = self._call(domain, handovers, version)
            parts = [await self._when_there_is_memory(call)]
            # Another lane has what is before the rest of these; it hands that over, or it is taken over.
            while parts[-1].early:
                await asyncio.sleep(EARLY_WAIT.total_seconds())
                parts.append(await self._when_there_is_memory(call))
            done = HandedOver.of_all(parts)
        except ResponseError as error:
            if is_unavailable(error):
                raise
            log.error("events.refused", service=self.service, domain=domain, reason=str(error)[:200])
            done = await self._one_by_one(domain, handovers, version, error)
        self._refused_in_a_row = 0
        return done

    async def _one_by_one(
        self, domain: str, handovers: Sequence[Handover], version: str, error: ResponseError
    ) -> HandedOver:
        """Hand over each on its own, and park what is refused still; if all are, it is not the events' fault at first."""
        done, refused, later = list[HandedOver](), list[Broken](), list[Handover]()
        for one in handovers:
            try:
                answer = await self._when_there_is_memory(self._call(domain, [one], version))
                if answer.early:  # it is to wait for one that is refused, perhaps
                    later.append(one)
                else:
                    done.append(answer)
            except ResponseError as why:
                if is_unavailable(why):
                    raise
                reason = f"Redis refuses to hand it over: {why}"[:500]
                refused.append(Broken(Entry(domain, one.entry, one.event.to_json()), reason))
        if refused and not done:
            self._refused_in_a_row += 1
            if self._refused_in_a_row < MOST_REFUSED:
                raise error
        for broken in refused:
            await self._park(broken)
        if later:
            done.append(await self._hand_off(domain, later, version))
        return HandedOver.of_all(done)

    async def _when_there_is_memory(self, call: lua.Call[HandedOver]) -> HandedOver:
        """Ask until Redis has room for more tasks: nothing of the batch is acknowledged before."""
        done = await lua.run(self._client, call)
        if not done.full:
            return done
        log.warning("lane.waits_for_memory", service=self.service)
        while done.full:
            await asyncio.sleep(MEMORY_WAIT.total_seconds())
            done = await lua.run(self._client, call)
        log.info("lane.goes_on", service=self.service)
        return done

    async def _park(self, broken: Broken) -> None:
        entry = broken.entry
        call = park_event_call(
            self._keys,
            self._settings.dead_letters_kept,
            self.service,
            *(entry.domain, entry.position, entry.envelope),
            kind="BrokenEvent",
            reason=broken.reason,
        )
        if await lua.run(self._client, call):
            catalogue.PARKED.inc(self.service)
            log.error("event.parked", service=self.service, entry=entry.position, reason=broken.reason)

    async def _wait_for_room(self) -> None:
        log.info("lane.waiting", service=self.service)
        clock = asyncio.get_running_loop()
        began = said = clock.time()
        while await self._is_full():
            await asyncio.sleep(FULL_WAIT.total_seconds())
            if clock.time() - said >= SAID_EVERY.total_seconds():
                said = clock.time()
                log.warning("lane.waits_on", service=self.service, seconds=round(said - began))
        if said > began:
            log.info("lane.goes_on", service=self.service, seconds=round(clock.time() - began))

    async def _is_full(self) -> bool:
        pipeline = self._client.pipeline(transaction=False)
        for queue in self._routes().queues(self.service):
            for stream in self._keys.queue_streams(queue):
                pipeline.xlen(stream)
        if max(await pipeline.execute()) > self._settings.max_queued * REFILL_AT:
            return True
        held = [name for name in self._paused() if name.partition(".")[0] == self.service]
        lengths = [await self._client.xlen(self._keys.held(name)) for name in held]
        lines = [
            await self._client.zcard(self._keys.flow_line(name))
            for name in self._routes().flows(self.service)
        ]
        if max(lines, default=0) > self._settings.max_held * REFILL_AT:
            return True
        return max(lengths, default=0) > self._settings.max_held * REFILL_AT
