"""Looks at the mesh from outside of it: what is wrong goes to the log, and errors straight to the webhook.

An alert about dead letters is an event, which travels through the mesh. That the mesh itself is broken (no dispatcher,
a lane that stands still, Redis away or full) must not travel over the part that is broken, so it goes directly.

What if SIGKILL here? Who told of something last is noted in Redis before it is told; another scheduler, or this one
started again, tells it once more after `REMIND_MS`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import redis.asyncio
import structlog
from streammesh import Reject, Retry
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.inspection import Severity
from streammesh.roles import keep_on
from streammesh.settings import MeshSettings
from streammesh.status.findings import Finding, findings
from streammesh.status.snapshot import read_snapshot
from streammesh.status.whole import WholeMesh, findings_of

from services.scheduler.alerts import plain
from services.scheduler.webhook import tell

log = structlog.get_logger(__name__)
LOOK_SECONDS = 10.0
PATIENCE_SECONDS = 30.0  # a restart, a failover, a deployment are nothing to wake anybody for
REMIND_MS = 3_600_000  # what lasts is told again
LOOKS_OF_PATIENCE = 3  # time-outs of Redis that one look may take
Tell = Callable[[str], Awaitable[object]]


@dataclass(slots=True)
class _Seen:
    finding: Finding
    since: float
    logged: bool = False
    told_at: float | None = None


class StatusWatch:
    """One scheduler's look at the mesh. `tell` sends a text to people; None where nobody is to be told."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        tell: Tell | None,
        clock: Callable[[], float] = monotonic,
        shards: Sequence[tuple[redis.asyncio.Redis, MeshSettings]] = (),
    ) -> None:
        self._client, self._keys, self._settings = client, keys, settings
        self._shards = shards or [(client, settings)]
        self._tell, self._clock = tell, clock
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.run_once()
            await asyncio.sleep(LOOK_SECONDS)

    async def run_once(self) -> list[Finding]:
        """Look once; answer what has lasted long enough to be said."""
        now, found = self._clock(), {one.key: one for one in await self._look()}
        for key in [key for key in self._seen if key not in found]:
            await self._over(self._seen.pop(key))
        for key, one in found.items():
            seen = self._seen.setdefault(key, _Seen(one, now))
            seen.finding = one
        lasting = [seen for seen in self._seen.values() if now - seen.since >= PATIENCE_SECONDS]
        for seen in lasting:
            one = seen.finding
            if not seen.logged:
                say = log.error if one.severity is Severity.ERROR else log.warning
                say("mesh.finding", code=one.code, about=one.about, text=one.text, do=one.do)
                seen.logged = True
            if one.severity is Severity.ERROR and (
                seen.told_at is None or (now - seen.told_at) * 1000 > REMIND_MS
            ):
                await self._alert(seen, now)
        return [seen.finding for seen in lasting]

    async def _look(self) -> list[Finding]:
        if len(self._shards) == 1:
            return await self._look_at(*self._shards[0])
        each = await asyncio.gather(*(self._look_at(*shard) for shard in self._shards))
        return [one for number, said in enumerate(each) for one in findings_of(number, said)]

    async def _look_at(self, client: redis.asyncio.Redis, settings: MeshSettings) -> list[Finding]:
        try:
            async with asyncio.timeout(LOOKS_OF_PATIENCE * settings.redis_timeout.total_seconds()):
                found = await read_snapshot(client, Keys(settings.namespace), settings)
        except Exception as error:
            if not (is_unavailable(error) or isinstance(error, TimeoutError)):
                log.exception("mesh.not_looked_at")
            text = f"Redis cannot be asked how the mesh is: {type(error).__name__}"
            return [Finding("redis-away", "redis", Severity.ERROR, text, "look at Redis; all waits for it")]
        return findings(found, settings)

    async def _alert(self, seen: _Seen, now: float) -> None:
        if self._tell is None:
            return
        if not await self._is_mine(seen.finding):
            seen.told_at = now
            return
        lines = [plain(seen.finding.text), f"    {plain(seen.finding.do)}" if seen.finding.do else ""]
        if await self._send("\n".join(filter(None, lines))):
            seen.told_at = now
        else:
            await self._give_back(seen.finding)

    async def _over(self, seen: _Seen) -> None:
        if seen.logged:
            log.info("mesh.finding_over", code=seen.finding.code, about=seen.finding.about)
        if seen.told_at is not None and await self._give_back(seen.finding):
            await self._send(f"over: {plain(seen.finding.text)}")

    async def _is_mine(self, one: Finding) -> bool:
        """Whether no other scheduler has told of it lately. Without Redis everyone tells, rather than nobody."""
        try:
            async with asyncio.timeout(self._settings.redis_timeout.total_seconds()):
                key = self._keys.alert_told(one.key)
                return bool(await self._client.set(key, "1", nx=True, px=REMIND_MS))
        except Exception:
            return True

    async def _give_back(self, one: Finding) -> bool:
        try:
            async with asyncio.timeout(self._settings.redis_timeout.total_seconds()):
                return bool(await self._client.delete(self._keys.alert_told(one.key)))
        except Exception:
            return True

    async def _send(self, text: str) -> bool:
        if self._tell is None:
            return True
        try:
            await self._tell(text)
        except (Retry, Reject) as error:
            log.warning("alert.not_told", reason=str(error))
            return False
        return True


def watch_in_a_thread(settings: MeshSettings, url: str | None) -> None:
    """Watch beside the worker and Beat, until the process ends."""

    async def watch() -> None:
        mesh = WholeMesh(settings, "status-watch")
        shards = list(zip(mesh.clients, mesh.shards, strict=True))
        to = None if url is None else (lambda text: tell(url, text))
        client, first = shards[0]
        await keep_on(
            "status-watch", StatusWatch(client, Keys(first.namespace), first, to, shards=shards).run
        )

    threading.Thread(target=lambda: asyncio.run(watch()), name="status-watch", daemon=True).start()
