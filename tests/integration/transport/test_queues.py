"""Several queues, exchanges, and what is left in Redis."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError
from streammesh.testing.conditions import wait_until_sync
from streammesh.transport.transport import broker_url, install

from tests.integration.transport.talking import (
    publish,
    receive,
)


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
