"""Removes what has had its time: old events, dead letters that nobody replayed, processes that are gone.

It is a role of the dispatcher and not a task of the mesh: it has to go on where Redis is so full that no task begins.
What if SIGKILL here? What was not removed is removed at the next look, by any dispatcher.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import redis.asyncio
import structlog
from streammesh.clock import Clock, to_ms
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.event_trim import Trimmed, forget_consumers, trim, trim_stream
from streammesh.keys import ARCHIVER, UNCLAIMED, Keys
from streammesh.redisio.answers import there
from streammesh.redisio.heartbeat import FORGET_MS
from streammesh.schedules.store import BEAT
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import read_domains, read_manifests

from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
AT_ONCE = 1_000
LIMIT, ROUNDS = 5_000, 20  # notifications that are removed by one command, and commands of one look
GONE_AFTER = timedelta(hours=1)  # a consumer that lives reads every few seconds
TIDY_EVERY = 3600.0  # seconds between removals of what grows slowly


class Trimmer:
    """Looks every `DISPATCHER_TRIM_EVERY`. Any number may run."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        clock: Clock,
        leave: Callable[[str], None] = lambda domain: None,
    ) -> None:
        """`leave` is told the domain where the group of nobody (`_unclaimed`) keeps events too long."""
        self._client, self._keys, self._settings, self._own = client, keys, settings, own
        self._clock, self._leave = clock, leave
        self._tidied_at = 0.0
        self._kept_by: dict[str, str] = {}  # said already: domain -> the group that keeps old events

    async def run(self) -> None:
        """Trim for ever."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._own.trim_every.total_seconds())

    async def run_once(self) -> list[Trimmed]:
        """Remove events that every service has had and that are older than the retention; now and then, the rest.

        With a history they go when they have been hot, and no sooner than the archiver has had them.
        """
        client, keys, settings = self._client, self._keys, self._settings
        if settings.has_history:
            found = await trim(client, keys, settings.hot_kept, ARCHIVER)
            await trim_stream(client, keys.tasks_recent(), "tasks-recent", settings.hot_kept, ARCHIVER)
        else:
            found = await trim(client, keys, settings.retention)
        removed = sum(stream.removed for stream in found)
        if removed:
            log.info("events.trimmed", removed=removed)
        self._tell(found)
        await self._trim_notifications()
        if not self._tidied_at or time.monotonic() - self._tidied_at > TIDY_EVERY:
            done = await self.tidy()
            self._tidied_at = time.monotonic()
            if any(done.values()):
                log.info("leftovers.dropped", **done)
        return found

    async def _trim_notifications(self) -> int:
        """Remove notifications that are too old, some thousand at a time; how many there may be, who writes them sees to."""
        seconds, _ = await self._client.time()
        oldest = max(0, seconds * 1000 - int(self._settings.notifications_age.total_seconds() * 1000))
        removed = 0
        for _ in range(ROUNDS):
            found = int(await self._client.xtrim(self._keys.notifications(), minid=oldest, limit=LIMIT))
            removed += found
            if found < LIMIT // 2:  # whole nodes of the stream go, so a last one is never full
                break
        return removed

    def _tell(self, found: list[Trimmed]) -> None:
        kept = {stream.domain: stream.kept_by for stream in found if stream.kept_by}
        for stream in found:
            if stream.kept_by and self._kept_by.get(stream.domain) != stream.kept_by:
                log.warning("events.kept", domain=stream.domain, group=stream.kept_by, left=stream.left)
            if stream.kept_by == UNCLAIMED:
                self._leave(stream.domain)
        self._kept_by = kept

    async def tidy(self) -> dict[str, int]:
        """Drop old dead letters, and forget consumers and processes that are gone. May be repeated at will."""
        client, keys = self._client, self._keys
        manifests = await read_manifests(client, keys)
        services = [manifest.service for manifest in manifests]
        dropped = await self._drop_dead_letters()
        streams = [keys.events(domain) for domain in sorted(await read_domains(client, keys))]
        streams.append(keys.tasks_recent())
        queues = [queue for manifest in manifests for queue in manifest.queue_names]
        streams += [stream for queue in queues for stream in keys.queue_streams(queue)]
        consumers = await forget_consumers(client, streams, GONE_AFTER)
        seconds, _ = await client.time()
        pipeline = client.pipeline(transaction=False)
        for role in ("dispatcher", "api", BEAT, *services):
            pipeline.zremrangebyscore(keys.alive(role), "-inf", seconds * 1000 - FORGET_MS)
        # Where something else lies, who shows life there next sets it aside.
        processes = sum(there(count, 0) for count in await pipeline.execute(raise_on_error=False))
        return {"dead_letters": dropped, "consumers": consumers, "processes": processes}

    async def _drop_dead_letters(self) -> int:
        letters = DeadLetters(self._client, self._keys)
        before = to_ms(self._clock.now() - self._own.dead_letters_kept)
        dropped, more = 0, True
        while more:
            found, more = await letters.matching(DeadLetterFilter(until_ms=before), AT_ONCE)
            dropped += await letters.drop(found)
        return dropped
