"""Publishing, reading, holding, taking over: one queue as kombu sees it."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from streammesh.keys import RETURNED, WORKERS
from streammesh.testing.conditions import wait_until_sync
from streammesh.transport.codec import Explicit, parse_tag

from tests.integration.transport.talking import (
    LEASE,
    pending,
    publish,
    receive,
    receive_held,
    xreadgroup,
)


def test_what_is_published_is_read_in_order_and_leaves_nothing(connect, queue, stream, mesh_redis_sync):
    connection = connect()
    publish(connection, queue, *range(30))
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 30

    assert [body for body, _ in receive(connection, queue, 30)] == list(range(30))

    wait_until_sync("the queue is empty", lambda: mesh_redis_sync.xlen(stream) == 0)
    wait_until_sync("the consumer left", lambda: mesh_redis_sync.xinfo_consumers(stream, WORKERS) == [])


def test_an_entry_carries_the_raw_body_and_no_tag(connect, queue, stream, mesh_redis_sync):
    publish(connect(), queue, {"n": 1}, headers={"who": "me"}, priority=7)

    [(_, fields)] = mesh_redis_sync.xrange(f"{stream}:p7")
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

    assert parse_tag(message.delivery_tag) == ("work", 5, entry.decode())
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


@pytest.mark.alone
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
    connection = connect()
    for priority in (Explicit(0), 5, 9, 3, None, 7):
        publish(connection, queue, priority, priority=priority)

    assert mesh_redis_sync.xlen(mesh_keys.queue("work")) == 2, "5, and 5 for none"
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 6
    got = receive(connection, queue, 6, prefetch=1)
    assert [body for body, _ in got] == [9, 7, 5, None, 3, 0]
    assert parse_tag(got[0][1].delivery_tag)[:2] == ("work", 9)
