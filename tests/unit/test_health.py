"""Whether a process lives and works: told by what it knows, from a thread of its own, in a moment."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from streammesh.health import HEAD_BYTES, MOST_AT_ONCE, Echo, Health, HealthServer, Pulse, serve_health


def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else {}
    finally:
        connection.close()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> HealthServer:
    return serve_health(health, "127.0.0.1", 0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join(5)
    made.close()


def test_what_does_not_work_is_not_ready_and_lives_on(server: HealthServer, health: Health) -> None:
    health.works_while("redis", lambda: "does not answer")

    assert ask(server, "/livez") == (200, {"status": "ok", "parts": {}})
    assert ask(server, "/readyz") == (
        503,
        {"status": "not ready", "parts": {"redis": {"ok": False, "detail": "does not answer"}}},
    )


def test_what_is_dead_is_not_ready_either(server: HealthServer, health: Health) -> None:
    health.lives_while("consumer", lambda: "has ended")
    health.works_while("consumer", lambda: None)

    for path in ("/livez", "/healthz", "/readyz"):
        status, said = ask(server, path)
        assert (status, said["parts"]) == (503, {"consumer": {"ok": False, "detail": "has ended"}})


def test_of_parts_of_which_one_suffices_the_missing_one_is_named_and_the_process_stays_ready() -> None:
    health, away = Health(), {"a"}
    for name in ("a", "b"):
        health.works_while_any(name, lambda name=name: "is away" if name in away else None)  # type: ignore[misc]

    found = health.ready()
    assert (found["status"], [n for n, part in found["parts"].items() if not part["ok"]]) == ("ready", ["a"])
    away.add("b")
    assert health.ready()["status"] == "not ready"


def test_a_check_that_breaks_is_a_part_that_does_not_work(server: HealthServer, health: Health) -> None:
    health.works_while("odd", lambda: str(1 // 0))

    assert ask(server, "/readyz")[1]["parts"] == {
        "odd": {"ok": False, "detail": "cannot be told: ZeroDivisionError"}
    }


def test_a_loop_that_is_blocked_is_dead_after_a_while_and_lives_again(
    loop: asyncio.AbstractEventLoop,
) -> None:
    echo, gate = Echo(loop), threading.Event()
    assert echo.silent_for(0.05) is None
    loop.call_soon_threadsafe(gate.wait, 5)
    deadline = time.monotonic() + 2
    while (said := echo.silent_for(0.05)) is None and time.monotonic() < deadline:
        time.sleep(0.01)

    assert "not turned" in (said or "")
    gate.set()
    while echo.silent_for(0.05) is not None:
        time.sleep(0.01)


def test_a_loop_that_has_ended_is_dead_at_once(loop: asyncio.AbstractEventLoop) -> None:
    echo = Echo(loop)
    loop.call_soon_threadsafe(loop.stop)
    while loop.is_running():
        time.sleep(0.01)

    assert echo.silent_for(60) == "its event loop has ended"


def test_a_pulse_that_rests_is_not_dead_however_long_it_rests() -> None:
    pulse = Pulse("it is starting")
    assert (pulse.silent_for(-1), pulse.waits(60)) == (None, "it is starting")
    pulse.beat()
    assert (pulse.silent_for(60), pulse.waits(60)) == (None, None)
    assert "not turned" in (pulse.silent_for(-1) or "") and "not turned" in (pulse.waits(-1) or "")


def test_an_answer_costs_less_than_5_ms(server: HealthServer, health: Health) -> None:
    for n in range(10):
        health.lives_while(str(n), lambda: None)
    took = []
    for _ in range(30):
        began = time.perf_counter()
        assert ask(server, "/readyz")[0] == 200
        took.append(time.perf_counter() - began)

    assert sorted(took)[len(took) // 2] < 0.005


def test_strange_requests_are_answered_or_dropped_and_the_next_one_is_served(server: HealthServer) -> None:
    assert ask(server, "/nothing")[0] == 404
    assert ask(server, "/livez", "POST")[0] == 405
    assert ask(server, "/livez?verbose", "HEAD") == (200, {})
    for raw in (b"\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"G" * (2 * HEAD_BYTES)):
        with socket.create_connection(("127.0.0.1", server.port), 5) as odd:
            odd.sendall(raw)
            while True:
                try:
                    if not odd.recv(4096):
                        break
                except ConnectionResetError:
                    break

    assert ask(server, "/livez")[0] == 200


def test_connections_that_say_nothing_do_not_keep_others_out_for_long(server: HealthServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(2 * MOST_AT_ONCE)]
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                assert ask(server, "/livez")[0] == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        for one in silent:
            one.close()


def test_a_port_that_is_taken_is_replaced_by_a_free_one(server: HealthServer, health: Health) -> None:
    other = serve_health(health, "127.0.0.1", server.port)

    assert other.port != server.port and ask(other, "/livez")[0] == 200


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_forked_child_does_not_keep_the_port(server: HealthServer) -> None:
    read, write = os.pipe()
    is_there, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(there, b".")
        os.read(read, 1)
        os._exit(0)
    try:
        os.read(is_there, 1)
        open_there = {fd.readlink() for fd in Path(f"/proc/{child}/fd").iterdir()}
        assert Path(f"/proc/self/fd/{server._socket.fileno()}").readlink() not in open_there
    finally:
        os.write(write, b".")
        os.waitpid(child, 0)
