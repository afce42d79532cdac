"""Sends what is queued on to another broker, where `MESH_BROKER_URL` names one.

The queue's stream stays what it is: where the hand-off, the promoter and everything else put tasks, and
where the entry of a delivery lies until its task has ended. The broker carries copies to workers. So all that
the ledger's scripts do in one step with a task and its queue entry holds on any broker, and a task that the
broker loses is sent again. A copy too many does no harm: a worker has to claim the entry (`claim.lua`).

What if SIGKILL here? Before an entry is noted as sent it is this forwarder's, and another one takes it over
when its lease has run out, and sends it perhaps a second time.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import redis
import structlog
from celery import Celery
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.brokers.publisher import BrokerAway, Outlet, Unsendable
from streammesh.errors import Malformed
from streammesh.keys import FORWARDED, RETURNED, WORKERS, Keys
from streammesh.lua.queues import ForwardedEntry, ForwardedScript, ForwardTakeScript
from streammesh.redisio.client import is_unavailable, open_sync
from streammesh.settings import MeshSettings
from streammesh.tasks.task import Failure
from streammesh.transport.codec import SINCE, WAKE, decode
from streammesh.transport.poison import MALFORMED, park
from streammesh.transport.scripts import Read, Taken, pairs, unread_calls

BATCH = 200  # entries that are sent and confirmed together
BLOCK_SECONDS = 1.0  # how long one read waits
LOOKS_PER_LEASE = 5  # looks at what others left; the moment a lease runs out is looked at besides
PATIENCE = 2  # leases after which what was sent and never begun may be taken for lost
RETRY_SECONDS = 1.0  # after something failed
TIDY_SECONDS = 60.0  # between looks at consumers that are gone: workers and forwarders that died
SILENT_MS = 3_600_000  # one that holds nothing and was silent for an hour is
log = structlog.get_logger(__name__)


class Forwarder:
    """Forwards one service's queue; any number of processes may do so. Everything but `stop` belongs to one thread."""

    def __init__(self, settings: MeshSettings, app: Celery, queue: str) -> None:
        self._queue, self._outlet = queue, Outlet(app, queue)
        self._keys = Keys(settings.namespace)
        self._stream = self._keys.queue(queue)
        self._lease = settings.lease.total_seconds()
        name = f"forwarder-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._calls = unread_calls(settings, name)
        self._client = open_sync(settings, f"forwarder-{queue}")
        self._stopping = threading.Event()
        # A read must end before the client takes Redis for away.
        self._block = min(BLOCK_SECONDS, settings.redis_timeout.total_seconds() / 2)
        self._look_at = self._tidied_at = 0.0

    def stop(self) -> None:
        """End `run` soon; from any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Forward until stopped, whatever happens to Redis and to the broker."""
        log.info("forwarder.started", queue=self._queue)
        try:
            while not self._stopping.is_set():
                try:
                    self.step()
                except Exception as error:
                    self._failed(error)
                    self._stopping.wait(RETRY_SECONDS)
            lua.run_sync(self._client, self._calls.leave(self._stream, []))
        except redis.RedisError as error:
            log.warning("redis.away", role="forwarder", reason=str(error))
        finally:
            self._outlet.close()
            self._client.close()

    def step(self) -> int:
        """Send some of what there is to send, or wait for it a moment; answers how many were sent."""
        reads = self._take() if time.monotonic() >= self._look_at else []
        return self._forward(reads or self._read())

    def _failed(self, error: Exception) -> None:
        self._look_at = 0.0  # what was read and not sent is taken once more
        if isinstance(error, ResponseError) and "NOGROUP" in str(error):
            log.warning("queue.group_lost", queue=self._queue)
        elif isinstance(error, BrokerAway):
            log.warning("broker.away", queue=self._queue, reason=str(error))
        elif is_unavailable(error):
            log.warning("redis.away", role="forwarder", reason=str(error))
        else:
            log.exception("role.broke", role="forwarder", queue=self._queue)

    def _take(self) -> list[Read]:
        lua.run_sync(self._client, self._calls.declare([self._stream], None, joins=True))
        if time.monotonic() > self._tidied_at + TIDY_SECONDS:
            lua.run_sync(self._client, self._calls.tidy([self._stream], SILENT_MS))
            self._tidied_at = time.monotonic()
        taken = lua.run_sync(self._client, self._take_call(self._outlet.waiting()))
        if len(taken.entries) < BATCH:
            wait = min(self._lease / LOOKS_PER_LEASE, max(0.02, self._lease - taken.oldest))
            self._look_at = time.monotonic() + wait
        return taken.entries

    def _take_call(self, waiting: int) -> lua.Call[Taken]:
        def parse(answer: Any) -> Taken:
            rows, oldest, _ = answer
            reads = [Read(self._stream, entry.decode(), int(n), pairs(raw)) for _, entry, n, raw in rows]
            return Taken(reads, int(oldest) / 1000, False)

        lease_ms = self._calls.lease_ms
        return ForwardTakeScript(
            stream=self._stream,
            group=WORKERS,
            me=self._calls.consumer,
            returned=RETURNED,
            sent=FORWARDED,
            left=BATCH,
            lease=lease_ms,
            patience=lease_ms * PATIENCE,
            waiting=waiting,
        ).call(parse)

    def _read(self) -> list[Read]:
        wait = min(self._block, max(0.02, self._look_at - time.monotonic()))
        answer = self._client.xreadgroup(
            WORKERS, self._calls.consumer, {self._stream: ">"}, BATCH, round(wait * 1000)
        )
        reads = []
        for _, entries in answer.items() if isinstance(answer, dict) else answer or ():
            if isinstance(answer, dict):  # RESP3 wraps each stream's entries once more
                [entries] = entries
            reads += [Read(self._stream, entry.decode(), 1, fields or {}) for entry, fields in entries]
        return reads

    def _forward(self, reads: Sequence[Read]) -> int:
        messages, sent, bells = [], [], []
        for read in reads:
            if WAKE in read.fields:  # somebody gave something back
                bells.append(read.entry)
                self._look_at = 0.0
                continue
            message = self._message(read)
            if message is not None:
                messages.append(message)
                sent.append(read)
        if bells:
            lua.run_sync(self._client, self._calls.ack({self._stream: bells}))
        if sent:
            self._tell_apart(messages)
            self._send(sent, messages)
        return len(sent)

    def _tell_apart(self, messages: Sequence[dict[str, Any]]) -> None:
        """Let only what stands for a delivery keep its tag: the entry of anything else goes when it was sent."""
        pipeline = self._client.pipeline(transaction=False)
        for message in messages:
            pipeline.exists(self._keys.task(_id_of(message)))
        for message, known in zip(messages, pipeline.execute(), strict=True):
            if not known:
                del message["properties"]["delivery_tag"]

    def _send(self, reads: Sequence[Read], messages: Sequence[dict[str, Any]]) -> None:
        try:
            self._outlet.send(messages)
        except Unsendable as error:
            if len(reads) == 1:
                failure = Failure(f"the broker cannot take it: {error}", "Unsendable")
                park(self._client, self._calls, self._queue, reads[0], failure)
                return
            for read, message in zip(reads, messages, strict=True):  # which one is it?
                self._send([read], [message])
        else:
            lua.run_sync(self._client, self._sent_call(reads, [_id_of(message) for message in messages]))
            log.debug("tasks.forwarded", queue=self._queue, count=len(reads))

    def _message(self, read: Read) -> dict[str, Any] | None:
        """The message of an entry; None when it was parked instead, because Celery would not survive it."""
        try:
            message = decode(read.fields, self._queue, read.entry)
        except (Malformed, ValueError) as error:
            park(self._client, self._calls, self._queue, read, Failure(str(error), MALFORMED))
            return None
        message["since"] = read.fields.get(SINCE, b"").decode("ascii", "replace")
        return message

    def _sent_call(self, reads: Sequence[Read], task_ids: Sequence[str]) -> lua.Call[int]:
        entries = [
            ForwardedEntry(task=self._keys.task(task_id), id=read.entry)
            for read, task_id in zip(reads, task_ids, strict=True)
        ]
        return ForwardedScript(
            stream=self._stream, group=WORKERS, me=self._calls.consumer, sent=FORWARDED, entries=entries
        ).call(int)


def _id_of(message: dict[str, Any]) -> str:
    return str(message["headers"].get("id", ""))
