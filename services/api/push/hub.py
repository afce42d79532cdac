"""One reader of the notifications stream per process, fanned out in memory to everybody who listens.

The reader waits in XREAD BLOCK on a connection of its own: the server wakes it when the stream grows, so
the doorbell channel is not needed here (it would be a second connection, and a ring that is lost while
reconnecting would have to be made good by polling). It reads only while somebody follows.

A follower first catches up from its position and is attached in the same turn of the event loop in which it has
reached the reader: so nothing is missed and nothing comes twice, however long the past was. What is read is handed
to those whom the index finds for it, and to nobody else is it shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Container

import redis.asyncio
import structlog
from streammesh.api_keys import ApiKey
from streammesh.errors import Malformed, MeshUnavailable
from streammesh.keys import Keys
from streammesh.notification_log import PAGE, NotificationLog, bytes_of
from streammesh.notifications import Filter, Notification, position_key
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.page_size import PageSize
from streammesh.redisio.turns import Turns

from services.api.log_context import without_request
from services.api.problems import Problem
from services.api.push.catch_up import CatchUp, pages_of
from services.api.push.follower import BEGINNING, GONE, STOPPING, ClientOutlet, Follower
from services.api.push.follower_index import FollowerIndex
from services.api.push.push_spans import make_span
from services.api.push.told import Missed, Told
from services.api.push.wheel import HeartbeatWheel
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings

log = structlog.get_logger(__name__)

BLOCK_MS = 2_000  # also how long the reader goes on after the last follower left
MOST_ASKING = (
    50  # streams of one key that ask with an expression: each costs up to a millisecond a notification
)
FAN_OUT_SECONDS = 0.005  # of telling at a stretch, before others on the event loop have a turn


class Hub:
    """Reads once for all. One instance per process."""

    def __init__(
        self,
        notifications: NotificationLog,
        blocking: redis.asyncio.Redis,
        keys: Keys,
        settings: ApiSettings,
        reading: ReadLimit,
        timeout: float,
    ) -> None:
        self._log, self._blocking, self._keys = notifications, blocking, keys
        self._settings, self._reading, self._timeout = settings, reading, timeout
        self._open: dict[Follower, None] = {}  # has a slot
        self._by_key: Counter[str] = Counter()  # how many have one, by the key's name
        self._asking: Counter[str] = Counter()  # how many of them ask with an expression
        self._by_digest: dict[str, set[Follower]] = {}
        self._live = FollowerIndex()  # gets what is read
        self._wheel = HeartbeatWheel(settings.heartbeat.total_seconds(), self.resume_position)
        self._catch_up = CatchUp(
            notifications, reading, self.ensure_reading, self.attach_at_end, _without_request
        )
        self._position: str | None = None  # the reader's, while it reads
        self._at = BEGINNING  # the same as numbers
        self._told = "0-0"  # all up to here went to everybody who is to be told
        self._told_at = BEGINNING
        self._look = PageSize(PAGE)
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self.stopping = False
        self._fails_since: tuple[float, str] | None = None  # when the reader began to fail, and why

    def stands_still(self) -> tuple[float, str] | None:
        """For how many seconds nothing was read for those who listen, and why; None while all is well."""
        since = self._fails_since
        return (asyncio.get_running_loop().time() - since[0], since[1]) if since else None

    def open(self, key: ApiKey, wanted: Filter) -> Follower:
        """A follower that is not attached yet. Raises Problem (429, 503) when there are too many."""
        if self.stopping:
            raise overloaded("This replica is stopping.")
        if len(self._open) >= self._settings.max_streams:
            raise overloaded(f"This replica has {self._settings.max_streams:,} notification streams open.")
        mine = self._settings.max_streams_per_key
        if self._by_key[key.name] >= mine:
            raise Problem(
                "too-many-requests",
                f"The key {key.name!r} has {mine:,} notification streams open here; close one.",
                headers={"retry-after": "5"},
            )
        if wanted.where is not None and self._asking[key.name] >= MOST_ASKING:
            raise Problem(
                "too-many-requests",
                f"The key {key.name!r} has {MOST_ASKING} streams with `where` open here; close one.",
                headers={"retry-after": "5"},
            )
        follower = Follower(key, wanted)
        self._asking[key.name] += follower.asks
        self._open[follower] = None
        self._by_key[key.name] += 1
        self._by_digest.setdefault(key.digest, set()).add(follower)
        return follower

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def digests(self) -> list[str]:
        """The digests of the keys that have streams open."""
        return list(self._by_digest)

    def revoke(self, valid: Container[str], now_ms: int) -> None:
        """End the streams of keys that are not valid any more, or whose time is over."""
        worthless = [digest for digest in self._by_digest if digest not in valid]
        ended = [one for digest in worthless for one in self._by_digest[digest]]
        ended += [one for one in self._open if one.key.expires_ms is not None and one.key.has_expired(now_ms)]
        for follower in ended:
            follower.revoke()

    def close(self, follower: Follower) -> None:
        """Give its slot back; whatever still holds it gets nothing more."""
        follower.end(GONE)
        follower.outlet = None
        self._catch_up.discard(follower)
        if follower.attached and follower.wish is not None:
            self._live.discard(follower, follower.wish)
        if follower in self._open:
            del self._open[follower]
            self._by_key[follower.key.name] -= 1
            self._asking[follower.key.name] -= follower.asks
            if not self._asking[follower.key.name]:
                del self._asking[follower.key.name]
            if not self._by_key[follower.key.name]:
                del self._by_key[follower.key.name]
            mine = self._by_digest[follower.key.digest]
            mine.discard(follower)
            if not mine:
                del self._by_digest[follower.key.digest]

    def follow(self, follower: Follower, after: str) -> None:
        """Tell it what came after a position, and what comes; to be called while the reader reads."""
        if after == self._position:
            follower.position, follower.at = after, self._at
            self.attach_at_end(follower)
        else:
            self._catch_up.add(follower, after)

    def connect(self, follower: Follower, outlet: ClientOutlet) -> None:
        """Have all that it is told go this way, and heartbeats in between."""
        follower.outlet = outlet
        follower.flush()
        if not follower.ended:
            self._wheel.add(follower)

    async def attach(self, follower: Follower, after: str) -> AsyncIterator[list[Told | Missed]]:
        """What came after a position, until the follower, which has no outlet, has caught up and is attached.

        When the iteration ends the follower gets everything from there on. Raises MeshUnavailable.
        """
        await self.ensure_reading()
        self.follow(follower, after)
        async for page in pages_of(follower):
            yield page

    def attach_at_end(self, follower: Follower) -> bool:
        """Attach a follower that stands where the reader stands, or ahead of it; answers whether it does."""
        if self._position is None or follower.at < self._at:
            return False
        self._attach(follower)
        return True

    def _attach(self, follower: Follower) -> None:
        self._catch_up.discard(follower)
        follower.attached, follower.attached_at = True, follower.at
        if follower.wish is not None:
            self._live.add(follower, follower.wish)
        follower.wake()

    async def attach_now(self, follower: Follower) -> None:
        """Attach it where the reader is: it hears what comes from here on. Raises MeshUnavailable."""
        while True:
            follower.position = await self.ensure_reading()
            follower.at = position_key(follower.position)
            if self.attach_at_end(follower):
                return

    def resume_position(self, follower: Follower) -> str:
        """From where a follower can resume if it were cut now: the reader's own position for one that has all."""
        if not follower.attached or not follower.is_empty or follower.ended:
            return follower.position
        return self._told if self._told_at > position_key(follower.position) else follower.position

    async def ensure_reading(self) -> str:
        """Have the reader read; answers its position. Raises MeshUnavailable."""
        if self._position is not None and self._reader is not None and not self._reader.done():
            return self._position
        async with self._starting:
            if self._position is None or self._reader is None or self._reader.done():
                async with self._reading():
                    last = await self._log.last()
                self._reach(last)
                self._told, self._told_at = last, self._at
                self._reader = _without_request(self._read)
            assert self._position is not None
            return self._position

    def _reach(self, position: str) -> None:
        self._position, self._at = position, position_key(position)

    async def _read(self) -> None:
        pause, interrupted = 0.05, False
        try:
            while self._open:
                try:
                    if interrupted:
                        await self._check_for_loss()
                        interrupted = False
                    await self._read_once()
                    pause, self._fails_since = 0.05, None
                except Exception as error:
                    interrupted = True
                    if self._fails_since is None:
                        reason = str(error) or type(error).__name__
                        self._fails_since = asyncio.get_running_loop().time(), reason
                    if is_unavailable(error) or isinstance(error, MeshUnavailable | TimeoutError):
                        log.warning(
                            "notifications.reader_waits", reason=str(error) or "no answer", seconds=pause
                        )
                    else:
                        log.exception("notifications.reader_failed")
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 1.0)
        finally:
            self._position = self._fails_since = None

    async def _read_once(self) -> None:
        # Without the limit a connection whose other end vanished would be waited on for ever.
        async with asyncio.timeout(BLOCK_MS / 1000 + self._timeout):
            answer = await self._blocking.xread(
                {self._keys.notifications(): self._position or "0-0"}, self._look.count, BLOCK_MS
            )
        turns = Turns(FAN_OUT_SECONDS)
        for _, entries in answer or ():
            self._look.seen(bytes_of(entries))
            for at, fields in entries:
                await turns.give()
                try:
                    note = Notification.from_entry(at, fields)
                except Malformed as error:
                    log.error("notification.broken", position=at.decode(), reason=str(error))
                    self._reach(at.decode())
                    self._told, self._told_at = at.decode(), self._at
                else:
                    await self._fan_out(note, turns)

    async def _check_for_loss(self) -> None:
        """After an interruption: what was trimmed, or lost with Redis, is told and not passed over."""
        position = self._position or "0-0"
        async with self._reading():
            page = await self._log.read(position, 1)
        if page.whole:
            return
        log.warning("notifications.missed", after=position)
        for group in self._live.groups():
            for follower in list(group):
                follower.offer(Missed(position))
        if position_key(page.last) < position_key(position):
            self._reach(page.last)
            self._told, self._told_at = page.last, self._at

    async def _fan_out(self, note: Notification, turns: Turns) -> None:
        # Who is attached while others are told stands behind this one already, so the reader has reached it first.
        self._reach(note.id)
        groups = self._live.find(note)
        if groups:
            told, count = Told.of(note), 0
            for group in groups:
                for follower in list(group):
                    if told.at > follower.attached_at:
                        follower.offer(told)
                        count += 1
                    await turns.give()
            if count:
                make_span(note, count)
        self._told, self._told_at = note.id, self._at

    async def stop(self) -> None:
        """End every stream, saying that the server is stopping, and the reader."""
        self.stopping = True
        for follower in list(self._open):
            follower.end(STOPPING)
        self._wheel.stop()
        await self._catch_up.stop()
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def _without_request(work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    async def run() -> None:
        await work()

    return asyncio.create_task(run(), context=without_request())


def overloaded(detail: str) -> Problem:
    """503 of this replica, not of the mesh."""
    return Problem("overloaded", detail, headers={"retry-after": "1"})
