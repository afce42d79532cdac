"""kombu's private names, those of its Redis transport and those that it has for transports to fill in.

They are written here and nowhere else: the classes below give what kombu calls, reads and keeps under such a name a
name of the mesh's, and `check` looks at start whether the installed kombu has them as these classes need it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis.connection import ConnectionPool

from streammesh.redisio import internals
from streammesh.redisio.internals import Expected

HOOKS = {  # of any virtual transport: kombu calls them
    "_size": ("queue",),
    "_has_queue": ("queue",),
    "_purge": ("queue",),
    "_put": ("queue", "message"),
    "_new_queue": ("queue",),
}
EXPECTED = (
    Expected("kombu.transport.virtual:Channel", HOOKS),
    Expected(
        "kombu.transport.redis:Channel",
        {
            **{name: hook for name, hook in HOOKS.items() if name != "_has_queue"},
            "_queue_bind": ("exchange", "routing_key", "pattern", "queue"),
            "_basic_cancel": ("consumer_tag",),
            "_delete": ("queue", "exchange", "routing_key", "pattern"),
            "_inplace_augment_message": ("message", "exchange", "routing_key"),
            "_put_fanout": ("exchange", "message", "routing_key"),
            "_deliver_fanout_message": ("message", "exchange"),
            "_brpop_start": ("timeout",),
            "_brpop_read": (),
            "_poll_error": ("type",),
            "_get_pool": ("asynchronous",),
            "_on_connection_disconnect": ("connection",),
        },
        (
            *("_tag_to_queue", "_fanout_queues", "_expires", "_in_poll", "_brpop_sent_at", "_registered"),
            *("brpop_timeout", "active_queues", "active_fanout_queues", "handlers", "conn_or_acquire"),
        ),
    ),
    Expected(
        "kombu.transport.redis:MultiChannelPoller",
        {"_update_brpop_polling": (), "on_poll_start": (), "on_readable": ("fileno",)},
        ("_channels", "_fd_to_chan"),
    ),
    Expected(
        "kombu.transport.redis:Transport",
        {"_deliver": ("message", "queue"), "_reject_inbound_message": ("raw_message",)},
        ("_callbacks", "cycle"),
    ),
    Expected("kombu.transport.virtual:QoS", {}, ("_on_collect",)),
    Expected("kombu.message:Message", {"_decode": ()}, ("_decoded_cache", "_state")),
    Expected("kombu.asynchronous.hub:Hub", {}, ("_waker",)),
)


@cache
def check() -> None:
    """Raise IncompatibleLibrary unless kombu and redis-py are as needed; looks once in a process."""
    internals.check()
    internals.require(EXPECTED)


class SendingChannel(virtual.Channel):
    """A channel that sends, over a transport that keeps no queues."""

    def keep(self, queue: str, message: dict[str, Any]) -> None:
        """Send a message to a queue."""
        raise NotImplementedError

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.keep(queue, message)

    def _new_queue(self, queue: str, **_: Any) -> None: ...

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True

    def _size(self, queue: str) -> int:
        return 0

    def _purge(self, queue: str) -> int:
        return 0


class KombuChannel(kombu_redis.Channel):
    """kombu's Redis channel, for one that reads and writes its queues in another way."""

    # --- what kombu calls ---------------------------------------------------------------------

    def queue_length(self, queue: str) -> int:
        """How many entries a queue has."""
        raise NotImplementedError

    def queue_exists(self, queue: str) -> bool:
        """Whether anything of a queue is there."""
        raise NotImplementedError

    def purge(self, queue: str) -> int:
        """Remove what waits in a queue; answers how much that was."""
        raise NotImplementedError

    def put(self, queue: str, message: dict[str, Any], batch: Any) -> None:
        """Add a message to a queue: at once, or to a batch of commands."""
        raise NotImplementedError

    def queue_made(self, queue: str, *, auto_delete: bool) -> None:
        """A queue was declared."""

    def queue_bound(self, queue: str) -> None:
        """A queue was bound to an exchange."""

    def queue_unbind_all(self, exchange: str, member: str) -> None:
        """Take a queue out of the bindings of an exchange, where it stands as `member`."""
        raise NotImplementedError

    def queue_cancelled(self, queue: str) -> None:
        """The last consumer of a queue was cancelled."""

    def augment(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        """Complete a message that is published."""
        raise NotImplementedError

    def fanout_prepared(self, message: dict[str, Any]) -> None:
        """Complete a message that goes to all who listen now."""

    def read_begins(self) -> None:
        """Ask for entries, without waiting for the answer."""
        raise NotImplementedError

    def read_ends(self) -> bool:
        """Take the answer. Raises queue.Empty when it brings nothing."""
        raise NotImplementedError

    def pool_of(self, kind: Callable[[type[Any]], type[Any]] | None) -> ConnectionPool:
        """A connection pool, its class of connections made from the mesh's own by `kind`."""
        raise NotImplementedError

    def _size(self, queue: str) -> int:
        return self.queue_length(queue)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self.queue_exists(queue)

    def _purge(self, queue: str) -> int:
        return self.purge(queue)

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        self.put(queue, message, options.get("_publish_batch"))

    def _new_queue(self, queue: str, auto_delete: bool = False, **options: Any) -> None:
        super()._new_queue(queue, auto_delete=auto_delete, **options)
        self.queue_made(queue, auto_delete=auto_delete)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        super()._queue_bind(exchange, routing_key, pattern, queue)
        if not self.is_fanout(queue):
            self.queue_bound(queue)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any) -> None:
        self.queue_unbind_all(exchange, self.sep.join([routing_key or "", pattern or "", queue or ""]))

    def _basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super()._basic_cancel(consumer_tag)
        if queue is not None and not self.is_fanout(queue) and queue not in self.active_queues:
            self.queue_cancelled(queue)

    def _inplace_augment_message(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        self.augment(message, exchange, routing_key)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **options: Any) -> None:
        self.fanout_prepared(message)
        super()._put_fanout(exchange, message, routing_key, **options)

    def _deliver_fanout_message(self, message: dict[str, Any], exchange: str) -> Any:
        return super()._deliver_fanout_message(message, exchange.removeprefix(self.keyprefix_fanout))

    def _brpop_start(self, timeout: float | None = None) -> None:
        self.read_begins()

    def _brpop_read(self, **_: Any) -> bool:
        return self.read_ends()

    def _poll_error(self, type: str, **options: Any) -> None:
        if type == "BRPOP":
            self.read_ends()
        else:
            super()._poll_error(type, **options)

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        return self.pool_of(self._leaving_the_poller if asynchronous else None)

    def _leaving_the_poller(self, kind: type[Any]) -> type[Any]:
        channel = self

        class Watched(kind):
            def disconnect(self, *args: Any, **options: Any) -> None:
                super().disconnect(*args, **options)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        return Watched

    # --- what kombu keeps ---------------------------------------------------------------------

    @property
    def lifetimes(self) -> dict[str, int]:
        """Queue -> after how long (ms) it expires; queues without a lifetime are not in it."""
        lifetimes: dict[str, int] = self._expires
        return lifetimes

    def is_fanout(self, queue: str) -> bool:
        """Whether a queue is one of pub/sub."""
        return queue in self._fanout_queues

    @property
    def reading(self) -> Any:
        """The connection that a read is under way on; nothing where none is."""
        return self._in_poll

    def reads_on(self, connection: Any, now: float) -> None:
        """A read is under way on this connection, since `now` (monotonic)."""
        self._in_poll, self._brpop_sent_at = connection, now

    def reads_no_more(self) -> None:
        """No read is under way."""
        self._in_poll = None


class KombuPoller(kombu_redis.MultiChannelPoller):
    """kombu's poller."""

    @property
    def channels(self) -> list[Any]:
        """The channels that it looks after."""
        return list(self._channels)

    def waiting(self, fileno: int) -> tuple[Any, str] | None:
        """The channel and the kind of read that wait for a socket."""
        found: tuple[Any, str] | None = self._fd_to_chan.get(fileno)
        return found

    def _update_brpop_polling(self) -> None:
        """Nothing: an answer is never left lying in its socket, where its leases would run out."""


class KombuTransport(kombu_redis.Transport):
    """kombu's Redis transport."""

    def is_consumed(self, queue: str) -> bool:
        """Whether somebody here consumes a queue."""
        return queue in self._callbacks

    def deliver(self, message: dict[str, Any], queue: str) -> None:
        """Hand a message to who consumes its queue."""
        self._deliver(message, queue)

    def unwanted(self, message: dict[str, Any]) -> None:
        """A message came for a queue that nobody here consumes any more."""
        raise NotImplementedError

    def _reject_inbound_message(self, raw_message: dict[str, Any]) -> None:
        self.unwanted(raw_message)


class KombuQoS(virtual.QoS):
    """kombu's QoS, where nothing is restored by copies when it ends."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._on_collect.cancel()


class KombuMessage(virtual.Message):
    """kombu's message."""

    def body_read(self) -> Any:
        """Its body, decoded; kombu keeps it."""
        return super()._decode()

    def _decode(self) -> Any:
        return self.body_read()


def decoded(message: Any) -> Any:
    """A message's body, where it was decoded before; else nothing."""
    return message._decoded_cache


def keep_decoded(message: Any, body: Any) -> None:
    """Let a message's body be `body` for whoever asks."""
    message._decoded_cache = body


def is_acknowledged(message: Any) -> None:
    """Note that a message needs no acknowledgement any more."""
    message._state = "ACK"


def wake(loop: Any) -> None:
    """Make a worker's event loop go round once more before it waits: what was delivered just before it waits has put
    work where only its next round looks. kombu has no call for that from the loop's own thread."""
    waker = getattr(loop, "_waker", None)
    if waker is not None:
        waker.wake()
