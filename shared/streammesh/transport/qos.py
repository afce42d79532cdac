"""How many entries a channel may hold, and what becomes of them: kombu's QoS on leases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streammesh.transport.internals import KombuQoS

NO_LIMIT = 100  # entries in one read where no prefetch limit is set


def _look_again() -> None:
    """Does nothing itself: the worker's event loop goes round once, and finds room for more."""


class StreamQoS(KombuQoS):
    """Prefetch limit and acknowledgement of one channel; the leases are the keeper's business."""

    restore_at_shutdown = False

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)  # what is not ended is still in the stream
        self._keeper = channel.keeper
        self._full = False

    def can_consume(self) -> bool:
        """Whether to read more now.

        A full channel reads again when it has room for a batch, but not later than when an entry could
        start at once: when less is held than the pool runs. So with a limit of twice the pool and more
        reads are batches, and a lone entry never waits while something could run it.
        """
        limit, held = self.prefetch_count, len(self._keeper)
        if not limit:
            return True
        if held >= limit:
            self._full = True
        elif self._full:
            running = self.channel.reader.concurrency or limit
            self._full = held > max(limit // 2, min(running, limit - 1))
        return not self._full

    def can_consume_max_estimate(self) -> int:
        """How many entries to read at most."""
        if "can_consume" in self.__dict__:
            return 1  # `worker_disable_prefetch` put its own check in place, which counts one by one
        return max(self.prefetch_count - len(self._keeper), 0) if self.prefetch_count else NO_LIMIT

    def append(self, message: Any, delivery_tag: str) -> None:
        """The entry is being delivered."""
        self._keeper.shown(delivery_tag, message)

    def get(self, delivery_tag: str) -> Any:
        """Not kept here. Raises KeyError."""
        raise KeyError(delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The entry has ended. Works after the channel was closed too, and never blocks on Redis."""
        self._keeper.ack(delivery_tag)

    def settled(self, delivery_tag: str) -> None:
        """The entry has ended and was removed with its outcome. From any thread; a full channel then reads again."""
        self.settled_all((delivery_tag,))

    def settled_all(self, delivery_tags: Iterable[str]) -> None:
        """The same for several entries."""
        self._keeper.settled(delivery_tags)
        loop = self.channel.connection.loop if self._full and self.channel.connection else None
        if loop is not None:
            loop.call_soon(_look_again)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop the entry, or put it back at the end of its queue."""
        if requeue:
            self.channel.put_back(delivery_tag)
        else:
            self._keeper.ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """`basic.recover`: what was delivered here and not acknowledged is given back at once."""
        self._keeper.give_back(self._keeper.tags())
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Nothing: what is held is in the stream, and the keeper decides what becomes of it."""

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: leases are looked after by `StreamReader` and `LeaseKeeper`."""
