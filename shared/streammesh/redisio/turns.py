"""Turns of the event loop in the middle of long work on what Redis answered."""

from __future__ import annotations

import asyncio
from time import monotonic

TURN_SECONDS = (
    0.01  # of work at a stretch; whoever else waits on the loop waits no longer than this and one record
)


class Turns:
    """To be asked after each record of what may be many: now and then it lets everybody else on the loop go first."""

    def __init__(self, seconds: float = TURN_SECONDS) -> None:
        self._seconds, self._until = seconds, monotonic() + seconds

    async def give(self) -> None:
        """Let the others have their turn, if this one was long enough."""
        if monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = monotonic() + self._seconds
