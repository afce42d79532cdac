"""Looks for dead letters and paused subscriptions, and raises an alert about them: an event, whose task tells
the webhook. So a webhook that fails harms nothing, and of several schedulers one raises each alert.

What if SIGKILL here? Before `raise_alert.lua` nothing has happened; the next look finds the same again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta

import redis.asyncio
import structlog
from streammesh import lua, names
from streammesh.dead_letters import DeadLetter, DeadLetterFilter, DeadLetters
from streammesh.events.envelope import build
from streammesh.events.publisher import ms, stored_form
from streammesh.keys import Keys
from streammesh.lua.events import RaiseAlertScript
from streammesh.redisio.client import open_async
from streammesh.roles import keep_on
from streammesh.settings import MeshSettings
from streammesh.shards import each_shard
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.pause import Pause, read_paused

from services.scheduler.alerts import OURS, Found, document

log = structlog.get_logger(__name__)
LOOK_SECONDS = 2.0
MOST_READ = 500  # letters of one service whose reasons are looked at; all are counted
ALERT_RAISED = "alert.raised"


class AlertWatch:
    """Raises alerts, at most one in `every`."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        every: timedelta,
        others: Sequence[tuple[redis.asyncio.Redis, Keys]] = (),
    ) -> None:
        self._client, self._keys, self._settings, self._every = client, keys, settings, every
        self._shards = [(client, keys), *others]

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Look once; answers whether this call raised an alert."""
        # By the clock that is the most behind: what another shard notes as later is found by the next look.
        now = min([await DueSet(*shard).now_ms() for shard in self._shards])
        stored = await self._client.get(self._keys.alerted())
        if stored is None or not (stored.isdigit() and len(stored) < 15):
            # What was there before anybody watched is old news; what is no moment is begun anew.
            await self._client.set(self._keys.alerted(), now - 1, nx=stored is None)
            return False
        since, until = int(stored), now - 1  # this millisecond may bring more
        if until - since < ms(self._every):
            return False
        found = await self._find(since, until)
        if not found.worth_telling:
            return False
        return await self._raise(since, until, found)

    async def _find(self, since: int, until: int) -> Found:
        wanted = DeadLetterFilter(since_ms=since + 1, until_ms=until)
        total, letters, first = 0, [], until
        paused: dict[str, Pause] = {}
        for client, keys in self._shards:
            parked = DeadLetters(client, keys)
            for service in await parked.services():
                count = await client.zcount(keys.dead_index(service), since + 1, until)
                if not count:
                    continue
                seen: list[DeadLetter] = []
                async for letter in parked.walk(service, wanted, newest_first=False):
                    seen.append(letter)
                    if len(seen) >= MOST_READ:
                        break
                told = [letter for letter in seen if letter.task != OURS]
                total += count - (len(seen) - len(told))
                letters += told
                first = min([first, *(letter.at_ms for letter in told)])
            paused = {**await read_paused(client, keys), **paused}
        new = [pause for pause in paused.values() if since < pause.since_ms <= until and pause.task != OURS]
        return Found((until - first) / 1000, total, letters, new)

    async def _raise(self, since: int, until: int, found: Found) -> bool:
        event_id = names.tick_id("alert", until)
        event = build("scheduler", ALERT_RAISED, document(found), id=event_id)
        keys = self._keys
        call = RaiseAlertScript(
            alerted=keys.alerted(),
            domains=keys.domains(),
            due=keys.due(),
            due_entries=keys.due_entries(),
            counters=keys.counters(),
            last=since,
            until_ms=until,
            retention=ms(self._settings.remembered),
            changed=keys.manifests_changed(),
            events=[stored_form(keys, self._settings, event)],
        ).call(bool)
        raised = await lua.run(self._client, call)
        if raised:
            log.warning("alert.raised", dead_letters=found.dead_letters, paused=len(found.paused))
        return raised


def watch_in_a_thread(settings: MeshSettings, every: timedelta) -> None:
    """Watch beside the worker, until the process ends."""

    async def watch() -> None:
        (client, keys), *others = [
            (open_async(one, "alerts"), Keys(one.namespace)) for one in each_shard(settings.whole)
        ]
        await keep_on("alerts", AlertWatch(client, keys, settings, every, others).run)

    threading.Thread(target=lambda: asyncio.run(watch()), name="alerts", daemon=True).start()
