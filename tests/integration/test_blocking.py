"""Calls on a blocking connection of their own: answered in order, and good again after whatever broke it."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.events import envelope
from streammesh.events.encoded import seal
from streammesh.events.publisher import publish_call
from streammesh.redisio.blocking_connection import Blocking
from streammesh.redisio.client import open_sync


@pytest.fixture
def client(mesh_settings):
    opened = open_sync(mesh_settings, "blocking")
    yield opened
    opened.close()


@pytest.fixture
def calls(client):
    blocking = Blocking(client)
    yield blocking
    blocking.close()


def publishing(keys, settings, number):
    event = envelope.make("order.placed", {"n": number}, source="tests", id=str(number))
    return publish_call(keys, settings, [seal(event)])


def test_a_script_that_the_server_has_forgotten_is_sent_again(calls, client, mesh_keys, mesh_settings):
    lua.run_sync(calls, publishing(mesh_keys, mesh_settings, 1))
    client.script_flush()

    [answer] = lua.run_sync(calls, publishing(mesh_keys, mesh_settings, 2))

    assert (answer.id, answer.duplicate) == ("2", False)


def test_of_several_commands_that_travel_together_one_may_fail_alone(calls):
    calls.execute_command("SET", "text", "x")

    answers = calls.execute_all([("GET", "text"), ("INCR", "text"), ("STRLEN", "text")])

    assert (answers[0], answers[2]) == (b"x", 1)
    assert isinstance(answers[1], ResponseError)


def test_a_connection_that_the_server_closed_is_made_anew_without_anybody_noticing(calls, client):
    mine = calls.execute_command("CLIENT", "ID")
    client.client_kill_filter(_id=mine)

    assert calls.execute_command("CLIENT", "ID") != mine


def test_threads_get_their_own_answers(calls):
    wrong = []

    def echo(number):
        for n in range(200):
            text = f"{number}-{n}".encode()
            if calls.execute_command("ECHO", text) != text:
                wrong.append(text)

    threads = [threading.Thread(target=echo, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_an_answer_that_nobody_waited_for_any_more_is_not_given_to_the_next(calls):
    class Limit(Exception):
        """As a soft time limit, raised by a signal."""

    def raise_limit(*_):
        raise Limit

    before = signal.signal(signal.SIGALRM, raise_limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Limit):
            calls.execute_command("BLPOP", "nothing", "1")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert calls.execute_command("ECHO", "mine") == b"mine"


def test_a_server_that_hangs_or_is_gone_is_noticed_and_found_again(tmp_path, mesh_settings):
    update = {"redis_timeout": mesh_settings.redis_timeout / 20}
    with EmbeddedServer(tmp_path, appendonly=False) as server:
        settings = mesh_settings.model_copy(update={**update, "redis_url": server.url})
        client = open_sync(settings, "hang")
        calls = Blocking(client)
        assert calls.execute_command("PING") in (b"PONG", "PONG")
        server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                calls.execute_command("PING")
            assert time.monotonic() - began < 5
        finally:
            server.resume()
        assert calls.execute_command("ECHO", "again") == b"again"
        port, folder = server.port, server.folder
        server.stop(kill=True)
        with pytest.raises(RedisConnectionError):
            calls.execute_command("PING")
        with EmbeddedServer(folder, port=port, appendonly=False):
            assert calls.execute_command("ECHO", "new") == b"new"
            calls.close()
            client.close()
