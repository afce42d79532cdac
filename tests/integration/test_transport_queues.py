"""The stream transport as kombu sees it: publishing, reading, counting, priorities, and what is left in Redis."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError
from streammesh.engine.queue_wire import parse_tag
from streammesh.engine.transport import broker_url, install
from streammesh.keys import RETURNED, WORKERS
from streammesh.testing.waiting import wait_until_sync

LEASE = 0.6
Connect = Callable[..., Connection]


@pytest.fixture(params=["RESP3", "RESP2"])
def url(mesh_settings, request) -> str:
    install()
    return broker_url(mesh_settings.redis_url + ("?protocol=2" if request.param == "RESP2" else ""))


@pytest.fixture
def connect(url, mesh_settings) -> Iterator[Connect]:
    with ExitStack() as opened:

        def make(**options: Any) -> Connection:
            options = {"namespace": mesh_settings.namespace, "lease_seconds": LEASE, **options}
            return opened.enter_context(Connection(url, transport_options=options))

        yield make


@pytest.fixture
def queue() -> Queue:
    return Queue("work", Exchange("work"), routing_key="work")


@pytest.fixture
def stream(mesh_keys) -> str:
    return mesh_keys.queue("work")


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


def test_what_is_published_is_read_in_order_and_leaves_nothing(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    publish(connection, queue, *range(30))
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 30

    assert [body for body, _ in receive(connection, queue, 30)] == list(range(30))

    wait_until_sync("the queue is empty", lambda: mesh_redis_sync.xlen(stream) == 0)
    wait_until_sync("the consumer left", lambda: mesh_redis_sync.xinfo_consumers(stream, WORKERS) == [])


def test_an_entry_carries_the_raw_body_and_no_tag(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, {"n": 1}, headers={"who": "me"}, priority=7)

    [(_, fields)] = mesh_redis_sync.xrange(stream)
    head = json.loads(fields[b"h"])
    assert fields[b"b"] == b'{"n": 1}'
    assert head["headers"] == {"who": "me"}
    assert head["properties"] == {
        "delivery_info": {"exchange": "work", "routing_key": "work"}, "delivery_mode": 2, "priority": 7,
    }  # fmt: skip


def test_the_delivery_tag_names_the_entry(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, 1)
    [(entry, _)] = mesh_redis_sync.xrange(stream)

    [(_, message)] = receive(connect(), queue, 1)

    assert parse_tag(message.delivery_tag) == ("work", 0, entry.decode())
    assert message.delivery_info == {"exchange": "work", "routing_key": "work", "redelivered": False}


def test_a_batch_is_published_in_one_go(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    queue(connection.default_channel).declare()
    producer = connection.Producer(serializer="json")
    with producer.batch(max_size=100):
        for n in range(250):
            producer.publish(n, exchange="", routing_key="work")
        assert mesh_redis_sync.xlen(stream) == 200

    assert mesh_redis_sync.xlen(stream) == 250


def test_the_prefetch_limit_is_kept(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, *range(10))
    connection = connect()

    with connection.channel() as channel:
        channel.basic_qos(0, 3, False)
        held: list[Any] = []
        with connection.Consumer(
            [queue], channel=channel, callbacks=[lambda _, message: held.append(message)]
        ):
            for _ in range(3):
                connection.drain_events(timeout=5)
            with pytest.raises(socket.timeout):
                connection.drain_events(timeout=0.2)
            assert len(pending(mesh_redis_sync, stream)) == 3

            held[0].ack()
            connection.drain_events(timeout=5)
            assert len(held) == 4


def test_what_is_held_unacknowledged_goes_back_when_the_channel_closes(
    connect, queue, stream, mesh_redis_sync
):
    publish(connect(), queue, *range(5))

    receive(connect(), queue, 3, ack=False)

    assert {row["consumer"] for row in pending(mesh_redis_sync, stream)} <= {RETURNED.encode()}
    started = time.monotonic()
    got = receive(connect(), queue, 5)
    assert time.monotonic() - started < LEASE, "nobody waited for a lease"
    assert [body for body, _ in got] == [0, 1, 2, 3, 4], "in the old order"
    assert [message.delivery_info["redelivered"] for _, message in got] == [True, True, True, False, False]


def test_a_consumer_that_waits_already_is_rung_for_what_goes_back(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, "lone")
    first, second = connect(lease_seconds=30), connect(lease_seconds=30)
    got: list[Any] = []
    with second.channel() as channel, first.channel() as holder:
        first.Consumer([queue], channel=holder, callbacks=[lambda *_: None]).consume()
        first.drain_events(timeout=5)
        second.Consumer([queue], channel=channel, callbacks=[lambda body, _: got.append(body)]).consume()
        with pytest.raises(socket.timeout):
            second.drain_events(timeout=0.1)

        holder.close()
        started = time.monotonic()
        second.drain_events(timeout=5)

    assert got == ["lone"]
    assert time.monotonic() - started < 1


def test_requeue_puts_an_entry_at_the_end_and_says_redelivered(connect, queue):
    connection = connect()
    publish(connection, queue, "first", "second")
    got: list[Any] = []

    def take(body: Any, message: Any) -> None:
        got.append((body, message.delivery_info["redelivered"]))
        if len(got) == 1:
            message.requeue()
        else:
            message.ack()

    with connection.Consumer([queue], callbacks=[take]):
        while len(got) < 3:
            connection.drain_events(timeout=5)

    assert got == [("first", False), ("second", False), ("first", True)]


def test_an_entry_that_is_requeued_for_ever_becomes_a_dead_letter(
    connect, queue, stream, mesh_redis_sync, mesh_keys
):
    connection = connect(max_deliveries=4)
    publish(connection, queue, "again")
    seen: list[Any] = []

    def take(body: Any, message: Any) -> None:
        seen.append(body)
        message.requeue()

    with connection.Consumer([queue], callbacks=[take]), pytest.raises(socket.timeout):
        while True:
            connection.drain_events(timeout=0.3)

    assert len(seen) == 4
    [letter] = [json.loads(value) for value in mesh_redis_sync.hvals(mesh_keys.dead("work"))]
    assert (letter["kind"], letter["attempts"]) == ("Poison", 4)
    assert b'"again"' in b"".join(mesh_redis_sync.hvals(mesh_keys.dead_entries("work")))
    assert mesh_redis_sync.xlen(stream) == 0


def test_an_entry_whose_owners_all_die_becomes_a_dead_letter(
    connect, queue, stream, mesh_redis_sync, mesh_keys
):
    publish(connect(), queue, "poison", "sound")
    connection = connect(max_deliveries=3)
    [(_, [(entry, _)])] = xreadgroup(mesh_redis_sync, stream, "first victim")
    for victim in ("second", "third"):
        mesh_redis_sync.xclaim(stream, WORKERS, victim, 0, [entry], idle=60_000)

    assert [body for body, _ in receive(connection, queue, 1)] == ["sound"]
    with connection.Consumer([queue], callbacks=[lambda *_: None]), pytest.raises(socket.timeout):
        connection.drain_events(timeout=LEASE)
    [letter] = [json.loads(value) for value in mesh_redis_sync.hvals(mesh_keys.dead("work"))]
    assert (letter["kind"], letter["attempts"]) == ("Poison", 3)


def test_what_the_dead_held_is_taken_over_and_what_the_living_hold_is_not(
    connect, queue, stream, mesh_redis_sync
):
    publish(connect(), queue, "of the living", "of the dead")
    living = connect()
    got: list[Any] = []
    with living.channel() as channel:
        channel.basic_qos(0, 1, False)
        living.Consumer([queue], channel=channel, callbacks=[lambda *_: None]).consume()
        living.drain_events(timeout=5)
        xreadgroup(mesh_redis_sync, stream, "dead")
        died = time.monotonic()

        other = connect()
        with other.Consumer([queue], callbacks=[lambda body, message: got.append((body, message))]):
            other.drain_events(timeout=5)
            assert LEASE - 0.1 < time.monotonic() - died < LEASE + 0.3
            with pytest.raises(socket.timeout):
                other.drain_events(
                    timeout=3 * LEASE
                )  # the living owner's thread renews, though it reads nothing

    assert [(body, message.delivery_info["redelivered"]) for body, message in got] == [("of the dead", True)]


def xreadgroup(redis: Any, stream: str, consumer: str) -> Any:
    """Be given one entry, as another process would be, and do nothing with it."""
    answer = redis.xreadgroup(WORKERS, consumer, {stream: ">"}, count=1)
    return list(answer.items()) if isinstance(answer, dict) else answer


def test_an_entry_that_an_unknown_publisher_deleted_is_not_delivered(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, "deleted", "kept")
    [(_, [(entry, _)])] = xreadgroup(mesh_redis_sync, stream, "dead")
    mesh_redis_sync.xdel(stream, entry)

    assert [body for body, _ in receive(connect(), queue, 1)] == ["kept"]


def test_reject_drops_an_entry(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    publish(connection, queue, "unwanted")

    [(_, message)] = receive_held(connection, queue)
    message.reject()

    wait_until_sync("it is gone", lambda: mesh_redis_sync.xlen(stream) == 0)


def receive_held(connection: Connection, queue: Queue) -> list[Any]:
    """One entry, over the default channel, which stays open."""
    got: list[Any] = []
    consumer = connection.Consumer([queue], callbacks=[lambda body, message: got.append((body, message))])
    consumer.consume()
    connection.drain_events(timeout=5)
    return got


def test_one_entry_can_be_fetched(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    channel = connection.default_channel
    assert channel.basic_get("work") is None

    publish(connection, queue, "one", "two")

    message = channel.basic_get("work")
    assert message.payload == "one"
    message.ack()
    assert channel.basic_get("work", no_ack=True).payload == "two"
    wait_until_sync("both are gone", lambda: mesh_redis_sync.xlen(stream) == 0)


@pytest.mark.parametrize("url", ["RESP3"], indirect=True)
def test_the_highest_priority_is_read_first(connect, queue, mesh_redis_sync, mesh_keys):
    connection = connect(priority_steps=[0, 3, 6, 9])
    for priority in (0, 5, 9, 3, None, 7):
        publish(connection, queue, priority, priority=priority)

    assert mesh_redis_sync.xlen(mesh_keys.queue("work", 3)) == 3, "5, 3, and 5 for none"
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 6
    got = receive(connection, queue, 6, prefetch=1)
    assert [body for body, _ in got] == [9, 7, 5, 3, None, 0]
    assert parse_tag(got[0][1].delivery_tag)[:2] == ("work", 9)


@pytest.mark.parametrize("url", ["RESP3"], indirect=True)
def test_several_queues_of_one_consumer_take_turns(connect):
    connection = connect()
    queues = [Queue(name, Exchange(name), routing_key=name) for name in "abc"]
    for queue in queues:
        publish(connection, queue, *[queue.name] * 4)
    got: list[str] = []
    with connection.channel() as channel:
        channel.basic_qos(0, 1, False)

        def take(body: Any, message: Any) -> None:
            got.append(body)
            message.ack()

        with connection.Consumer(queues, channel=channel, callbacks=[take]):
            while len(got) < 12:
                connection.drain_events(timeout=5)

    assert sorted(got[:3]) == ["a", "b", "c"]


@pytest.mark.parametrize("url", ["RESP3"], indirect=True)
def test_topics_and_fanout_reach_the_queues_that_are_bound(connect):
    connection = connect()
    topic = Exchange("news", type="topic")
    wide, narrow = Queue("wide", topic, routing_key="#"), Queue("narrow", topic, routing_key="eu.*")
    for queue in (wide, narrow):
        queue(connection.default_channel).declare()
    producer = connection.Producer(serializer="json")
    producer.publish("x", exchange=topic, routing_key="eu.de")
    producer.publish("y", exchange=topic, routing_key="us.ny")
    assert [body for body, _ in receive(connection, wide, 2)] == ["x", "y"]
    assert [body for body, _ in receive(connection, narrow, 1)] == ["x"]

    everyone = Exchange("everyone", type="fanout")
    got: list[Any] = []
    listener = connect()
    with listener.Consumer(
        [Queue("ear", everyone)], callbacks=[lambda body, _: got.append(body)], no_ack=True
    ):
        listener.drain_events(timeout=5)  # the subscription is confirmed
        producer.publish("z", exchange=everyone, routing_key="", declare=[everyone])
        while not got:
            listener.drain_events(timeout=5)
    assert got == ["z"]


def test_purge_removes_what_nobody_holds(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    publish(connection, queue, *range(5))
    receive(connect(), queue, 1, ack=False)  # given back
    consumer_channel = connection.channel()
    consumer_channel.basic_qos(0, 1, False)
    connection.Consumer([queue], channel=consumer_channel, callbacks=[lambda *_: None]).consume()
    connection.drain_events(timeout=5)

    assert queue(connection.default_channel).purge() == 4
    assert mesh_redis_sync.xlen(stream) == 1


def test_a_deleted_queue_leaves_nothing(connect, queue, stream, mesh_redis_sync, mesh_keys):
    connection = connect()
    publish(connection, queue, 1)

    queue(connection.default_channel).delete()

    assert mesh_redis_sync.exists(stream, mesh_keys.binding("work"), mesh_keys.binding_permanent("work")) == 0
    with pytest.raises(connection.channel_errors):
        queue(connection.default_channel).queue_declare(passive=True)


def test_a_short_lived_queue_expires_unless_it_is_read(connect, mesh_redis_sync, mesh_keys):
    reply = Queue("reply", Exchange("replies"), routing_key="r", auto_delete=True, expires=0.6)
    connection = connect()
    key = mesh_keys.queue("reply")
    with connection.Consumer([reply], callbacks=[lambda *_: None], no_ack=True):
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            with pytest.raises(socket.timeout):
                connection.drain_events(timeout=0.3)
            assert mesh_redis_sync.exists(key)
        publish(connect(), reply, "late", delivery_mode=1)
        connection.drain_events(timeout=5)

    wait_until_sync("it is gone", lambda: not mesh_redis_sync.exists(key))
    other = connect()
    other.default_channel.exchange_declare("replies", "direct")
    other.Producer(serializer="json").publish(
        "too late", exchange="replies", routing_key="r", delivery_mode=1
    )
    assert not mesh_redis_sync.exists(key), "a reply does not bring its queue back to life"


def test_a_group_that_was_lost_is_made_anew(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    got: list[Any] = []

    def take(body: Any, message: Any) -> None:
        got.append(body)
        message.ack()

    with connection.Consumer([queue], callbacks=[take]):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.1)
        mesh_redis_sync.delete(stream)
        publish(connect(), queue, "after")
        connection.drain_events(timeout=5)

    assert got == ["after"]


def test_every_key_lies_below_the_namespace(connect, queue, mesh_redis_sync, mesh_keys):
    before = set(mesh_redis_sync.keys("*"))
    connection = connect()
    publish(connection, queue, 1)
    receive(connection, queue, 1)

    assert all(key.startswith(mesh_keys.prefix.encode()) for key in set(mesh_redis_sync.keys("*")) - before)


def test_publishing_to_a_server_that_is_gone_fails_soon():
    install()
    connection = Connection(
        broker_url("redis://127.0.0.1:1/0"), transport_options={"socket_connect_timeout": 0.5}
    )

    with pytest.raises(OperationalError):
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:secret@h:1/0", "mesh+redis://:**@h:1/0"),
        ("rediss://me:secret@h:1/0", "mesh+rediss://me:**@h:1/0"),
        ("redis+sentinel://me:secret@h:1,g:2/main", "mesh+redis+sentinel://me:**@h:1,g:2/main"),
        ("unix:///run/redis.sock?db=3", "mesh+unix:///run/redis.sock?db=3"),
        ("redis://:a;b@h:1/0", "mesh+redis://:**@h:1/0"),
    ],
)
def test_a_broker_url_is_shown_without_its_password(address, shown):
    install()
    assert Connection(broker_url(address)).as_uri() == shown
