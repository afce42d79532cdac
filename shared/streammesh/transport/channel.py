"""A kombu channel whose queues are Redis Streams: declaring, publishing, counting, purging."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any
from uuid import uuid4

from kombu.transport import redis as kombu_redis

from streammesh.keys import PRIORITY, Keys
from streammesh.transport.codec import BODY, HEAD, encode, priority_of, wanted_priority
from streammesh.transport.connections import StreamConnections
from streammesh.transport.lease_renewer import LeaseKeeper
from streammesh.transport.lease_watchdog import LeaseGuard, start_guard
from streammesh.transport.message import StreamMessage
from streammesh.transport.poison import put_back
from streammesh.transport.purge import cancel_waiting
from streammesh.transport.qos import StreamQoS
from streammesh.transport.reader import StreamReader
from streammesh.transport.scripts import QueueCalls

AUTO_DELETE_MS = 3_600_000  # an auto-delete queue without `x-expires` that nobody reads is gone after an hour
PURGE_BATCH = 10_000  # entries that one script call removes, so that others get their turn
TRANSIENT = 1  # AMQP's delivery_mode of what is worth nothing once its reader is gone


class StreamChannel(StreamConnections):
    """Direct and topic queues are streams with one consumer group; fanout is pub/sub, as in kombu.

    Priorities go from 0 (low) to 9 (high), as in AMQP and in the mesh, and the other way round from
    kombu's own Redis transport. A queue is a stream for each; higher ones are read first. Without a priority
    an entry has 5; so it has with a plain 0, which kombu says for none (`codec.Explicit`).

    Transport options of its own: `namespace`, `lease_seconds`, `max_deliveries`, `dead_letters_kept`.
    """

    QoS = StreamQoS
    Message = StreamMessage
    body_encoding = None
    default_priority = PRIORITY
    namespace = "mesh"
    lease_seconds = 15.0
    max_deliveries = 10
    dead_letters_kept = 100_000
    socket_timeout = 5.0
    socket_connect_timeout = 5.0
    socket_keepalive = True
    health_check_interval = 5  # s; a silent one is given up after its longest read and two of these
    from_transport_options = (
        *kombu_redis.Channel.from_transport_options,
        *("namespace", "lease_seconds", "max_deliveries", "dead_letters_kept"),
    )

    def __init__(self, connection: Any, **options: Any) -> None:
        topts = connection.client.transport_options
        wanted = {name: topts.get(name, getattr(type(self), name)) for name in ("namespace", "lease_seconds")}
        self.keys = Keys(wanted["namespace"])
        self.no_ack_queues: set[str] = set()
        self._kept_alive_at = 0.0
        self.calls = QueueCalls(
            self.keys,
            f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}",
            max(100, round(float(wanted["lease_seconds"]) * 1000)),
            int(topts.get("max_deliveries", self.max_deliveries)),
            int(topts.get("dead_letters_kept", self.dead_letters_kept)),
        )
        self.keeper = LeaseKeeper(self.calls, self.client_of_keeper)
        self.reader = StreamReader(self)
        self.keyprefix_queue = self.keys.binding("%s")
        self.keyprefix_binding_permanent = self.keys.binding_permanent("%s")
        self.keyprefix_binding_deadlines = self.keys.binding_deadlines()
        self.use_address(connection.client.hostname, connection.client.ssl)
        super().__init__(connection, **options)
        database = int(self.pool.connection_kwargs.get("db") or 0)
        self.keyprefix_fanout = self.keys.fanout(database)

    # --- queues -------------------------------------------------------------------------------

    def _declare(self, queue: str, *, joins: bool = False) -> None:
        self.run(self.calls.declare(self.keys.queue_streams(queue), self.lifetimes.get(queue), joins=joins))

    def keep_alive(self, now: float) -> float | None:
        """Renew the lifetimes of what is being read; answers the shortest in seconds, None for no lifetime."""
        own = self.lifetimes
        lifetimes = {queue: ms for queue in self.active_queues if (ms := own.get(queue))}
        if not lifetimes:
            return None
        shortest = min(lifetimes.values()) / 1000
        if now >= self._kept_alive_at + shortest / 3:
            for queue in lifetimes:
                self._declare(queue, joins=True)
            self._kept_alive_at = now
        return shortest

    def declare_active(self) -> None:
        """Make the groups of what is being read, where they are missing."""
        for queue in self.active_queues:
            self._declare(queue, joins=True)

    def queue_made(self, queue: str, *, auto_delete: bool) -> None:
        """An auto-delete queue has a lifetime, which is renewed while it is read."""
        if auto_delete:
            self.lifetimes.setdefault(queue, AUTO_DELETE_MS)

    def queue_bound(self, queue: str) -> None:
        """Its streams and groups are made."""
        self._declare(queue)

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **options: Any) -> Any:
        """Read `queue` from now on; its group is made where it is missing."""
        if not self.is_fanout(queue):
            if no_ack:
                self.no_ack_queues.add(queue)
            self.reader.consumes(queue, options.get("callback"))
            self._declare(queue, joins=True)
            self.keeper.joined(self.keys.queue_streams(queue), warm_up=not no_ack)
            if self.reader.runs_here:
                self.keeper.guarded(self._start_guard())
        return super().basic_consume(queue, no_ack, *args, **options)

    def queue_cancelled(self, queue: str) -> None:
        """Nothing more of it is delivered here, and what was not begun goes back."""
        self.no_ack_queues.discard(queue)
        self.reader.interrupt()
        self.reader.hand_back(queue)
        if not self.active_queues:
            self.keeper.drain()

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """One entry, or None."""
        return self.reader.get(queue, no_ack)

    def queue_length(self, queue: str) -> int:
        """The entries of all its streams."""
        pipeline = self.commands.pipeline(transaction=False)
        for stream in self.keys.queue_streams(queue):
            pipeline.xlen(stream)
        return sum(pipeline.execute())

    def queue_exists(self, queue: str) -> bool:
        """Whether one of its streams is there."""
        return bool(self.commands.exists(*self.keys.queue_streams(queue)))

    def purge(self, queue: str) -> int:
        """Remove what nobody holds, and end the deliveries among it; answers how many that were."""
        removed = 0
        for stream in self.keys.queue_streams(queue):
            removed += cancel_waiting(self.commands, self.keys, stream)
            gone = PURGE_BATCH
            while gone == PURGE_BATCH:
                gone, bells = self.run(self.calls.purge(stream, PURGE_BATCH))
                removed += gone - bells
        return removed

    def queue_unbind_all(self, exchange: str, member: str) -> None:
        """It has no binding to this exchange any more."""
        with self.commands.pipeline(transaction=False) as pipeline:
            pipeline.srem(self.keys.binding(exchange), member)
            pipeline.srem(self.keys.binding_permanent(exchange), member)
            pipeline.execute()

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **options: Any
    ) -> None:
        """Remove the queue with all that lies in it, bound or not."""
        if if_empty and self.queue_length(queue):
            return
        super().queue_delete(queue, if_unused, if_empty, **options)
        self.auto_delete_queues.discard(queue)
        self.commands.delete(*self.keys.queue_streams(queue))

    # --- publishing ---------------------------------------------------------------------------

    def prepare_message(
        self, body: Any, priority: int | None = None, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """As kombu's, with the mesh's scale of priorities."""
        message: dict[str, Any] = super().prepare_message(body, None, *args, **options)
        message["properties"]["priority"] = wanted_priority(priority)
        return message

    def augment(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        """Only what is known now; the tag and the encoding are made when the entry is read."""
        message["properties"]["delivery_info"].update(exchange=exchange, routing_key=routing_key)

    def put(self, queue: str, message: dict[str, Any], batch: Any) -> None:
        """Add an entry to the stream of its priority."""
        fields = encode(message)
        stream = self.keys.queue(queue, priority_of(message))
        # A reply whose reader is gone must not bring its queue back to life.
        made = () if message["properties"].get("delivery_mode") != TRANSIENT else ("NOMKSTREAM",)
        add = ("XADD", stream, *made, "*", HEAD, fields[HEAD], BODY, fields[BODY])
        lifetime = self.lifetimes.get(queue)
        if batch is not None:
            batch.add("execute_command", *add)
            if lifetime is not None:
                batch.add("pexpire", stream, lifetime)
        elif lifetime is None:
            self.commands.execute_command(*add)
        else:
            with self.commands.pipeline(transaction=False) as pipeline:
                pipeline.execute_command(*add)
                pipeline.pexpire(stream, lifetime)
                pipeline.execute()

    def fanout_prepared(self, message: dict[str, Any]) -> None:
        """What goes by pub/sub is read as kombu reads it."""
        message["properties"].update(delivery_tag=uuid4().hex, body_encoding=self.body_encoding)

    def _start_guard(self) -> LeaseGuard | None:
        """A process that watches over what this channel holds."""
        streams = [stream for queue in self.reader.queues for stream in self.keys.queue_streams(queue)]
        return start_guard(self._address, self._options(), self.calls, streams)

    def put_back(self, tag: str) -> None:
        """Queue a held entry again, at the end."""
        held = None if self.closed else self.keeper.release(tag)
        if held is None:
            self.keeper.requeue(tag)
            return
        put_back(self.commands, self.calls, held.queue, held.stream, held.entry)

    # --- kombu's hooks ------------------------------------------------------------------------

    def read_begins(self) -> None:
        """Ask for new entries."""
        self.reader.start()

    def read_ends(self) -> bool:
        """Take them and deliver."""
        return self.reader.read()

    def close(self) -> None:
        """End reading, give back what was not begun; what runs on keeps its lease until it has ended."""
        if not self.closed:
            errors = (*self.connection.connection_errors, *self.connection.channel_errors)
            try:
                self.reader.interrupt()
            except errors:
                self.reads_no_more()
            self.reader.hand_back()
            with suppress(*errors):  # Redis is away: what we held is taken over when its lease has run out
                self.keeper.close(self.commands)
        super().close()
