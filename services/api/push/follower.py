"""One client's place in the stream of notifications, and the way by which it is told.

While its outlet takes what comes, nothing is kept here: no buffer, no task, no timer. What an outlet cannot take at
once waits in a buffer of its own; a follower that does not keep up is cut, and resumes from its position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter
from streammesh.telemetry import catalogue

from services.api.push.told import Missed, Stretch, Told
from services.api.push.wish import Wish

BUFFER = 256  # notifications that wait for one slow client
SLOW = "slow"
STOPPING = "stopping"
GONE = "gone"
REVOKED = "revoked"
UNAVAILABLE = "unavailable"
BEGINNING = (0, 0)


class ClientOutlet(Protocol):
    """What takes things to a client. Only a free one is told anything; it says `follower.flush()` when it is free again."""

    @property
    def free(self) -> bool:
        """Whether it takes more now."""

    def tell(self, told: Told | Missed) -> None:
        """Send one."""

    def tell_stretch(self, stretch: Stretch) -> None:
        """Send many."""

    def beat(self, position: str) -> None:
        """Show that the connection lives, and how far it is."""

    def close(self, why: str) -> None:
        """Say why nothing more comes, and end. It is free then."""

    def hurry(self) -> None:
        """Give up soon what the client does not take."""


class Follower:
    """What waits for a client, up to `BUFFER`, and where it stands."""

    __slots__ = (
        "__weakref__", "_waiting", "_woken", "asks", "at", "attached", "attached_at", "checked", "ended", "key", "outlet",
        "position", "ready_again", "told_at", "wish",
    )  # fmt: skip

    def __init__(self, key: ApiKey, wanted: Filter) -> None:
        self.key = key
        self.wish = Wish.of(wanted, key)
        self.asks = wanted.where is not None  # an expression, of every notification that fits otherwise
        self._waiting: deque[Told | Missed] | None = None
        self._woken: asyncio.Event | None = None  # of who takes by himself
        self.outlet: ClientOutlet | None = None
        self.position = "0-0"  # all up to here was taken, or was not wanted
        self.at = BEGINNING  # the position as numbers, while it catches up
        self.checked = False  # whether its position was found to be one of the stream's
        self.attached = False
        self.attached_at = BEGINNING
        self.ended: str | None = None  # why nothing more comes
        self.told_at = monotonic()  # when something went to it last
        self.ready_again: Callable[[], None] | None = None  # of who waits until it takes more

    def offer(self, told: Told | Missed) -> None:
        """Send it, or keep it for the client; cut the client off when its buffer is full."""
        if self.ended:
            return
        if self._waiting is None and self.outlet is not None and self.outlet.free:
            self._hand(told)
        elif self._waiting is not None and len(self._waiting) >= BUFFER:
            self.end(SLOW)
        else:
            self.put(told)

    def offer_stretch(self, stretch: Stretch, reached: str) -> None:
        """Send a stretch of the past, which goes up to `reached`; only to one that is `ready`."""
        if self.outlet is None:
            for one in stretch.told:
                self.put(one)
            return
        self.told_at, self.position = monotonic(), reached
        catalogue.PUSHED.inc(by=len(stretch.told))
        self.outlet.tell_stretch(stretch)

    def put(self, told: Told | Missed) -> None:
        """Keep it until it is taken."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(told)
        self.wake()

    def skip(self, reached: tuple[int, int], position: str) -> None:
        """Drop what waits up to a position, and what comes up to there: the client has it already."""
        waiting = [one for one in self._waiting or () if not isinstance(one, Told) or one.at > reached]
        self._waiting = deque(waiting) or None
        if reached > self.attached_at:
            self.attached_at, self.position = reached, position

    def wake(self) -> None:
        """Have who takes by himself look again."""
        if self._woken is not None:
            self._woken.set()

    def flush(self) -> None:
        """The outlet takes more again: hand over what waits, then the end if there is one."""
        outlet = self.outlet
        if outlet is None:
            return
        while self._waiting and outlet.free:
            self._hand(self._waiting.popleft())
        if self._waiting or not outlet.free:
            return
        self._waiting = None
        if self.ended:
            if self.ended != GONE:
                outlet.close(self.ended)
        elif self.ready_again is not None:
            self.ready_again()

    def _hand(self, told: Told | Missed) -> None:
        assert self.outlet is not None
        self.told_at = monotonic()
        if isinstance(told, Told):
            self.position = told.note.id
            catalogue.PUSHED.inc()
        self.outlet.tell(told)

    def end(self, why: str) -> None:
        """Nothing more will come; what waits is still taken."""
        if self.ended:
            return
        self.ended = why
        self.wake()
        if why != GONE:
            self.flush()

    def revoke(self) -> None:
        """Its key is worth nothing any more: what waits is dropped, and what is being sent has a second."""
        if self.ended == REVOKED:
            return
        self._waiting, self.ended = None, REVOKED
        self.wake()
        if self.outlet is not None:
            if not self.outlet.free:
                self.outlet.hurry()
            self.flush()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for the client."""
        return not self._waiting

    @property
    def ready(self) -> bool:
        """Whether it has taken all that came so far and takes more."""
        return not self._waiting and not self.ended and (self.outlet is None or self.outlet.free)

    async def take(self, seconds: float) -> list[Told | Missed]:
        """All that waits, where there is no outlet; empty after `seconds` of quiet, or when it ended."""
        if not self._waiting and not self.ended:
            self._woken = self._woken or asyncio.Event()
            self._woken.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return []
        taken, self._waiting = list(self._waiting or ()), None
        catalogue.PUSHED.inc(by=len(taken))
        for told in reversed(taken):
            if isinstance(told, Told):
                self.position = told.note.id
                break
        if taken and not self.ended and self.ready_again is not None:
            self.ready_again()
        return taken
