"""Cancels open tasks for events that cancel them (`cancel_on`), at once, however busy the workers of the service are."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.cancellation.canceller import Canceller
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.roles import woken
from streammesh.tasks.cancel_marks import CancelWork

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 5.0  # seconds; what was told in a moment of no connection is seen then
AT_ONCE = 100  # values that are looked at in one go


class EventCanceller:
    """Looks when it is told that there is something to cancel, and now and then all the same. Any number may run."""

    def __init__(self, canceller: Canceller, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._canceller, self._client, self._keys = canceller, client, keys
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Cancel for ever."""
        while True:
            self.changed.clear()
            await self.run_once()
            await woken(self.changed, LONGEST_SLEEP)

    async def run_once(self) -> None:
        """Do all that is to be done now; what cannot be done for one value holds up no other."""
        cursor = 0
        while True:
            cursor, found = await self._client.zscan(self._keys.cancelling(), cursor, count=AT_ONCE)
            for member, score in found:
                work = CancelWork.parse(member)
                if work is None:
                    log.error("cancelling.broken", member=member.decode("utf-8", "replace")[:200])
                    await self._client.zrem(self._keys.cancelling(), member)
                    continue
                try:
                    await self._cancel(work, score)
                except ResponseError as error:
                    if is_unavailable(error):
                        raise
                    log.error("cancelling.failed", subscription=work.task, reason=str(error)[:200])
            if not cursor:
                return

    async def _cancel(self, work: CancelWork, score: float) -> None:
        cancelled = await self._canceller.cancel(work, partial(_at_once, self._client))
        if cancelled:
            log.info("tasks.cancelled", subscription=work.task, count=len(cancelled))
        await lua.run(self._client, self._canceller.made_call(work, score))


async def _at_once(client: redis.asyncio.Redis, calls: list[lua.Call[Any]]) -> list[Any]:
    if len(calls) == 1:
        return [await lua.run(client, calls[0])]
    answers = await lua.run_many(client, calls)
    for answer in answers:
        if isinstance(answer, Exception) and is_unavailable(answer):
            raise answer
    return answers
