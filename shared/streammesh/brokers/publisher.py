"""One service's queue on another broker: RabbitMQ, or Celery's own lists in some Redis."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import FrameError, FrameSyntaxError, PreconditionFailed
from celery import Celery
from kombu import Connection, Producer

from streammesh.brokers.copies import KEPT, SINCE_HEADER, TAG, knows_confirms, priority_there

CONFIRM_SECONDS = 10.0
PERSISTENT = 2
# What cannot be written as AMQP (a number beyond 64 bits, a name beyond 255 bytes), and what is too large for the broker.
UNWRITABLE = (FrameSyntaxError, struct.error, ValueError, OverflowError)
UNWANTED = (FrameError, PreconditionFailed)


class BrokerAway(Exception):
    """The broker cannot be reached, or refused something, or did not confirm it: try again later."""


class Unsendable(Exception):
    """One of these can never be sent: trying again would not change that."""


class Outlet:
    """Connects at first use, and anew after an error. Not for several threads at once."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app, self._name = app, queue
        self._highest = app.conf.task_queue_max_priority  # here, since threads must not be the first to ask
        self._connection: Connection | None = None
        self._channel: Any = None
        self._confirms: Confirms | None = None

    def waiting(self) -> int:
        """How many wait in the queue for a worker; it is made where it is missing. Raises BrokerAway."""
        with self._asked():
            # Declared, and not asked about passively: to kombu an empty list in Redis is no queue at all.
            return int(self._declare(self._open()).message_count)

    def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send them, and return when the broker has them all. When this raises, some may have been sent.

        They are as `queue_wire.decode` makes them, with a tag only where they stand for an entry that stays. Raises
        BrokerAway and Unsendable.
        """
        with self._asked():
            channel = self._open()
            producer = Producer(channel, auto_declare=False)
            try:
                with producer.batch(max(1, len(messages))):
                    for message in messages:
                        self._send(producer, message)
                if self._confirms:
                    self._confirms.wait()
            except UNWANTED as error:
                raise Unsendable(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except Unsendable:
            self.close()  # half of a message may have been written
            raise
        except Exception as error:
            self.close()
            raise BrokerAway(f"{type(error).__name__}: {error}") from error

    def _send(self, producer: Producer, message: Mapping[str, Any]) -> None:
        properties = message["properties"]
        kept = {name: properties[name] for name in KEPT if properties.get(name)}
        ours = {TAG: properties.get("delivery_tag"), SINCE_HEADER: message.get("since")}
        if self._confirms:
            self._confirms.expect()
        try:
            producer.publish(
                message["body"],
                exchange="",
                routing_key=self._name,
                content_type=message["content-type"],
                content_encoding=message["content-encoding"],
                headers={**message["headers"], **{name: value for name, value in ours.items() if value}},
                priority=priority_there(properties.get("priority"), producer.channel),
                delivery_mode=PERSISTENT,
                mandatory=self._confirms is not None,  # to be told when the queue was deleted meanwhile
                **kept,
            )
        except UNWRITABLE as error:
            raise Unsendable(f"{type(error).__name__}: {error}") from error

    def _declare(self, channel: Any) -> Any:
        """As Celery itself does it."""
        arguments = {"x-max-priority": self._highest} if self._highest else None
        return channel.queue_declare(self._name, durable=True, auto_delete=False, arguments=arguments)

    def _open(self) -> Any:
        if self._channel is None:
            # Confirmed in batches here, and not one by one as tasks that Celery sends.
            options = {"confirm_publish": False}
            # Without heartbeats, which nobody would send while this thread waits for Redis.
            self._connection = self._app.connection_for_write(transport_options=options, heartbeat=0)
            channel = self._connection.channel()
            self._confirms = Confirms(self._connection, channel) if knows_confirms(channel) else None
            self._declare(channel)
            self._channel = channel
        return self._channel

    def close(self) -> None:
        """Close the connection; harmless when there is none."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect(socket_timeout=1)


class Confirms:
    """Publisher confirms of one RabbitMQ channel, waited for once per batch and not once per message."""

    def __init__(self, connection: Connection, channel: Any) -> None:
        self._connection = connection
        self._sent = self._confirmed = (
            0  # numbers of the last one sent, and of the last one of an unbroken row
        )
        self._beyond: set[int] = set()  # confirmed ahead of that
        self._refused = False
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def expect(self) -> None:
        """One more is about to be sent."""
        self._sent += 1

    def wait(self) -> None:
        """Return when all are confirmed. Raises BrokerAway, and TimeoutError when nothing comes."""
        while self._confirmed < self._sent and not self._refused:
            self._connection.drain_events(timeout=CONFIRM_SECONDS)
        if self._refused:
            raise BrokerAway("the broker has refused a task, or its queue is gone")

    def _on_ack(self, number: int, multiple: bool) -> None:
        if multiple:
            self._confirmed = max(self._confirmed, number)
        else:
            self._beyond.add(number)
        while self._confirmed + 1 in self._beyond:
            self._confirmed += 1
        self._beyond = {one for one in self._beyond if one > self._confirmed}

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._refused = True

    def _on_return(self, *about: Any) -> None:
        self._refused = True  # its queue is gone; the next connection declares it again
