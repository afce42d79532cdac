"""How the tests talk to queues through kombu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import Connection, Queue
from streammesh.keys import WORKERS

LEASE = 0.6
Connect = Callable[..., Connection]


def publish(connection: Connection, queue: Queue, *bodies: Any, **options: Any) -> None:
    producer = connection.Producer(serializer="json")
    for body in bodies:
        producer.publish(
            body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options
        )


def receive(
    connection: Connection, queue: Queue, count: int, *, ack: bool = True, prefetch: int = 0
) -> list[Any]:
    """Read `count` entries with a consumer that ends afterwards."""
    got: list[Any] = []

    def take(body: Any, message: Any) -> None:
        got.append((body, message))
        if ack:
            message.ack()

    with connection.channel() as channel:
        channel.basic_qos(0, prefetch, False)
        with connection.Consumer([queue], channel=channel, callbacks=[take]):
            while len(got) < count:
                connection.drain_events(timeout=5)
    return got


def pending(redis: Any, stream: str) -> list[dict[str, Any]]:
    return redis.xpending_range(stream, WORKERS, "-", "+", 100)


def xreadgroup(redis: Any, stream: str, consumer: str) -> Any:
    """Be given one entry, as another process would be, and do nothing with it."""
    answer = redis.xreadgroup(WORKERS, consumer, {stream: ">"}, count=1)
    return list(answer.items()) if isinstance(answer, dict) else answer


def receive_held(connection: Connection, queue: Queue) -> list[Any]:
    """One entry, over the default channel, which stays open."""
    got: list[Any] = []
    consumer = connection.Consumer([queue], callbacks=[lambda body, message: got.append((body, message))])
    consumer.consume()
    connection.drain_events(timeout=5)
    return got
