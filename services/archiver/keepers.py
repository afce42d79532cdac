"""What the archiver does beside reading streams: events that ended late, dead letters, days that are over."""

from __future__ import annotations

import asyncio
import time

import redis.asyncio
import structlog
from sqlalchemy.exc import SQLAlchemyError
from streammesh import lua
from streammesh.history.archived import archived_call
from streammesh.history.engine import said
from streammesh.history.rows import EventEnd, LetterRecord, day_of, kept_text
from streammesh.history.store import HistoryBatch, HistoryStore, OpenEvent
from streammesh.keys import Keys
from streammesh.redisio.answers import only, there
from streammesh.settings import MeshSettings

from services.archiver.records import end_of, ended_of, read_standings
from services.archiver.settings import ArchiverSettings

log = structlog.get_logger(__name__)
PAGE = 500
OVERLAP_MS = 60_000  # dead letters are looked at again for so long: two writers' clocks
CLEAR_EVERY = 3_600.0  # seconds between looks for days that are over


class Keepers:
    """Looks every `ARCHIVER_LOOK_EVERY`. Any number may run."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: ArchiverSettings,
        store: HistoryStore,
    ) -> None:
        self._client, self._keys, self._settings, self._own, self._store = client, keys, settings, own, store
        self._after = (0, 0)  # the open event that was looked at last
        self._letters_since: dict[str, int] = {}  # service -> ms
        self._cleared_at = float("-inf")

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.run_once()
            except SQLAlchemyError as error:
                log.warning("history.away", reason=said(error))
            await asyncio.sleep(self._own.look_every.total_seconds())

    async def run_once(self) -> None:
        """Look once at everything."""
        await self.end_events()
        await self.copy_letters()
        if time.monotonic() - self._cleared_at > CLEAR_EVERY:
            await self.clear()
            self._cleared_at = time.monotonic()

    async def end_events(self) -> int:
        """Look at a page of events that had not ended when they were archived; answers how many have."""
        found = await asyncio.to_thread(self._store.open_events, self._after, PAGE)
        self._after = (found[-1].at, found[-1].seq) if len(found) == PAGE else (0, 0)
        if not found:
            return 0
        identities = [(one.id, one.source) for one in found]
        standings = await read_standings(self._client, self._keys, identities)
        ends: list[EventEnd] = []
        for one in found:
            standing = standings.get((one.id, one.source))
            if standing is None:
                ends.append(_forgotten(one))
            elif standing.ended is not None:
                ends.append(end_of(one.day, (one.id, one.source), standing))
        await asyncio.to_thread(self._store.write, HistoryBatch(ends=ends))
        if lost := [(one.day, one.id, one.source) for one in found if (one.id, one.source) not in standings]:
            await asyncio.to_thread(self._store.recount, lost)
        over = [ended for event, standing in standings.items() if (ended := ended_of(event, standing))]
        if over:
            stream = self._keys.tasks_recent()
            await lua.run(self._client, archived_call(self._keys, self._settings, stream, [], events=over))
        return len(ends)

    async def copy_letters(self) -> int:
        """Write dead letters down that were parked since the last look; answers how many."""
        services = await only(self._client.pipeline(transaction=False).smembers(self._keys.dead_services()))
        copied = 0
        for raw in there(services, set()):
            service = raw.decode("utf-8", "replace")
            since = self._letters_since.get(service)
            if since is None:
                since = await asyncio.to_thread(self._store.last_letter, service)
            copied += await self._copy(service, since)
        return copied

    async def _copy(self, service: str, since: int) -> int:
        index, begin, copied, skipped = self._keys.dead_index(service), max(0, since - OVERLAP_MS), 0, 0
        while True:
            page = there(
                await only(
                    self._client.pipeline(transaction=False).zrange(
                        index, begin, "+inf", byscore=True, offset=skipped, num=PAGE, withscores=True
                    )
                ),
                [],
            )
            if page:
                letters = await self._client.hmget(self._keys.dead(service), [id for id, _ in page])
                rows = [
                    LetterRecord(
                        day_of(int(at)), service, kept_text(id.decode("utf-8", "replace")), int(at),
                        kept_text(letter.decode("utf-8", "replace")),
                    )
                    for (id, at), letter in zip(page, letters, strict=True)
                    if letter is not None and 0 <= at < 10**14
                ]  # fmt: skip
                await asyncio.to_thread(self._store.write, HistoryBatch(letters=rows))
                copied += len(rows)
                self._letters_since[service] = max(since, *(int(at) for _, at in page if at < 10**14), 0)
                skipped += len(page)
            if len(page) < PAGE:
                return copied

    async def clear(self) -> int:
        """Drop the days that are older than `MESH_RETENTION`; answers how many partitions or rows those were."""
        seconds, _ = await self._client.time()
        first = day_of(seconds * 1000 - round(self._settings.retention.total_seconds() * 1000))
        dropped = await asyncio.to_thread(self._store.drop_before, first)
        if dropped:
            log.info("history.cleared", dropped=dropped)
        return dropped


def _forgotten(one: OpenEvent) -> EventEnd:
    """An event of which Redis knows nothing any more."""
    return EventEnd(one.day, one.id, one.source, "completed", None, 0, 0, one.at)
