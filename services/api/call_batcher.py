"""Calls of concurrent requests share a round trip to Redis; a lone one is not delayed.

While a round trip is under way, calls that arrive wait for the next one; where none is, a call leaves
at once, together with what arrived in the same turn of the event loop. Each call is one script: it
succeeds or fails on its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.asyncio
from streammesh import lua
from streammesh.errors import MeshUnavailable
from streammesh.events.publisher import unavailable_for
from streammesh.redisio.client import is_unavailable

T = TypeVar("T")
CALLS_PER_TRIP = 128  # about 2 ms of the server's time
BYTES_PER_TRIP = 4 * 1024 * 1024  # and about as much for large ones; a single larger call travels alone
WAITING_CALLS = 20_000  # more than this waits only where Redis does not answer


class OutcomeUnknown(MeshUnavailable):
    """The call was sent and no answer came: it may have been carried out. Sending it again is safe."""


@dataclass(slots=True)
class _Waiting:
    call: lua.Call[Any]
    size: int
    answer: asyncio.Future[Any]


class CallBatcher:
    """Makes calls on one client. Every call is answered within `timeout` seconds, well or badly."""

    def __init__(self, client: redis.asyncio.Redis, timeout: float) -> None:
        self._client, self._timeout = client, timeout
        self._waiting: deque[_Waiting] = deque()
        self._trips: asyncio.Task[None] | None = None

    async def run(self, call: lua.Call[T], size: int) -> T:
        """Make the call; `size` is about how many bytes it is.

        Raises MeshUnavailable when it was not sent, its subclass OutcomeUnknown when it was and no answer
        came, and whatever the call's own answer raises.
        """
        if len(self._waiting) >= WAITING_CALLS:
            raise MeshUnavailable("too many calls wait for Redis")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, size, answer))
        if self._trips is None or self._trips.done():
            self._trips = asyncio.create_task(self._travel())
        return await answer

    async def _travel(self) -> None:
        while self._waiting:
            trip = self._load()
            if not trip:
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    answers = await lua.run_many(self._client, [waiting.call for waiting in trip])
            except asyncio.CancelledError:
                self._fail(trip, OutcomeUnknown("the API is stopping"))
                self._fail(self._waiting, MeshUnavailable("the API is stopping"))
                raise
            except Exception as error:
                late = isinstance(error, TimeoutError)
                if not late and not is_unavailable(error):
                    self._fail(trip, error)
                    continue
                reason = "no answer in time" if late else str(error)
                self._fail(trip, OutcomeUnknown(reason))
                # They waited as long as their time allows, or would meet the same closed door.
                self._fail(self._waiting, MeshUnavailable(reason))
                continue
            for waiting, answer in zip(trip, answers, strict=True):
                _settle(waiting, answer)

    def _load(self) -> list[_Waiting]:
        trip: list[_Waiting] = []
        size = 0
        while self._waiting and len(trip) < CALLS_PER_TRIP:
            waiting = self._waiting[0]
            if trip and size + waiting.size > BYTES_PER_TRIP:
                break
            self._waiting.popleft()
            if not waiting.answer.done():  # its request is gone: nothing was sent, nothing is
                trip.append(waiting)
                size += waiting.size
        return trip

    @staticmethod
    def _fail(calls: list[_Waiting] | deque[_Waiting], error: Exception) -> None:
        for waiting in calls:
            _settle(waiting, error)
        if isinstance(calls, deque):
            calls.clear()

    async def aclose(self) -> None:
        """Wait for what is under way, as long as a call may take."""
        if self._trips and not self._trips.done():
            await asyncio.wait({self._trips}, timeout=self._timeout)
            self._trips.cancel()
            await asyncio.gather(self._trips, return_exceptions=True)


def _settle(waiting: _Waiting, answer: Any) -> None:
    if waiting.answer.done():
        return
    if not isinstance(answer, Exception):
        waiting.answer.set_result(answer)
    elif is_unavailable(answer):
        waiting.answer.set_exception(unavailable_for(answer))
    else:
        waiting.answer.set_exception(answer)
