"""One service's queue on another broker: RabbitMQ, or Celery's own lists in some Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection, Producer, Queue

from streammesh.engine.brokers import HIGHEST_PRIORITY
from streammesh.engine.queue_wire import MESH_TAG

CONFIRM_SECONDS = 10.0
PERSISTENT = 2


class BrokerAway(Exception):
    """The broker cannot be reached, or refused something, or did not confirm it: try again later."""


class Outlet:
    """Connects at first use, and anew after an error. Not for several threads at once."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app, self._name = app, queue
        self._connection: Connection | None = None
        self._channel: Any = None
        self._confirms: Confirms | None = None

    def waiting(self) -> int:
        """How many wait in the queue for a worker; it is made where it is missing. Raises BrokerAway."""
        with self._asked():
            # Declared, and not asked about passively: to kombu an empty list in Redis is no queue at all.
            return int(self._queue(self._open()).queue_declare().message_count)

    def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send them, and return when the broker has them all. When this raises, some may have been sent.

        They are as `queue_wire.decode` makes them. Raises BrokerAway.
        """
        with self._asked():
            channel = self._open()
            producer = Producer(channel, auto_declare=False)
            if self._confirms:
                self._confirms.expect(len(messages))
            with producer.batch(max(1, len(messages))):
                for message in messages:
                    self._send(producer, message)
            if self._confirms:
                self._confirms.wait()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.close()
            raise BrokerAway(f"{type(error).__name__}: {error}") from error

    def _send(self, producer: Producer, message: Mapping[str, Any]) -> None:
        properties = message["properties"]
        kept = {name: properties[name] for name in ("correlation_id", "reply_to") if properties.get(name)}
        producer.publish(
            message["body"],
            exchange="",
            routing_key=self._name,
            content_type=message["content-type"],
            content_encoding=message["content-encoding"],
            headers={**message["headers"], MESH_TAG: properties["delivery_tag"]},
            priority=self._priority(properties.get("priority")),
            delivery_mode=PERSISTENT,
            **kept,
        )

    def _priority(self, ours: int | None) -> int:
        """Ours go from 0 (low) to 9 (high), as RabbitMQ's do; kombu's lists have it the other way round."""
        level = min(HIGHEST_PRIORITY, max(0, 5 if ours is None else ours))
        return level if self._confirms else HIGHEST_PRIORITY - level

    def _queue(self, channel: Any) -> Any:
        """As Celery itself declares it."""
        highest = self._app.conf.task_queue_max_priority
        arguments = {"x-max-priority": highest} if highest else None
        return Queue(self._name, routing_key=self._name, durable=True, queue_arguments=arguments)(channel)

    def _open(self) -> Any:
        if self._channel is None:
            # Confirmed in batches here, and not one by one as tasks that Celery sends.
            options = {"confirm_publish": False}
            self._connection = self._app.connection_for_write(transport_options=options)
            channel = self._connection.channel()
            self._confirms = (
                Confirms(self._connection, channel) if hasattr(channel, "confirm_select") else None
            )
            self._queue(channel).queue_declare()
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

    def expect(self, count: int) -> None:
        """So many are about to be sent."""
        self._sent += count

    def wait(self) -> None:
        """Return when all are confirmed. Raises BrokerAway, and TimeoutError when nothing comes."""
        while self._confirmed < self._sent and not self._refused:
            self._connection.drain_events(timeout=CONFIRM_SECONDS)
        if self._refused:
            raise BrokerAway("the broker refused a task")

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
