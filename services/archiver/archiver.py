"""Writes events, and tasks that ended, into the history; then they may leave Redis.

What if SIGKILL here? What was read and not acknowledged is read again, by this archiver or another, and written by
its id: at least once in, stored once. What was written before it had ended is written again when it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from sqlalchemy.exc import SQLAlchemyError
from streammesh import lua
from streammesh.events.publisher import ms
from streammesh.health import Pulse
from streammesh.history.archived import archived_call
from streammesh.history.engine import said
from streammesh.history.rows import EventRecord
from streammesh.history.store import HistoryBatch, HistoryStore
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import read_domains

from services.archiver.records import (
    EndedTask,
    EventKey,
    RowState,
    end_of,
    ended_of,
    event_record,
    read_ended,
    read_standings,
)
from services.archiver.settings import ArchiverSettings
from services.archiver.stream_group import Entries, Entry, StreamGroup, newest_ms

log = structlog.get_logger(__name__)
BLOCK = timedelta(seconds=1)
LONGEST_WAIT = 15.0  # seconds between tries while the history is away


class Archiver:
    """Reads both kinds of stream. Any number may run."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        group: StreamGroup,
        keys: Keys,
        settings: MeshSettings,
        own: ArchiverSettings,
        store: HistoryStore,
        pulse: Pulse | None = None,
    ) -> None:
        self._client, self._group, self._keys, self._settings = client, group, keys, settings
        self._own, self._store, self._pulse = own, store, pulse or Pulse()
        self._domains: dict[str, str] = {}  # stream -> domain
        self._looked_at = float("-inf")

    async def run(self) -> None:
        """Archive for ever."""
        await self._look()
        while entries := await self._group.mine(self._streams, self._own.batch):
            await self._archive_all(entries)
        while True:
            await self.run_once(BLOCK)

    async def run_once(self, block: timedelta | None = None) -> int:
        """Archive the next entries, which are waited for, and left for `linger`; answers how many those were."""
        if time.monotonic() - self._looked_at > self._own.look_every.total_seconds():
            await self._look()
            stale = await self._group.reclaim(self._streams, self._own.reclaim_idle, self._own.batch)
            await self._archive_all(stale)
        try:
            entries = await self._group.read(self._streams, self._own.batch, block)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            log.warning("archiver.group_lost")  # what is read again is stored once
            await self._look()
            return 0
        self._pulse.beat()
        if entries:
            age = time.time() * 1000 - newest_ms(entries)
            await asyncio.sleep(
                min(self._own.linger.total_seconds(), max(0.0, (ms(self._own.linger) - age) / 1000))
            )
        return await self._archive_all(entries)

    @property
    def _streams(self) -> list[str]:
        return [*self._domains, self._keys.tasks_recent()]

    async def _look(self) -> None:
        domains = await read_domains(self._client, self._keys)
        self._domains = {self._keys.events(domain): domain for domain in sorted(domains)}
        await self._group.join(self._streams)
        self._looked_at = time.monotonic()

    async def _archive_all(self, entries: Entries) -> int:
        """Archive entries, however long the history is away."""
        wait, number = 0.5, sum(len(found) for found in entries.values())
        while entries:
            try:
                await self._archive(entries)
                return number
            except SQLAlchemyError as error:
                log.warning("history.away", reason=said(error))
                self._pulse.rest("the history is away; what is to be archived waits in Redis")
            await asyncio.sleep(wait)
            wait = min(LONGEST_WAIT, wait * 2)
        return number

    async def _archive(self, entries: Entries) -> None:
        recent = self._keys.tasks_recent()
        for stream, found in entries.items():
            if stream == recent:
                await self._archive_tasks(found)
            else:
                await self._archive_events(stream, found)
            self._pulse.beat()

    async def _archive_events(self, stream: str, entries: Sequence[Entry]) -> None:
        domain = self._domains[stream]
        seen = [
            (position, envelope, record)
            for position, fields in entries
            if (envelope := fields.get(b"e"))
            and (record := event_record(domain, position, envelope, None)) is not None
        ]
        identities = [(record.id, record.source) for _, _, record in seen]
        standings = await read_standings(self._client, self._keys, identities)
        records = [
            with_standing(record, standing)
            if (standing := standings.get((record.id, record.source)))
            else record
            for _, _, record in seen
        ]
        await asyncio.to_thread(self._store.write, HistoryBatch(events=records))
        ended = [one for event, standing in standings.items() if (one := ended_of(event, standing))]
        positions = [position for position, _ in entries]
        call = archived_call(self._keys, self._settings, stream, positions, events=ended)
        await lua.run(self._client, call)

    async def _archive_tasks(self, entries: Sequence[Entry]) -> None:
        seen = await read_ended(self._client, self._keys, entries)
        days = {one.event: one.record.day for one in seen}
        standings = await read_standings(self._client, self._keys, list(days))
        ends = [
            end_of(days[event], event, found) for event, found in standings.items() if found.ended is not None
        ]
        ended = await asyncio.to_thread(
            self._store.write, HistoryBatch(tasks=[one.record for one in seen], ends=ends)
        )
        # An event whose row left before a replay of its task ended is counted by the history itself.
        forgotten = [(day, *event) for event, day in days.items() if event not in standings]
        if forgotten:
            await asyncio.to_thread(self._store.recount, forgotten)
        await self._let_go(entries, seen, standings, ended)

    async def _let_go(
        self,
        entries: Sequence[Entry],
        seen: Sequence[EndedTask],
        standings: dict[EventKey, RowState],
        ended: set[tuple[str, str]],
    ) -> None:
        # The row of an event stays until the event itself is in the history.
        over = [one for event in ended if event in standings and (one := ended_of(event, standings[event]))]
        call = archived_call(
            self._keys,
            self._settings,
            self._keys.tasks_recent(),
            [position for position, _ in entries],
            [(one.record.id, one.record.ended) for one in seen if one.record.ended is not None],
            over,
        )
        await lua.run(self._client, call)


def with_standing(record: EventRecord, standing: RowState) -> EventRecord:
    """An event's record with what its row says."""
    return record._replace(
        state=standing.state,
        wanted=standing.wanted,
        done=standing.done,
        failed=standing.failed,
        ended=standing.ended,
    )
