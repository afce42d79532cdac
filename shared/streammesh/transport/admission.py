"""Decides about each entry that was read: it is held and delivered, or parked, or it is only a doorbell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import structlog
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import RedisError

from streammesh.errors import Malformed
from streammesh.tasks.task import Failure
from streammesh.transport.codec import TIMES, WAKE, decode, make_tag
from streammesh.transport.poison import MALFORMED, park, poison_failure
from streammesh.transport.scripts import Read
from streammesh.transport.unacked_entry import Held

LONGEST_COUNT = 9  # digits
log = structlog.get_logger(__name__)


def count(raw: bytes) -> int:
    """How often an entry was delivered before it was put back. Raises Malformed for what no script wrote there."""
    if not raw.isdigit() or len(raw) > LONGEST_COUNT:
        raise Malformed(f"field n is no count: {raw[:20]!r}")
    return int(raw)


class Admission:
    """The door of one channel. `places` has the queue and priority of each stream it may read."""

    def __init__(self, channel: Any, turns: round_robin_cycle) -> None:
        self._turns = turns
        self._channel, self._calls, self._keeper = channel, channel.calls, channel.keeper
        self.places: dict[str, tuple[str, int]] = {}
        self.workers: dict[str, Any] = {}  # queue -> the Celery consumer that reads it now

    def tag(self, read: Read) -> str:
        """The delivery tag of an entry."""
        queue, priority = self.places[read.stream]
        return make_tag(queue, priority, read.entry)

    def admit(self, reads: Iterable[Read]) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        """Hold what can be delivered, park what never may be, drop doorbells.

        Answers (queue, message) of each to be delivered, and whether a doorbell was among them.
        """
        admitted, rung = [], False
        ended: dict[str, list[str]] = defaultdict(list)
        for read in reads:
            queue, _ = self.places[read.stream]
            self._turns.rotate(queue)  # the next read begins with another queue
            if WAKE in read.fields:
                rung = True
                ended[read.stream].append(read.entry)
                continue
            message = self.message(read)
            if message is None:
                continue
            if queue in self._channel.no_ack_queues:
                ended[read.stream].append(read.entry)
            else:
                held = Held(queue, read.stream, read.entry, weakly=queue in self.workers)
                self._keeper.hold(message["properties"]["delivery_tag"], held)
            admitted.append((queue, message))
        if ended:
            self._channel.run(self._calls.ack(ended))
        return admitted, rung

    def message(self, read: Read) -> dict[str, Any] | None:
        """The message of an entry; None when it was parked instead."""
        queue, priority = self.places[read.stream]
        try:
            times = count(read.fields.get(TIMES, b"0")) + read.deliveries
            if times > self._calls.max_deliveries:
                self._park(queue, read._replace(deliveries=times - 1), poison_failure(times - 1))
                return None
            again, is_task = times > 1, queue in self.workers
            return decode(read.fields, queue, read.entry, priority=priority, redelivered=again, task=is_task)
        except (Malformed, ValueError) as error:
            self._park(queue, read, Failure(str(error), MALFORMED))
            return None

    def _park(self, queue: str, read: Read, failure: Failure) -> None:
        try:
            park(self._channel.commands, self._calls, queue, read, failure)
        except RedisError as error:
            if isinstance(error, self._channel.connection_errors):
                raise
            # Out of memory, say. It stays pending without a lease, and whoever takes it over tries again.
            log.error("queue.cannot_park", queue=queue, entry=read.entry, reason=str(error))
