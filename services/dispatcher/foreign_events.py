"""What the dispatcher of one shard tells another of its events: runs there may wait for one, tasks there end by one.

Awaited events go to all other shards, since nobody knows in which a run will begin to wait for one; what is told there is kept
as an event of its own is, so that it is found by who comes later. Telling it twice changes nothing.
The clocks of two servers differ: an entry says when its event was published by the clock of its own shard, and brought is how
long ago that was. So what followed something in the other shard follows it there as well, to the length of a round trip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua, names
from streammesh.cancellation.canceller import Canceller
from streammesh.durable.calls import AwaitedEvent, DurableCalls
from streammesh.durable.wake import wake_waiting
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.settings import MeshSettings
from streammesh.tasks.cancel_marks import CancelWork

log = structlog.get_logger(__name__)
_MOMENT = re.compile(rb"\d{4,16}")  # ms and the entry's number as one number, as `_entry.lua` writes it
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


class Awaited(NamedTuple):
    """An event that runs of a service may wait for; published at `ms` by the clock of its shard."""

    service: str
    digest: str
    value: bytes
    ms: int


class Cancelling(NamedTuple):
    """An event that cancels tasks, and what ends them."""

    work: CancelWork
    by: bytes
    ms: int


def parse(fields: Mapping[bytes, bytes]) -> Awaited | Cancelling | None:
    """Return what an entry of an outbox tells of an event; None where it tells nothing that a mesh wrote."""
    at = fields.get(b"at", b"")
    if not _MOMENT.fullmatch(at):
        return None
    ms = int(at) // 1000
    if b"w" in fields:
        work = CancelWork.parse(fields[b"w"])
        return None if work is None else Cancelling(work, fields.get(b"by", b""), ms)
    service, digest = (fields.get(name, b"").decode("ascii", "replace") for name in (b"s", b"d"))
    if not names.SERVICE.match(service) or not _DIGEST.fullmatch(digest) or b"v" not in fields:
        return None
    return Awaited(service, digest, fields[b"v"], ms)


class ForeignEvents:
    """Tells one other shard."""

    def __init__(
        self, own: redis.asyncio.Redis, other: redis.asyncio.Redis, settings: MeshSettings, number: int
    ) -> None:
        keys = Keys(settings.namespace)
        self._own, self._other, self._number = own, other, number
        self._durable, self._canceller = DurableCalls(keys, settings), Canceller(keys, settings)

    async def tell(self, events: Sequence[Awaited | Cancelling]) -> None:
        """Tell of these; one that is refused by itself is said and passed over.

        Raises redis-py's errors where a shard is away: then all of them may be told again.
        """
        if not events:
            return
        seconds, micros = await self._own.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        calls = [self._call(one, max(0, now - one.ms)) for one in events]
        for one, call, answer in zip(
            events, calls, await lua.run_many(self._other, [made for _, made in calls]), strict=True
        ):
            came, _ = call
            try:
                if isinstance(answer, Exception):
                    raise answer
                if came is not None and len(answer) > 1:  # somebody waits for it
                    woken = await wake_waiting(self._at_once, self._durable, came)
                    log.debug("outbox.woke", shard=self._number, service=came.service, tasks=woken)
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                log.error("outbox.broken", shard=self._number, about=one[0], reason=str(error)[:200])

    def _call(self, one: Awaited | Cancelling, age_ms: int) -> tuple[AwaitedEvent | None, lua.Call[Any]]:
        if isinstance(one, Cancelling):
            return None, self._canceller.came_call(one.work, one.by, age_ms)
        came = AwaitedEvent(one.service, one.digest, one.value, age_ms=age_ms)
        return came, self._durable.arrive(came)

    async def _at_once(self, calls: Sequence[lua.Call[Any]]) -> list[Any]:
        answers = await lua.run_many(self._other, list(calls))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return list(answers)
