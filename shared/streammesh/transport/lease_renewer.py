"""Keeps the leases of one consumer alive, from a thread and a connection of its own.

Native code that keeps the interpreter to itself keeps it from this thread too; where handlers run in this process,
another one watches over it and renews meanwhile (`lease_guard.py`).

An entry is held for as long as something in this process can still acknowledge it, whatever becomes of
the channel that it came through: a task that runs on after its connection was cut keeps its lease and
acknowledges through here. What Celery dropped (its message is garbage) is given back.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable

import redis
import structlog
from redis.exceptions import RedisError

from streammesh import lua
from streammesh.transport.lease_watch import SILENT_LEASES
from streammesh.transport.poison import put_back
from streammesh.transport.scripts import QueueCalls
from streammesh.transport.unacked import ACK_DELAY, Holdings
from streammesh.transport.unacked_entry import Held

RENEWALS_PER_LEASE = 4  # three may fail before another worker may take over
BUSY_SECONDS = 1.0  # after an acknowledgement the thread looks every ACK_DELAY by itself: no need to wake it
DRAIN_LOOK = 0.2  # seconds between looks at what was dropped, while reading has ended
CLOSE_SECONDS = 2.0  # how long closing waits for the thread to say goodbye to Redis
log = structlog.get_logger(__name__)
_live: weakref.WeakSet[LeaseKeeper] = weakref.WeakSet()


class LeaseKeeper(Holdings):
    """What one consumer holds, and the thread that looks after it. Public methods may be called from any thread."""

    def __init__(self, calls: QueueCalls, open_client: Callable[[], redis.Redis]) -> None:
        self.calls = calls
        self.never_to_run: Callable[[], set[int]] = lambda: set()  # ids of messages; see `dropped.py`
        self._open, self._pid = open_client, os.getpid()
        lease = calls.lease_ms / 1000
        super().__init__(lease / RENEWALS_PER_LEASE)
        self._retry_after = min(1.0, lease / 10)
        self._flushing = threading.Lock()
        self._settled = threading.Event()
        self._closing = self._unreachable = False
        self._left = 0  # streams' groups while closing: 0 not yet, 1 but for what is still held, 2 for good
        self._not_before = self._looked_at = self._sleeps_until = 0.0

    def flush(self, client: redis.Redis) -> None:
        """Send the acknowledgements that wait, over `client`. What fails stays and is sent later."""
        if not self._ended or not self._flushing.acquire(blocking=False):
            return  # the other thread is sending them just now
        try:
            with self._wake:
                ended = dict(self._ended)
            lua.run_sync(client, self.calls.ack(_by_stream(ended.values())))
            with self._wake:
                for tag in ended:
                    self._ended.pop(tag, None)
                self._ended_since = time.monotonic()
        finally:
            self._flushing.release()

    def close(self, client: redis.Redis | None = None, *, give_up: bool = False) -> None:
        """The channel is gone. What a running task holds is kept until it ends; the rest is given back now.

        `give_up` gives all back: the process ends. `client` is used when no thread runs yet.
        """
        if os.getpid() != self._pid or self._left == 2:
            return
        with self._wake:
            keep = {} if give_up else {tag: held for tag, held in self._held.items() if held.may_run_on}
            self._back += [held for tag, held in self._held.items() if tag not in keep]
            self._held = keep
            self._closing = self._draining = True
            self._left = 0
            self._settled.clear()
            if self._thread is not None:
                self._notify_by(0)
        if self._thread is not None:
            self._settled.wait(CLOSE_SECONDS)
        elif client is not None:
            self._round(client)

    # --- the thread ---------------------------------------------------------------------------

    def _notify_by(self, deadline: float) -> None:
        """Make sure that the thread is awake at `deadline`; the lock is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
            self._sleeps_until = 0.0
            if not _live:
                atexit.register(give_all_back)
            _live.add(self)
            self._thread.start()
        elif deadline < self._sleeps_until:
            self._wake.notify()

    def _wait(self, now: float) -> float | None:
        """Seconds until there is something to do, None for nothing ahead; the lock is held."""
        due = []
        if self._ended:
            due.append(self._ended_since + ACK_DELAY)
        if now - self._last_ack < BUSY_SECONDS and not self._closing:
            due.append(now + ACK_DELAY)
        if self._held or self._ended:
            due.append(self._renewed_at + self._renew_every)
        if self._held and self._draining:
            due.append(self._looked_at + DRAIN_LOOK)
        if self._back or self._again or self._cold or self._should_leave():
            due.append(now)
        if not due:
            return None
        return max(min(due), self._not_before) - now

    def _should_leave(self) -> bool:
        if not self._closing or self._back or self._again:
            return False  # leaving gives back too, but as what nobody can have begun
        return self._left == 0 or (self._left == 1 and not self._held and not self._ended)

    def _run(self) -> None:
        client: redis.Redis | None = None
        while True:
            with self._wake:
                now = time.monotonic()
                if self._guard is not None and not self._held and not self._ended:
                    self._guard.rest()
                wait = self._wait(now)
                if wait is None or wait > 0:
                    if wait is None and self._closing:
                        break
                    self._sleeps_until = float("inf") if wait is None else now + wait
                    self._wake.wait(wait)
                    self._sleeps_until = 0.0
                    continue
            try:
                client = client or self._open()
                self._round(client)
                self._unreachable = False
            except (RedisError, OSError) as error:
                self._give_sign()
                self._not_before = time.monotonic() + self._retry_after
                if not self._unreachable and (self._held or self._ended or self._back):
                    log.warning("lease.unreachable", consumer=self.calls.consumer, reason=str(error))
                self._unreachable = True
            if self._closing and (self._left or self._unreachable):
                self._settled.set()
        if client is not None:
            client.close()
        self.guarded(None)

    def _round(self, client: redis.Redis) -> None:
        """Do what is due. What fails stays to be done."""
        now = time.monotonic()
        if self._ended and (self._closing or now >= self._ended_since + ACK_DELAY):
            self.flush(client)
            if self._ended:
                self._not_before = now + ACK_DELAY
        renew = self._cold or now >= self._renewed_at + self._renew_every
        if renew or (self._draining and now >= self._looked_at + DRAIN_LOOK):
            self._drop_what_was_dropped()
            self._looked_at = now
        while self._again:
            held = self._again[0]
            put_back(client, self.calls, held.queue, held.stream, held.entry)
            self._again.pop(0)
        self._return(client)
        if renew:
            self._renew(client, now)
        if self._should_leave():
            self._leave(client)

    def _drop_what_was_dropped(self) -> None:
        with self._wake:
            messages = {tag: held.message() for tag, held in self._held.items() if held.may_run_on}
        never = self.never_to_run() if self._draining else set()
        gone = [tag for tag, message in messages.items() if message is None or id(message) in never]
        with self._wake:
            self._back += [held for tag in gone if (held := self._held.pop(tag, None))]

    def _return(self, client: redis.Redis) -> None:
        with self._wake:
            back = list(self._back)
        if not back:
            return
        per_stream: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        for held in back:
            per_stream[held.stream].append((held.entry, held.begun))
        count = sum(
            lua.run_sync(client, self.calls.give_back(stream, entries))
            for stream, entries in per_stream.items()
        )
        with self._wake:
            self._back = self._back[len(back) :]
        log.info("queue.given_back", consumer=self.calls.consumer, count=count)

    def _renew(self, client: redis.Redis, now: float) -> None:
        with self._wake:
            holding = [held for held in (*self._held.values(), *self._ended.values()) if not held.lost]
        lost = lua.run_sync(client, self.calls.renew(_by_stream(holding))) if holding or self._cold else {}
        self._cold = False
        self._renewed_at = now
        self._give_sign()
        with self._wake:
            gone = {(stream, entry) for stream, entries in lost.items() for entry in entries}
            mine = [held for held in self._held.values() if (held.stream, held.entry) in gone]
            for held in mine:
                held.lost = True
        if mine:
            log.warning("lease.lost", consumer=self.calls.consumer, entries=[held.entry for held in mine])

    def _give_sign(self) -> None:
        """Tell who watches from outside that this thread is at work."""
        with self._wake:
            if self._guard is None or not (self._held or self._ended):
                return
            silence = self._guard.silence()
            self._guard.give()
        if silence > SILENT_LEASES * self.calls.lease_ms / 1000:
            log.warning("lease.stood_in", consumer=self.calls.consumer, seconds=round(silence, 1))

    def _leave(self, client: redis.Redis) -> None:
        with self._wake:
            kept = _by_stream((*self._held.values(), *self._ended.values()))
            streams = set(self._streams)
        for stream in streams:
            lua.run_sync(client, self.calls.leave(stream, kept.get(stream, [])))
        self._left = 1 if kept else 2


def _by_stream(entries: Iterable[Held]) -> dict[str, list[str]]:
    streams: dict[str, list[str]] = defaultdict(list)
    for held in entries:
        streams[held.stream].append(held.entry)
    return streams


def held_here(tag: str) -> bool:
    """Whether any consumer of this process holds the entry of this tag."""
    return any(keeper.holds(tag) for keeper in list(_live))


def dead_renewer() -> str | None:
    """Return what to say when something is held here whose lease nobody renews any more."""
    dead = [k for k in list(_live) if k._held and k._thread is not None and not k._thread.is_alive()]
    return f"the thread that renews leases of {dead[0].calls.consumer} has ended" if dead else None


def give_all_back() -> None:
    """The process ends: what it holds goes to others now, whatever still runs here."""
    for keeper in list(_live):
        keeper.close(give_up=True)
