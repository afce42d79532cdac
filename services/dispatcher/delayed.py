"""Moves what waited for later (retries, delayed events) back to where it was going, when it is due."""

from __future__ import annotations

import asyncio

import structlog
from streammesh.roles import woken
from streammesh.tasks.due_set import DueSet

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 5.0  # seconds; a change that was told in a moment of no connection is seen then


class Promoter:
    """Sleeps until the next member is due, or until it is told that there is an earlier one."""

    def __init__(self, due: DueSet) -> None:
        self._due = due
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Promote for ever."""
        while True:
            self.changed.clear()
            while moved := await self._due.promote(await self._due.now_ms()):
                log.debug("due.promoted", count=moved)
            next_ms = await self._due.next_due_ms()
            sleep = LONGEST_SLEEP
            if next_ms is not None:
                sleep = min(LONGEST_SLEEP, max(0.001, (next_ms - await self._due.now_ms()) / 1000))
            await woken(self.changed, sleep)
