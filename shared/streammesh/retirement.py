"""Takes a service out of the mesh: what it wanted, what waits for it, and the groups that keep events for it.

First its manifest goes, so nothing new is for it; then what waits is dropped or becomes dead letters, some at a time;
then the rest goes in one step. An event that waited for it ends without it, so whoever follows that is told.

What if SIGKILL here? Each step is a script of its own and may be made again; whoever removes the service next goes on.
A worker of it that starts meanwhile registers it again, and the removal stops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Literal

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.dead_letters.parked_events import park_event_call
from streammesh.errors import InvalidEvent, InvalidManifest, MeshError
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.events.group_reader import Entry, GroupReader
from streammesh.keys import PRIORITIES, WORKERS, Keys
from streammesh.lua.events import LowerWantedScript
from streammesh.lua.services import (
    ForgetServiceScript,
    ForgottenDomain,
    ForgottenSubscription,
    RemoveManifestScript,
)
from streammesh.redisio.heartbeat import FRESH_MS, process_name
from streammesh.routed import leave_call
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Routes, delivery
from streammesh.subscriptions.registry import read_domains, read_registered
from streammesh.tasks.dead_letter import park_call
from streammesh.tasks.records import Rows, TaskRow
from streammesh.tasks.settlement import Cause, Ending, Settlement, carry_out_async
from streammesh.tasks.task import Failure, Holder, QueuePlace

log = structlog.get_logger(__name__)
PAGE = 100  # events or tasks dealt with in one step
REASON = "its service was removed"
REMOVED = Failure(REASON, "ServiceRemoved")
Fate = Literal["drop", "dead-letter"]


class ServiceAlive(MeshError):
    """Workers of the service live, or have registered it again: it cannot be removed. The text says so."""


class NoSuchService(MeshError):
    """Nothing of a service with this name is there."""


@dataclass(slots=True)
class Retired:
    """What became of it so far: events that were not handed over, tasks, plain calls; `done` when nothing is left."""

    events: int = 0
    tasks: int = 0
    calls: int = 0
    done: bool = False


class Retirement:
    """Takes one service away. `fate`: what becomes of what waits for it."""

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings, service: str, fate: Fate
    ) -> None:
        self._client, self._keys, self._settings = client, keys, settings
        self._service, self._fate = service, fate
        self._settlement = Settlement(keys, settings)
        self._wanted = Routes([])
        self._queues = [service]
        self._tasks: set[str] = set()  # names of its subscriptions' tasks
        self._domains: list[str] = []  # whose streams have its group

    async def run(self, seconds: float) -> Retired:
        """Go on for some time. Raises ServiceAlive, NoSuchService."""
        until, retired = time.monotonic() + seconds, Retired()
        await self._begin()
        while not retired.done and time.monotonic() < until:
            await self._step(retired)
            await asyncio.sleep(0)
        if retired.done:
            log.warning("service.removed", service=self._service, fate=self._fate)
        return retired

    async def _begin(self) -> None:
        living, manifest = await lua.run(self._client, self._remove_call())
        if living:
            raise ServiceAlive(f"{living} of its workers live: stop them first")
        try:
            wanted = Manifest.from_json(manifest) if manifest else Manifest(self._service)
        except InvalidManifest:
            wanted = Manifest(self._service)  # broken: what waits is known by its tasks
        await self._leave_router(wanted.domains - {"*"})
        self._domains = await self._read(wanted.domains - {"*"})
        if not manifest and not self._domains and not await self._is_anything_left():
            raise NoSuchService(f"there is no service {self._service!r}")
        self._wanted = Routes([wanted])
        self._queues = wanted.queue_names
        self._tasks = {one.task for one in wanted.subscriptions}

    @property
    def _streams(self) -> list[str]:
        return [stream for queue in self._queues for stream in self._keys.queue_streams(queue)]

    def _remove_call(self) -> lua.Call[tuple[int, bytes]]:
        keys = self._keys
        return RemoveManifestScript(
            manifests=keys.manifests(),
            sealed=keys.sealed_manifest(self._service),
            version=keys.manifests_version(),
            alive=keys.alive(self._service),
            retiring=keys.retiring(),
            service=self._service,
            fresh=FRESH_MS,
            changed=keys.manifests_changed(),
        ).call(lambda answer: (int(answer[0]), bytes(answer[1])))

    async def _leave_router(self, wanted: frozenset[str]) -> None:
        """Let its groups say what it was not handed; nothing new is planned for it since its manifest went."""
        domains = sorted(await read_domains(self._client, self._keys) | wanted)
        calls = [leave_call(self._keys, domain, [self._service]) for domain in domains]
        for answer in await lua.run_many(self._client, calls):
            if isinstance(answer, Exception):
                raise answer

    async def _read(self, wanted: frozenset[str]) -> list[str]:
        """Return the domains where it has a group; of those that it wanted some may have had no event yet."""
        found = []
        for domain in sorted(await read_domains(self._client, self._keys) | wanted):
            try:
                groups = await self._client.xinfo_groups(self._keys.events(domain))
            except ResponseError:
                continue  # no stream
            if any(group["name"] == self._service.encode() for group in groups):
                found.append(domain)
        return found

    async def _is_anything_left(self) -> bool:
        return bool(await self._client.exists(self._keys.open_tasks(self._service), *self._streams))

    async def _step(self, retired: Retired) -> None:
        if events := await self._events():
            retired.events += events
        elif tasks := await self._open_tasks():
            retired.tasks += tasks
        elif calls := await self._calls():
            retired.calls += calls
        else:
            retired.done = await self._forget()

    # --- events that were not handed over -----------------------------------------------------

    async def _events(self) -> int:
        if not self._domains:
            return 0
        consumer = process_name("retirement")
        reader = GroupReader(self._client, self._client, self._keys, self._service, consumer)
        entries = await reader.reclaim(self._domains, timedelta(0), PAGE)
        entries = entries or await reader.read(self._domains, PAGE, None)
        if not entries:
            return 0
        registered = await read_registered(self._client, self._keys)
        if any(manifest.service == self._service for manifest in registered.manifests):
            raise ServiceAlive("a worker of it has registered it again")
        routes = Routes(registered.manifests, registered.version, registered.joined)
        parsed = [(entry, _parsed(entry)) for entry in entries]
        calls = [self._lower_call(entry, event, routes) for entry, event in parsed if event is not None]
        answers = await lua.run_many(self._client, calls)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if "stale" in answers:
            return len(entries)  # they are pending, and come again with the next step
        await self._let_go(parsed)
        return len(entries)

    def _lower_call(self, entry: Entry, event: Event, routes: Routes) -> lua.Call[str]:
        keys = self._keys
        wanting = routes.wanting_at(event, entry.position, self._service)
        return LowerWantedScript(
            event_row=keys.event(event.id),
            notifications=keys.notifications(),
            version=keys.manifests_version(),
            planned_by=routes.version,
            kept=self._settings.notifications_bound,
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            fragment=event.fragment,
            task_ids=[delivery(event, one).task_id for one in wanting],
        ).call(lambda answer: str(answer.decode()))

    async def _let_go(self, parsed: Sequence[tuple[Entry, Event | None]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for entry, event in parsed:
            wanted = event is not None and self._wanted.wanting(event)
            if wanted and self._fate == "dead-letter":
                call = park_event_call(
                    self._keys,
                    self._settings.dead_letters_kept,
                    self._service,
                    *(entry.domain, entry.position, entry.envelope),
                    kind=REMOVED.kind,
                    reason=REASON,
                )
                await lua.run(self._client, call)
            else:
                pipeline.xack(self._keys.events(entry.domain), self._service, entry.position)
        await pipeline.execute()

    # --- tasks --------------------------------------------------------------------------------

    async def _open_tasks(self) -> int:
        key = self._keys.open_tasks(self._service)
        ids = [raw.decode("utf-8", "replace") for raw in await self._client.zrange(key, 0, PAGE - 1)]
        rows = {row.id: row for row in await Rows(self._client, self._keys).tasks(ids)}
        nothing = [i for i in ids if i not in rows or rows[i].ended]
        if nothing:
            await self._client.zrem(key, *nothing)
        for row in rows.values():
            self._tasks.add(row.name)
            if not row.ended:
                await self._end(row)
        return len(ids)

    async def _end(self, row: TaskRow) -> None:
        dropped = self._fate == "drop"
        ending = (
            Ending.cancelled(REMOVED, Cause.REMOVED) if dropped else Ending.failed(REMOVED, Cause.REMOVED)
        )
        said = {"attempt": row.attempt}
        steps = self._settlement.settle(
            row.ref, row.place, Holder.ANYBODY, ending, said=said, attempts=row.attempt
        )
        await carry_out_async(steps, partial(lua.run, self._client))

    # --- the rest -----------------------------------------------------------------------------

    async def _calls(self) -> int:
        """Park plain Celery calls that are queued; those that are dropped go with their queue."""
        if self._fate == "drop":
            return 0
        for queue, priority in product(self._queues, PRIORITIES):
            stream = self._keys.queue(queue, priority)
            found = await self._client.xrange(stream, count=PAGE)
            if found:
                await self._take(stream)
            calls = [
                park_call(
                    self._keys,
                    self._settings.dead_letters_kept,
                    QueuePlace(queue, priority, position.decode()),
                    REMOVED,
                )
                for position, fields in found
                if b"h" in fields
            ]
            parked = sum(answer is True for answer in await lua.run_many(self._client, calls)) if calls else 0
            if parked:
                return parked
        return 0

    async def _take(self, queue: str) -> None:
        """Be given the next entries of a queue: what nobody was given cannot be parked."""
        with suppress(ResponseError):  # there is a group, as usual
            await self._client.xgroup_create(queue, WORKERS, "0")
        await self._client.xreadgroup(WORKERS, process_name("retirement"), {queue: ">"}, PAGE)

    async def _forget(self) -> bool:
        keys = self._keys
        call = ForgetServiceScript(
            manifests=keys.manifests(),
            retiring=keys.retiring(),
            alive=keys.alive(self._service),
            open_tasks=keys.open_tasks(self._service),
            last_seen=keys.last_seen(),
            joined=keys.joined(),
            holding=keys.holding(),
            paused=keys.paused(),
            failures=keys.failures(),
            editions=keys.editions(self._service),
            sealed=keys.sealed_manifest(self._service),
            service=self._service,
            queues=self._streams,
            subscriptions=[
                ForgottenSubscription(held=keys.held(task), flow=keys.flow(task), task=task)
                for task in sorted(self._tasks)
            ],
            domains=[ForgottenDomain(stream=keys.events(domain), domain=domain) for domain in self._domains],
        ).call(lambda answer: str(answer.decode()))
        answer = await lua.run(self._client, call)
        if answer == "back":
            raise ServiceAlive("a worker of it has registered it again")
        return answer == "done"


def _parsed(entry: Entry) -> Event | None:
    try:
        return envelope.from_json(entry.envelope) if entry.envelope else None
    except InvalidEvent:
        return None
