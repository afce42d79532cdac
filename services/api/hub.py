"""One reader of the notifications stream per process, fanned out in memory to everybody who listens.

The reader waits in XREAD BLOCK on a connection of its own: the server wakes it when the stream grows, so
the doorbell channel is not needed here (it would be a second connection, and a ring that is lost while
reconnecting would have to be made good by polling). It reads only while somebody follows.

A follower first catches up from its position page by page and is attached in the same turn of the event
loop in which it has reached the reader: so nothing is missed and nothing comes twice, however long the
past was. Each has a bounded buffer; one that does not keep up is cut, and resumes from its position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import redis.asyncio
import structlog
from streammesh.api_keys import ApiKey
from streammesh.errors import Malformed, MeshUnavailable
from streammesh.keys import Keys
from streammesh.notification_log import PAGE, NotificationLog, bytes_of
from streammesh.notifications import Notification, position_key
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.page_size import PageSize
from streammesh.redisio.turns import Turns
from streammesh.telemetry import catalogue

from services.api.log_context import without_request
from services.api.problems import Problem
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings
from services.api.tokens import narrowing_of

log = structlog.get_logger(__name__)

BUFFER = 256  # notifications that wait for one slow client
WRITTEN_AT_ONCE = 1_000_000  # bytes of a page that go out in one turn of the event loop
BLOCK_MS = 2_000  # also how long the reader goes on after the last follower left
SLOW = "slow"
STOPPING = "stopping"
GONE = "gone"
REVOKED = "revoked"
Wants = Callable[[Notification], bool]


@dataclass(frozen=True, slots=True)
class Told:
    """A notification and its server-sent event, made once for all who get it."""

    note: Notification
    frame: bytes

    @classmethod
    def of(cls, note: Notification) -> Told:
        """`id` is the position to resume from, `event` the type, `data` the JSON that clients get.

        The `id` comes last: some clients take it over as they read it, and would miss what is cut off after it.
        """
        return cls(
            note, b"event: %b\ndata: %b\nid: %b\n\n" % (note.type.encode(), note.to_json(), note.id.encode())
        )


@dataclass(frozen=True, slots=True)
class Missed:
    """In place of notifications that were trimmed before this follower could have them."""

    after: str  # what was asked for


class Follower:
    """One client's place in the stream: what waits for it, up to `BUFFER`, and where it stands."""

    def __init__(self, key: ApiKey, wants: Wants, event: str | None = None) -> None:
        self.key = key
        self.event = event  # the one event that it follows, if it is one
        self._wants, self._within = wants, narrowing_of(key).fits
        self._waiting: deque[Told | Missed] = deque()
        self._woken = asyncio.Event()
        self.position = "0-0"  # all up to here was taken, or was not wanted
        self.attached_at: tuple[int, int] = (0, 0)
        self.ended: str | None = None  # why nothing more comes
        self.hurry: Callable[[], None] | None = None  # has what is being sent given up soon

    def wants(self, note: Notification) -> bool:
        """Whether this notification is for it."""
        return self.key.may_subscribe(note.event_type) and self._within(note) and self._wants(note)

    def offer(self, told: Told | Missed) -> None:
        """Keep it for the client, or cut the client off when its buffer is full."""
        if self.ended:
            return
        if len(self._waiting) >= BUFFER:
            self.end(SLOW)
            return
        self._waiting.append(told)
        self._woken.set()

    def end(self, why: str) -> None:
        """Nothing more will come; what waits is still taken."""
        self.ended = self.ended or why
        self._woken.set()

    def revoke(self) -> None:
        """Its key is worth nothing any more: what waits is dropped, and what is being sent has a second."""
        if self.ended != REVOKED:
            self.ended = REVOKED
            self._waiting.clear()
            self._woken.set()
            if self.hurry:
                self.hurry()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for the client."""
        return not self._waiting

    async def take(self, seconds: float) -> list[Told | Missed]:
        """All that waits; empty after `seconds` of quiet, or when it ended."""
        if not self._waiting and not self.ended:
            self._woken.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return []
        taken = list(self._waiting)
        self._waiting.clear()
        catalogue.PUSHED.inc(by=len(taken))
        for told in reversed(taken):
            if isinstance(told, Told):
                self.position = told.note.id
                break
        return taken


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
        self._open: set[Follower] = set()  # has a slot
        self._attached: dict[str | None, set[Follower]] = {None: set()}  # gets what is read; by its one event
        self._position: str | None = None  # the reader's, while it reads
        self._look = PageSize(PAGE)
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self.stopping = False
        self._fails_since: tuple[float, str] | None = None  # when the reader began to fail, and why

    def stands_still(self) -> tuple[float, str] | None:
        """For how many seconds nothing was read for those who listen, and why; None while all is well."""
        since = self._fails_since
        return (asyncio.get_running_loop().time() - since[0], since[1]) if since else None

    def open(self, key: ApiKey, wants: Wants, event: str | None = None) -> Follower:
        """A follower that is not attached yet. Raises Problem (429, 503) when there are too many."""
        if self.stopping:
            raise overloaded("This replica is stopping.")
        if len(self._open) >= self._settings.max_streams:
            raise overloaded(f"This replica has {self._settings.max_streams:,} notification streams open.")
        mine = self._settings.max_streams_per_key
        if len(self._open) >= mine and sum(f.key.name == key.name for f in self._open) >= mine:
            raise Problem(
                "too-many-requests",
                f"The key {key.name!r} has {mine:,} notification streams open here; close one.",
                headers={"retry-after": "5"},
            )
        follower = Follower(key, wants, event)
        self._open.add(follower)
        return follower

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def followers(self) -> list[Follower]:
        """Everybody who has a stream open, whether it has caught up or not."""
        return list(self._open)

    def close(self, follower: Follower) -> None:
        """Give its slot back; whatever still holds it gets nothing more."""
        follower.end(GONE)
        self._open.discard(follower)
        group = self._attached.get(follower.event)
        if group is not None:
            group.discard(follower)
            if not group and follower.event is not None:
                del self._attached[follower.event]

    async def attach(self, follower: Follower, after: str) -> AsyncIterator[list[Told | Missed]]:
        """What came after a position, page by page, until the follower has caught up and is attached.

        When the iteration ends the follower gets everything from there on. Raises MeshUnavailable.
        """
        follower.position, look = after, PageSize(PAGE)
        while True:
            await self.ensure_reading()
            reached = self._position or "0-0"
            async with self._reading():
                page = await self._log.read(follower.position, look.count)
            look.seen(page.size)
            told: list[Told | Missed] = [] if page.whole else [Missed(follower.position)]
            if page.reached is not None:
                follower.position = page.reached
            elif not page.whole or position_key(reached) > position_key(follower.position):
                follower.position = reached
            size, turns = 0, Turns()
            for note in page.notes:
                await turns.give()
                if follower.wants(note):
                    told.append(Told.of(note))
                    size += len(note.body)
                if size >= WRITTEN_AT_ONCE:
                    yield told
                    told, size = [], 0
            if told:
                yield told
            if follower.ended or self.attach_at_end(follower):
                return

    def attach_at_end(self, follower: Follower) -> bool:
        """Attach a follower that stands where the reader stands, or ahead of it; answers whether it does."""
        if self._position is None or position_key(follower.position) < position_key(self._position):
            return False
        follower.attached_at = position_key(follower.position)
        self._attached.setdefault(follower.event, set()).add(follower)
        return True

    async def attach_now(self, follower: Follower) -> None:
        """Attach it where the reader is: it hears what comes from here on. Raises MeshUnavailable."""
        while True:
            follower.position = await self.ensure_reading()
            if self.attach_at_end(follower):
                return

    def resume_position(self, follower: Follower) -> str:
        """From where a caught-up follower can resume if it were cut now: the reader's own position."""
        if follower.is_empty and not follower.ended and self._position:
            return max(follower.position, self._position, key=position_key)
        return follower.position

    async def ensure_reading(self) -> str:
        """Have the reader read; answers its position. Raises MeshUnavailable."""
        async with self._starting:
            if self._position is None or self._reader is None or self._reader.done():
                async with self._reading():
                    self._position = await self._log.last()
                self._reader = asyncio.create_task(self._read(), context=without_request())
            return self._position

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
        turns = Turns()
        for _, entries in answer or ():
            self._look.seen(bytes_of(entries))
            for at, fields in entries:
                await turns.give()
                try:
                    note = Notification.from_entry(at, fields)
                except Malformed as error:
                    log.error("notification.broken", position=at.decode(), reason=str(error))
                    self._position = at.decode()
                else:
                    self._fan_out(note)

    async def _check_for_loss(self) -> None:
        """After an interruption: what was trimmed, or lost with Redis, is told and not passed over."""
        position = self._position or "0-0"
        async with self._reading():
            page = await self._log.read(position, 1)
        if page.whole:
            return
        log.warning("notifications.missed", after=position)
        for group in self._attached.values():
            for follower in group:
                follower.offer(Missed(position))
        if position_key(page.last) < position_key(position):
            self._position = page.last

    def _fan_out(self, note: Notification) -> None:
        told: Told | None = None
        at = position_key(note.id)
        for group in (self._attached.get(note.event), self._attached[None]):
            for follower in group or ():
                if at > follower.attached_at and follower.wants(note):
                    told = told or Told.of(note)
                    follower.offer(told)
        self._position = note.id

    async def stop(self) -> None:
        """End every stream, saying that the server is stopping, and the reader."""
        self.stopping = True
        for follower in list(self._open):
            follower.end(STOPPING)
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def overloaded(detail: str) -> Problem:
    """503 of this replica, not of the mesh."""
    return Problem("overloaded", detail, headers={"retry-after": "1"})
