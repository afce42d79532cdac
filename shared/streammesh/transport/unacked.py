"""What one consumer holds, as its channel tells it and its keeper's thread reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from streammesh.transport.lease_watchdog import LeaseGuard
from streammesh.transport.unacked_entry import Held

ACK_DELAY = 0.02  # seconds an acknowledgement may wait for others to travel with


class Holdings:
    """Entries held, ended, to be given back and to be queued again. All methods may be called from any thread."""

    def __init__(self, renew_every: float) -> None:
        self._renew_every = renew_every
        self._wake = threading.Condition()  # guards what follows, and wakes the thread
        self._thread: threading.Thread | None = None
        self._held: dict[str, Held] = {}
        self._ended: dict[str, Held] = {}  # acknowledged here, not yet in Redis
        self._back: list[Held] = []
        self._again: list[Held] = []
        self._streams: set[str] = set()
        self._draining = self._cold = False
        self._ended_since = self._last_ack = self._renewed_at = 0.0
        self._guard: LeaseGuard | None = None

    def __len__(self) -> int:
        return len(self._held)

    def _notify_by(self, deadline: float) -> None:
        """Make sure that the thread is awake at `deadline`; the lock is held."""
        raise NotImplementedError

    def joined(self, streams: Iterable[str], *, warm_up: bool = False) -> None:
        """The consumer reads these streams from now on.

        `warm_up` connects and loads the script now: with a task at work that hogs the interpreter, the many
        steps of connecting could take longer than the first lease.
        """
        with self._wake:
            self._streams.update(streams)
            self._draining = False
            if warm_up and self._thread is None:
                self._cold = True
                self._notify_by(0)

    def hold(self, tag: str, held: Held) -> None:
        """Hold an entry that was just read."""
        with self._wake:
            if not self._held and not self._ended:
                self._renewed_at = time.monotonic()
                if self._guard is not None:
                    self._guard.give()  # before anything of it can begin, and keep the thread from its work
            self._held[tag] = held
            self._notify_by(self._renewed_at + self._renew_every)

    def guarded(self, guard: LeaseGuard | None) -> None:
        """Have `guard` watch over what is held from now on, in place of the one before."""
        with self._wake:
            before, self._guard = self._guard, guard
            if guard is not None and (self._held or self._ended):
                guard.give()
        if before is not None:
            before.close()

    def holds(self, tag: str) -> bool:
        """Whether the entry of this tag is being worked on here."""
        return tag in self._held or tag in self._ended

    def tags(self) -> list[str]:
        """The tags of everything that was delivered and has not ended."""
        with self._wake:
            return [tag for tag, held in self._held.items() if held.begun]

    def shown(self, tag: str, message: Any) -> None:
        """The entry was delivered as this message."""
        held = self._held.get(tag)
        if held is not None:
            held.show(message)

    def ack(self, tag: str) -> None:
        """The entry has ended; harmless for one that is not held. Never blocks on Redis."""
        with self._wake:
            held = self._held.pop(tag, None)
            if held is None:
                return
            self._last_ack = time.monotonic()
            if not self._ended:
                self._ended_since = self._last_ack
            self._ended[tag] = held
            self._notify_by(self._ended_since + ACK_DELAY)

    def settled(self, tags: Iterable[str]) -> None:
        """These entries have ended and are gone from their queue already: a ledger script removed them."""
        with self._wake:
            for tag in tags:
                self._held.pop(tag, None)

    def release(self, tag: str) -> Held | None:
        """Hold the entry no more: the caller has other plans with it."""
        with self._wake:
            return self._held.pop(tag, None)

    def give_back(self, tags: Iterable[str]) -> None:
        """Let others have these entries, at once."""
        with self._wake:
            given = [held for tag in tags if (held := self._held.pop(tag, None))]
            self._back += given
            if given:
                self._notify_by(0)

    def requeue(self, tag: str) -> None:
        """Put the entry back at the end of its queue, at once."""
        with self._wake:
            held = self._held.pop(tag, None)
            if held is not None:
                self._again.append(held)
                self._notify_by(0)

    def drain(self) -> None:
        """Reading has ended: look more often for entries that were dropped."""
        with self._wake:
            self._draining = True
            if self._thread is not None:
                self._notify_by(0)
