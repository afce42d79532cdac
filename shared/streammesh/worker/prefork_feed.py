"""When a pool's child is given its next task while it still runs one. No I/O.

To be given a task costs a child a turn of its parent, several times what a short task takes. So where tasks are short,
the next one waits in the child's pipe. A task that waits there cannot be taken back: should the one before it turn
out long, it waits for that though another child is free. That is what reading ahead means, so only services that do
(`prefetch` above 1) have it, one task a child, and only while what ran lately was short.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SHORT = 0.005  # seconds; a longer task is not worth it
FORGET = 0.9  # of what a long task counted, each short one after it leaves so much
AHEAD = 1  # tasks that wait in a child's pipe


class Feeding:
    """Counts what each child was given. A child is whatever object stands for its process, and takes attributes."""

    def __init__(self, reads_ahead: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.reads_ahead, self._clock = reads_ahead, clock
        self._took = SHORT  # seconds that tasks took lately, the long ones counting more

    def given(self, child: Any) -> None:
        """It was given a task."""
        has = getattr(child, "has", 0)
        child.has = has + 1
        if not has:
            child.since = self._clock()

    def ended(self, child: Any) -> bool:
        """It has ended a task; answers whether it has no other."""
        has = max(0, getattr(child, "has", 0) - 1)
        child.has, now = has, self._clock()
        took = now - getattr(child, "since", now - SHORT)
        child.since = now
        self._took = max(took, FORGET * self._took + (1 - FORGET) * took)
        return has == 0

    def wants_more(self, child: Any) -> bool:
        """Whether to give it another one while it is at work."""
        return (
            0 < getattr(child, "has", 0) <= AHEAD
            and self._took < SHORT
            and self._clock() - child.since < SHORT
        )
