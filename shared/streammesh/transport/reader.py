"""Reads the queues of one channel: waits, takes over, admits, delivers.

Two sources: new entries (`XREADGROUP`, one batch at a time, on a connection that may block) and entries
of others, given back or left by the dead. All is held before the first of a batch is delivered.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from queue import Empty
from random import Random
from typing import Any

import structlog
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from streammesh.keys import PRIORITIES, WORKERS
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.internals import socket_of
from streammesh.transport.admission import Admission
from streammesh.transport.codec import WAKE
from streammesh.transport.lease_renewer import held_here
from streammesh.transport.scripts import Read, read_answer
from streammesh.transport.unacked_entry import Held

READ_MOST = 100  # entries in one read, whatever the prefetch limit
SCANS_PER_LEASE = 3  # looks for dead owners; the moment a lease runs out is looked at besides
INLINE_SECONDS = 0.01  # after this long in deliveries (a pool that runs tasks inline) the loop gets its turn
TIDY_SECONDS = 60.0  # between looks for consumers whose processes died, and for entries in nobody's hands
SILENT_MS = 3_600_000  # a consumer that holds nothing and was silent for an hour is dead
_RANDOM = Random()
log = structlog.get_logger(__name__)


class StreamReader:
    """What one channel reads. Belongs to the channel's thread."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._calls, self._keeper = channel, channel.calls, channel.keeper
        self._lease = channel.calls.lease_ms / 1000
        self._turns = round_robin_cycle()  # of the queues of one priority
        self._admission = Admission(channel, self._turns)
        self._arrived: deque[tuple[str, dict[str, Any]]] = deque()
        self._sent_at = self._waits = self._tidied_at = 0.0
        self.yields = False  # whether the event loop has its turn before more is delivered
        self._more = True  # whether more may be there than the last read brought
        self._most = 1  # entries that the read under way asks for
        self._rung = True  # a consumer that starts looks for what was given back
        # Owners that were cut off together with us (a restart, a failover) renew before we look for dead ones.
        self._take_at = time.monotonic() + self._grace
        self._client_id, self._socket = 0, None
        self._lifetime: float | None = None

    @property
    def _grace(self) -> float:
        return self._lease / 4

    @property
    def concurrency(self) -> int:
        """How many tasks the Celery worker behind this channel runs at once; 0 when there is none."""
        return sum(
            int(worker.pool.num_processes) for worker in set(self._admission.workers.values()) if worker.pool
        )

    @property
    def queues(self) -> list[str]:
        """The queues that are read for a Celery worker."""
        return list(self._admission.workers)

    @property
    def runs_here(self) -> bool:
        """Whether a Celery worker runs what is read in this process, and not in children as its prefork pool does."""
        pools = [worker.pool for worker in self._admission.workers.values()]
        return any(pool is not None and not pool.uses_semaphore for pool in pools)

    def consumes(self, queue: str, callback: Any) -> None:
        """Entries of `queue` go to `callback` from now on."""
        worker = _celery_consumer(callback)
        if worker is not None:
            self._admission.workers[queue] = worker
        self._know(queue)

    def _know(self, queue: str) -> list[str]:
        keys = self._channel.keys
        self._admission.places.update((keys.queue(queue, one), (queue, one)) for one in PRIORITIES)
        return keys.queue_streams(queue)

    # --- before waiting -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Take what need not be waited for: entries of others."""
        channel = self._channel
        now = time.monotonic()
        self._lifetime = channel.keep_alive(now)
        if channel.reading or self._arrived or not channel.active_queues or not channel.qos.can_consume():
            return
        streams = self._streams()
        if self._rung or now >= self._take_at:
            self._take(streams, now)

    def start(self) -> None:
        """Ask for new entries and do not wait for the answer; `read` takes it when it is there."""
        channel = self._channel
        streams = self._streams()
        if not streams or self._arrived:
            return
        self._keeper.flush(channel.commands)
        self._most = self._room()
        now = time.monotonic()
        self._waits = min(
            channel.brpop_timeout or 1.0, max(0.05, self._take_at - now), (self._lifetime or 60) / 3
        )
        connection = channel.client.connection
        if (socket := socket_of(connection)) is not self._socket:
            self._client_id, self._socket = channel.client_id(connection), socket
        if self._more:  # in the order of priorities, which a read that may wait does not keep
            connection.send_command(*self._calls.read(streams, self._most).eval())
            channel.reads_on(connection, now)
            self._sent_at = now
            return
        connection.send_command(
            *("XREADGROUP", "GROUP", WORKERS, self._calls.consumer, "COUNT", self._most),
            *("BLOCK", max(1, int(self._waits * 1000)), "STREAMS", *streams, *[">"] * len(streams)),
        )
        channel.reads_on(connection, now)
        self._sent_at = now

    def read(self) -> bool:
        """Take the answer to `start` and deliver. Raises queue.Empty when it brought nothing to deliver."""
        self._admit_answer()
        if not self.deliver():
            raise Empty
        return True

    def deliver(self) -> bool:
        """Hand over what has arrived: all of it in an event loop, else one entry. Answers whether there was any."""
        transport = self._channel.connection
        loop = transport.loop
        began, some = time.monotonic(), False
        while self._arrived and not (self._admission.workers and _is_stopping()):
            queue, message = self._arrived.popleft()
            if not transport.is_consumed(queue):
                self._keeper.give_back([message["properties"]["delivery_tag"]])
                continue
            some = True
            transport.deliver(message, queue)
            if loop is None:
                break
            if self._arrived and time.monotonic() - began > INLINE_SECONDS:
                # The loop acknowledges what has ended before the next one begins.
                self.yields = True
                loop.call_later(0.001, self._deliver_more)
                break
        return some

    def _deliver_more(self) -> None:
        self.yields = False
        if not self._channel.closed:
            self.deliver()

    def get(self, queue: str, no_ack: bool) -> Any:
        """One entry of `queue` as a message, or None; for `basic.get`."""
        channel, calls = self._channel, self._calls
        streams = self._know(queue)
        self._keeper.joined(streams)
        while True:
            reads = channel.run(calls.take(streams, 1, stale=False)).entries or self._read_now(streams, 1)
            if not reads:
                return None
            read = reads[0]
            raw = None if WAKE in read.fields else self._admission.message(read)
            if raw is None or no_ack:
                channel.run(calls.ack({read.stream: [read.entry]}))
            if raw is not None:
                message = channel.Message(raw, channel=channel)
                if not no_ack:
                    self._keeper.hold(
                        message.delivery_tag, Held(queue, read.stream, read.entry, weakly=False)
                    )
                    self._keeper.shown(message.delivery_tag, message)
                return message

    # --- ending -------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """End a waiting read now. What it brings at this moment arrives as usual."""
        channel = self._channel
        connection = channel.reading
        if not connection:
            return
        try:
            channel.commands.execute_command("CLIENT", "UNBLOCK", self._client_id)
        except ResponseError as error:
            log.warning("queue.cannot_unblock", reason=str(error))  # the read ends by itself
        self._admit_answer()

    def hand_back(self, queue: str | None = None) -> None:
        """Give back what has arrived (of one queue) and was not delivered."""
        back = [message for name, message in self._arrived if queue in (None, name)]
        self._arrived = deque(item for item in self._arrived if queue not in (None, item[0]))
        if back:
            self._keeper.give_back([message["properties"]["delivery_tag"] for message in back])
        if queue is not None:
            self._admission.workers.pop(queue, None)

    # --- parts --------------------------------------------------------------------------------

    def _streams(self) -> list[str]:
        """The streams to read, the highest priority first, the queues of one priority in turn."""
        channel = self._channel
        active = channel.active_queues
        if len(active) != len(self._turns.items) or not set(active).issuperset(self._turns.items):
            self._turns.update(active)
        queues = self._turns.items
        return [channel.keys.queue(queue, priority) for priority in PRIORITIES for queue in queues]

    def _room(self) -> int:
        return max(1, min(READ_MOST, self._channel.qos.can_consume_max_estimate()))

    def _read_now(self, streams: list[str], most: int) -> list[Read]:
        try:
            return list(self._channel.run(self._calls.read(streams, most)))
        except ResponseError as error:
            self._refused(error, streams)
            return []

    def _admit_answer(self) -> None:
        channel = self._channel
        connection = channel.client.connection
        again = False
        try:
            answer = connection.read_response()
        except channel.connection_errors:
            connection.disconnect()
            raise
        except NoScriptError:  # asked once more in a way that brings the script along
            answer = None
            again = True
        except ResponseError as error:
            self._refused(error)
            answer = None
        finally:
            channel.reads_no_more()
        took = time.monotonic() - self._sent_at
        if took > self._waits + self._grace:  # we or the server stood still: let live owners renew first
            self._take_at = max(self._take_at, time.monotonic() + self._grace)
        reads = self._in_order(self._read_now(self._streams(), self._most) if again else read_answer(answer))
        if reads and took > self._lease / 2:
            reads = self._still_ours(reads)
        self._admit(reads)

    def _in_order(self, reads: list[Read]) -> list[Read]:
        """Of a waiting read's answer as many as were asked for, the highest priorities; the others go back.

        Redis counts for each stream, so that one which finds entries in several at once may bring more.
        """
        self._more = len(reads) >= self._most
        back: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        for read in reads[self._most :]:
            back[read.stream].append((read.entry, False))
        for stream, entries in back.items():
            self._rung = True
            self._channel.run(self._calls.give_back(stream, entries))
        return reads[: self._most]

    def _refused(self, error: ResponseError, streams: list[str] | None = None) -> None:
        """A read that was answered with an error: make a lost group anew, reconnect where that may mend it."""
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            log.warning("queue.group_lost", reason=str(error))
            if streams:
                self._channel.run(self._calls.declare(streams, None, joins=True))
            self._channel.declare_active()
            return
        if is_unavailable(error):
            self._channel.client.connection.disconnect()
            raise RedisConnectionError(str(error)) from error
        raise error

    def _still_ours(self, reads: list[Read]) -> list[Read]:
        """Of an answer that lay unread for long: the entries that nobody took over meanwhile."""
        held: dict[str, list[str]] = defaultdict(list)
        for read in reads:
            held[read.stream].append(read.entry)
        lost = self._channel.run(self._calls.renew(held))
        return [read for read in reads if read.entry not in lost.get(read.stream, ())]

    def _take(self, streams: list[str], now: float) -> None:
        stale = now >= self._take_at
        taken = self._channel.run(self._calls.take(streams, self._room(), stale=stale))
        self._rung = taken.more
        if stale:
            soon = (
                self._lease - taken.oldest + _RANDOM.uniform(0.01, 0.1)
            )  # then the next lease would run out
            usual = self._lease / SCANS_PER_LEASE * _RANDOM.uniform(0.8, 1.2)
            self._take_at = now + (min(usual, max(0.1, soon)) if taken.oldest else usual)
            if now - self._tidied_at > TIDY_SECONDS:
                self._channel.run(self._calls.tidy(streams, SILENT_MS))
                self._tidied_at = now
        if taken.entries:
            log.info("lease.taken_over", consumer=self._calls.consumer, count=len(taken.entries))
            self._admit(read for read in taken.entries if not held_here(self._admission.tag(read)))

    def _admit(self, reads: Iterable[Read]) -> None:
        admitted, rung = self._admission.admit(reads)
        self._arrived += admitted
        self._rung = self._rung or rung


def _celery_consumer(callback: Any) -> Any:
    """The Celery worker's consumer that a kombu callback belongs to, None for any other consumer."""
    kombu_consumer = getattr(callback, "__self__", None)
    owner = getattr(getattr(kombu_consumer, "on_decode_error", None), "__self__", None)
    worker = sys.modules.get("celery.worker.consumer.consumer")
    return owner if worker is not None and isinstance(owner, worker.Consumer) else None


def _is_stopping() -> bool:
    """Whether this process is a Celery worker that was told to stop: it begins nothing more."""
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return False
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))
