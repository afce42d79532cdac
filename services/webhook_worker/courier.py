"""Gives each webhook that has something due its turn. Those that work and those that do not have places of their own.

A webhook whose last delivery failed, or that never took one, is tried with one request at a time. Whatever takes its
time to answer leaves its place to others, up to a bound for each kind. So however many URLs are dead, the living wait
for none of them.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import redis.asyncio
import structlog
from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import process_name
from streammesh.roles import woken
from streammesh.webhooks.deliveries import settle_call
from streammesh.webhooks.store import StoredWebhook, WebhookStore

from services.webhook_worker.directory import Directory
from services.webhook_worker.retirement import give_up
from services.webhook_worker.sender import WebhookSender
from services.webhook_worker.session import Counts, Session
from services.webhook_worker.settings import WebhookSettings

PLACES = 200
FAILING_PLACES = 100
LONGEST_SLEEP = 2.0
log = structlog.get_logger(__name__)


class Courier:
    """Finds what is due, and runs sessions."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        directory: Directory,
        sender: WebhookSender,
        settings: WebhookSettings,
    ) -> None:
        self._client, self._keys, self._directory = client, keys, directory
        self._sender, self._settings = sender, settings
        self._store = WebhookStore(client, keys)
        self._sessions: dict[str, Session] = {}
        self._places = {False: PLACES, True: FAILING_PLACES}  # free ones, of the living and of the failing
        self._slow = {False: 0, True: 0}  # turns that have left their place and go on
        self._tasks: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()
        self.counts = Counts()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self.changed.clear()
            sleep = await self.run_once()
            await woken(self.changed, sleep)

    async def run_once(self) -> float:
        """Begin the turns that are due and have a place; answers after how many seconds to look again."""
        keys, sleep = self._keys, LONGEST_SLEEP
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        for name in (keys.webhooks_due(), keys.webhooks_failing()):
            pipeline.zrange(name, 0, PLACES + len(self._sessions), withscores=True)
        (seconds, micros), *found = await pipeline.execute()
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        room = self._settings.max_requests - sum(
            one.under_way for one in self._sessions.values() if not one.failing
        )
        for failing, due in zip((False, True), found, strict=True):
            for raw, at in due:
                webhook = raw.decode("utf-8", "replace")
                if at > now_ms:
                    sleep = min(sleep, max(0.001, (at - now_ms) / 1000))
                    break
                if webhook in self._sessions:
                    continue
                if self._places[failing] <= 0 or (room <= 0 and not failing):
                    break  # whoever leaves its place has us look again
                if (stored := self._directory.get(webhook)) is None:
                    await self._unknown(webhook)
                    continue
                room -= 0 if failing else self._settings.concurrency
                self._begin(stored, failing)
        return sleep

    async def _unknown(self, webhook: str) -> None:
        """It is due and not to be told: disabled while somebody held it who is gone, newer than what we have read, or garbage."""
        if (disabled := self._directory.webhooks.get(webhook)) is not None:
            lease_ms = int(self._settings.lease.total_seconds() * 1000)
            call = settle_call(
                self._keys, disabled.webhook, self._token(), claims=True, lease_ms=lease_ms, room=0
            )
            await lua.run(self._client, call)
            return
        if await self._client.hexists(self._keys.webhooks(), webhook):
            self._directory.changed.set()
        await self._client.zadd(
            self._keys.webhooks_due(), {webhook: time.time_ns() // 1_000_000 + 1_000}, xx=True
        )
        await self._client.zadd(
            self._keys.webhooks_failing(), {webhook: time.time_ns() // 1_000_000 + 1_000}, xx=True
        )

    def _token(self) -> str:
        return f"{process_name('webhook_worker')} {secrets.token_hex(8)}"

    def _begin(self, stored: StoredWebhook, failing: bool) -> None:
        has_left = False

        def slow() -> None:
            nonlocal has_left
            if self._slow[failing] < self._settings.max_requests // 2:
                has_left = True
                self._slow[failing] += 1
                self._places[failing] += 1
                self.changed.set()

        self._places[failing] -= 1
        session = Session(
            self._client,
            self._keys,
            stored.webhook,
            self._token(),
            self._sender,
            self._settings,
            self.counts,
            slow,
            failing=failing,
        )
        self._sessions[stored.webhook.id] = session
        task = asyncio.create_task(self._run(stored, session))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            if has_left:
                self._slow[failing] -= 1
            else:
                self._places[failing] += 1
            self._tasks.discard(task)
            self._sessions.pop(stored.webhook.id, None)
            self.changed.set()

        task.add_done_callback(ended)

    async def _run(self, stored: StoredWebhook, session: Session) -> None:
        try:
            await session.run()
            if session.gone:
                await give_up(self._store, stored, "the receiver answered 410: it wants nothing more")
            elif session.failing_since_ms is not None:
                for_ms = time.time_ns() // 1_000_000 - session.failing_since_ms
                if for_ms > self._settings.disable_after.total_seconds() * 1000:
                    hours = for_ms / 3_600_000
                    await give_up(self._store, stored, f"no delivery has arrived for {hours:.0f} hours")
        except Exception as error:  # its lease ends, and it is tried again
            log.warning("webhook.turn_broke", webhook=stored.webhook.id, reason=repr(error)[:200])
            await asyncio.sleep(0.5)

    async def stop(self, seconds: float) -> None:
        """Let what is under way end, up to a time."""
        for session in self._sessions.values():
            session.stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
