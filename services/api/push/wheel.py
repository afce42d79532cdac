"""The heartbeats of all streams, by one timer: a wheel whose slots hold who is due at about the same moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from services.api.push.follower import Follower

SLOTS = 64
AT_ONCE = 50  # heartbeats in one turn of the event loop


class HeartbeatWheel:
    """Has each follower's outlet beat after a time of quiet. One per process; it turns while somebody is on it.

    A follower is looked at once in that time: what was told meanwhile puts its beat off.
    """

    def __init__(self, seconds: float, position_of: Callable[[Follower], str]) -> None:
        self._quiet, self._tick, self._position_of = seconds, seconds / SLOTS, position_of
        self._slots: list[dict[Follower, None]] = [{} for _ in range(SLOTS)]
        self._at = 0  # the slot that is due next
        self._turns_at = 0.0  # when
        self._size = 0
        self._now: deque[Follower] = deque()  # those of the slot that was due last
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def add(self, follower: Follower) -> None:
        """Beat for it from now on, until it has ended."""
        follower.told_at = monotonic()
        self._file(follower, self._quiet)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._turns_at = loop.time() + self._tick
            self._timer = loop.call_at(self._turns_at, self._turn)

    def stop(self) -> None:
        """Beat for nobody."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._now.clear()
        for slot in self._slots:
            slot.clear()
        self._size = 0

    def _file(self, follower: Follower, seconds: float) -> None:
        """A little too early rather than too late."""
        slots = min(SLOTS - 1, max(0, int(seconds / self._tick) - 1))
        self._slots[(self._at + slots) % SLOTS][follower] = None
        self._size += 1

    def _turn(self) -> None:
        slot = self._slots[self._at]
        self._slots[self._at], self._at = {}, (self._at + 1) % SLOTS
        self._size -= len(slot)
        self._now.extend(slot)
        self._beat_some()

    def _beat_some(self) -> None:
        now, loop = monotonic(), asyncio.get_running_loop()
        for _ in range(min(AT_ONCE, len(self._now))):
            follower = self._now.popleft()
            if not follower.ended and follower.outlet is not None:
                self._beat(follower, now)
        if self._now:
            self._timer = loop.call_soon(self._beat_some)
        elif self._size:
            self._turns_at = max(self._turns_at + self._tick, loop.time() - self._quiet)
            self._timer = loop.call_at(self._turns_at, self._turn)
        else:
            self._timer = None

    def _beat(self, follower: Follower, now: float) -> None:
        assert follower.outlet is not None
        left = follower.told_at + self._quiet - now
        if left <= 2 * self._tick:
            if follower.outlet.free and follower.is_empty:
                follower.outlet.beat(self._position_of(follower))
            follower.told_at, left = now, self._quiet
        self._file(follower, left)
