"""The past, for those who were away: one read of a stretch serves all who stand in it, at a measured pace.

Who is furthest behind and who has waited longest take turns in choosing the stretch; whoever else stands in it goes
along. So followers gather: of 200 that are 20,000 behind, the stream is read once and not 200 times. A follower is
served when it has taken what it got before, so a slow one keeps nobody waiting and has one stretch at a time.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any

import structlog
from streammesh.errors import MeshUnavailable
from streammesh.notification_log import PAGE, NotificationLog, NotificationPage
from streammesh.notifications import position_key
from streammesh.redisio.page_size import PageSize

from services.api.push.follower import UNAVAILABLE, Follower
from services.api.push.follower_index import FollowerGroup, FollowerIndex
from services.api.push.told import Missed, Stretch, Told

log = structlog.get_logger(__name__)

Position = tuple[int, int]
WORK_SECONDS = 0.001  # at a stretch, before everybody else on the loop has a turn
BUSY_SECONDS = 0.0003  # that the others took in their turn: the process is wanted for something else
REST_SECONDS = 0.003  # that it is left alone then
STILL_SECONDS = 1.0  # after which one who waits for the past looks whether he has caught up
WRITTEN_AT_ONCE = 200_000  # bytes that are handed to outlets in one turn of the loop


class Pace:
    """Lets others on the event loop go first, and steps back while there is much for them to do."""

    def __init__(self) -> None:
        self._until = perf_counter() + WORK_SECONDS
        self._written = 0

    async def give(self, written: int = 0) -> None:
        """To be asked after each piece of work; `written`: the bytes that it handed to an outlet."""
        self._written += written
        if perf_counter() < self._until and self._written < WRITTEN_AT_ONCE:
            return
        began = perf_counter()
        await asyncio.sleep(0)
        if self._written >= WRITTEN_AT_ONCE or perf_counter() - began > BUSY_SECONDS:
            await asyncio.sleep(REST_SECONDS)
        self._until, self._written = perf_counter() + WORK_SECONDS, 0


class CatchUp:
    """Everybody who is behind the reader. One per process; its task lives while somebody is there."""

    def __init__(
        self,
        notifications: NotificationLog,
        reading: Callable[[], AbstractAsyncContextManager[None]],
        ensure_reading: Callable[[], Awaitable[str]],
        attach_at_end: Callable[[Follower], bool],
        spawn: Callable[[Callable[[], Awaitable[None]]], asyncio.Task[None]],
    ) -> None:
        self._log, self._reading = notifications, reading
        self._ensure_reading, self._attach_at_end, self._spawn = ensure_reading, attach_at_end, spawn
        self._behind: dict[Follower, None] = {}  # who has waited longest comes first
        self._index = FollowerIndex()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._look = PageSize(PAGE)
        self._lowest_next = True
        self.pages = 0  # stretches read so far

    def __len__(self) -> int:
        return len(self._behind)

    def add(self, follower: Follower, after: str) -> None:
        """Tell it what came after a position, then have it attached."""
        follower.position, follower.at, follower.checked = after, position_key(after), False
        follower.ready_again = self._changed.set
        self._behind[follower] = None
        if follower.wish is not None:
            self._index.add(follower, follower.wish)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = self._spawn(self._run)

    def discard(self, follower: Follower) -> None:
        """It has caught up, or is gone."""
        if follower in self._behind:
            del self._behind[follower]
            follower.ready_again = None
            if follower.wish is not None:
                self._index.discard(follower, follower.wish)
            self._changed.set()

    async def stop(self) -> None:
        """Serve nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._behind:
            self._changed.clear()
            first = self._next()
            if first is None:
                await self._changed.wait()
                continue
            try:
                await self._serve(first)
            except MeshUnavailable:
                self._give_up(list(self._behind))
            except Exception:
                log.exception("notifications.past_failed", position=first.position)
                self._give_up([first])

    def _give_up(self, followers: list[Follower]) -> None:
        for follower in followers:
            self.discard(follower)
            follower.end(UNAVAILABLE)

    def _next(self) -> Follower | None:
        """Who is served now; None where nobody takes anything."""
        ready = []
        for follower in list(self._behind):
            if follower.ended:
                self.discard(follower)
            elif follower.ready and not (follower.checked and self._attach_at_end(follower)):
                ready.append(follower)
        if not ready:
            return None
        self._lowest_next = not self._lowest_next
        return ready[0] if self._lowest_next else min(ready, key=lambda follower: follower.at)

    async def _serve(self, first: Follower) -> None:
        reached = await self._ensure_reading()
        start = first.at
        async with self._reading():
            page = await self._log.read(first.position, self._look.count)
        self.pages += 1
        self._look.seen(page.size)
        end, place = start, first.position
        if page.reached is not None:
            end, place = position_key(page.reached), page.reached
        elif not page.whole or position_key(reached) > start:
            end, place = position_key(reached), reached
        # Whoever comes while the page is gone through is not among them: what it wants was not looked for.
        sharing = [one for one in self._behind if one.at == start or start < one.at < end]
        stretches = await _Stretches.of(page, start, self._index)
        pace = Pace()
        for follower in sharing:
            if follower in self._behind and follower.ready:
                stretch = stretches.after(follower)
                follower.position, follower.at, follower.checked = place, end, True
                if stretch is not None:
                    follower.offer_stretch(stretch, place)
                if not (follower.ready and self._attach_at_end(follower)) and follower in self._behind:
                    del self._behind[follower]
                    self._behind[follower] = None
                await pace.give(len(stretch.chunk) if stretch else 0)


class _Stretches:
    """What each group gets of one page, joined once for all who get the same."""

    def __init__(self, page: NotificationPage, start: Position, index: FollowerIndex) -> None:
        self._page, self._start, self._index = page, start, index
        self._told: dict[int, tuple[FollowerGroup[Any], list[Told]]] = {}  # by the group's identity
        self._joined: dict[tuple[int, int], Stretch] = {}

    @classmethod
    async def of(cls, page: NotificationPage, start: Position, index: FollowerIndex) -> _Stretches:
        """Find who gets what of a page that was read after `start`."""
        found, pace = cls(page, start, index), Pace()
        for note in page.notes:
            groups = index.find(note)
            if groups:
                one = Told.of(note)
                for group in groups:
                    found._told.setdefault(id(group), (group, []))[1].append(one)
            await pace.give()
        return found

    def after(self, follower: Follower) -> Stretch | None:
        """What a follower gets after where it stands; None where that is nothing."""
        group = None if follower.wish is None else self._index.group(follower.wish)
        told = self._told.get(id(group), (group, []))[1]
        begin = bisect_right(told, follower.at, key=lambda one: one.at)
        if not self._page.whole and (follower.at == self._start or follower.at < self._page.oldest):
            return Stretch.of([Missed(follower.position), *told[begin:]])
        if begin == len(told):
            return None
        found = self._joined.get((id(group), begin))
        if found is None:
            found = self._joined[id(group), begin] = Stretch.of(told[begin:])
        return found


async def pages_of(follower: Follower) -> AsyncIterator[list[Told | Missed]]:
    """What a follower without an outlet is told until it is attached. Raises MeshUnavailable."""
    while not follower.attached or not follower.is_empty:
        taken = await follower.take(STILL_SECONDS)
        if taken:
            yield taken
        elif follower.ended == UNAVAILABLE:
            raise MeshUnavailable("the past could not be read")
        elif follower.ended:
            return
