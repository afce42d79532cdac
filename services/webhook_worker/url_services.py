"""Runs a process for each service whose worker is a URL, and another one when its document changes."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import redis.asyncio
import structlog
from streammesh.api_keys import ApiKey
from streammesh.keys import Keys
from streammesh.roles import woken
from streammesh.webhooks.seal import Seal
from streammesh.webhooks.url_workers import UrlWorker, read_url_workers

from services.webhook_worker.owners import OwnerKeys

MODULE = f"{__package__}.url_service"
LONGEST_SLEEP = 1.0  # also how long a service goes on whose owner may not have it any more
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # before one that ended by itself is started again
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _ChildProcess:
    raw: bytes
    process: Process
    ended: asyncio.Task[int]
    pause: float


class UrlServices:
    """Keeps the processes as the documents say. `drain`: how long one may take to stop."""

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, api_keys: OwnerKeys, drain: float, seal: Seal
    ) -> None:
        self._client, self._keys, self._api_keys = client, keys, api_keys
        self._drain, self._seal = drain, seal
        self._running: dict[str, _ChildProcess] = {}
        self._paused: dict[
            str, tuple[float, float]
        ] = {}  # service -> until when, and how long the next pause is
        self._refused: set[str] = set()
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            self.changed.clear()
            await self.run_once()
            await woken(self.changed, LONGEST_SLEEP)

    async def run_once(self) -> None:
        """Stop what should not run, start what should."""
        wanted = await self._allowed(await read_url_workers(self._client, self._keys))
        now = time.monotonic()
        for name, running in list(self._running.items()):
            if running.ended.done():
                del self._running[name]
                if name in wanted and wanted[name][1] == running.raw:
                    log.error("url_worker.ended", service=name, exit_code=running.process.returncode)
                    self._paused[name] = now + running.pause, min(LONGEST_PAUSE, running.pause * 2)
            elif name not in wanted or wanted[name][1] != running.raw:
                await self._stop(name)
        for name, (_, raw) in sorted(wanted.items()):
            until, pause = self._paused.get(name, (0.0, FIRST_PAUSE))
            if name not in self._running and now >= until:
                await self._start(name, raw, pause)
        self._paused = {name: pause for name, pause in self._paused.items() if name in wanted}

    async def _allowed(self, found: dict[str, tuple[UrlWorker, bytes]]) -> dict[str, tuple[UrlWorker, bytes]]:
        """Those whose owner has the right to them at this moment, and that can be signed for; others are said once, and wait."""
        now_ms = time.time_ns() // 1_000_000
        owners: dict[str, list[ApiKey]] = {}
        if any(worker.owner for worker, _ in found.values()):
            for key in await self._api_keys.list():
                if not key.has_expired(now_ms):
                    owners.setdefault(key.name, []).append(key)
        refused = {}
        for name, (worker, _) in found.items():
            if worker.owner and not any(worker.may_be_told(key) for key in owners.get(worker.owner, ())):
                refused[name] = "its owner's key may not have it"
            elif not self._seal.keys(worker.secrets, name, now_ms):
                refused[name] = "its secret is sealed with a key that WEBHOOK_SECRET_KEYS does not hold"
        for name in sorted(refused.keys() - self._refused):
            log.error("url_worker.refused", service=name, owner=found[name][0].owner, reason=refused[name])
        self._refused = set(refused)
        return {name: one for name, one in found.items() if name not in refused}

    async def _start(self, name: str, raw: bytes, pause: float) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", MODULE, name, stdin=PIPE)
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(self._told)
        self._running[name] = _ChildProcess(raw, process, ended, pause)
        log.info("url_worker.started", service=name, pid=process.pid)

    @property
    def _told(self) -> Callable[[object], None]:
        return lambda _: self.changed.set()

    async def _stop(self, *names: str) -> None:
        stopped = [self._running.pop(name) for name in names]
        for one in stopped:
            with suppress(ProcessLookupError):
                one.process.terminate()
        if stopped:
            await asyncio.wait([one.ended for one in stopped], timeout=self._drain)
        for one in stopped:
            if not one.ended.done():
                with suppress(ProcessLookupError):
                    one.process.kill()
                await one.ended

    async def stop(self) -> None:
        """Stop all of them; what they have begun they may finish."""
        await self._stop(*self._running)
