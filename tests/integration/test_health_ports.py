"""Every process says on a port of its own whether it lives and can work; Redis has no say in whether it lives."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.testing.conditions import wait_until_sync
from streammesh.testing.programs import Programs
from streammesh.worker.async_pool import TaskPool


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


@contextmanager
def running(
    module: str, server: EmbeddedServer, folder: Path, *, kill: bool = False, **env: str
) -> Iterator[int]:
    port = free_port()
    given = {
        **os.environ,
        "MESH_REDIS_URL": server.url,
        "MESH_HEALTH_PORT": str(port),
        "MESH_REDIS_TIMEOUT": "500ms",
        "API_PORT": "0",
        "API_DEV_KEY_FILE": str(folder / "key"),
        **env,
    }
    with Programs(given, folder) as programs:
        process = programs.start(module)
        yield port
        if kill:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def server(tmp_path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "redis", appendonly=False) as server:
        yield server


MODULES = ["services.api", "services.dispatcher", "services.email_worker", "services.scheduler"]


def test_a_process_lives_and_is_not_ready_while_redis_is_away(server, tmp_path):
    with ExitStack() as stack:
        ports = {module: stack.enter_context(running(module, server, tmp_path)) for module in MODULES}

        def all_are(path: str, status: int) -> bool:
            return {ask(port, path)[0] for port in ports.values()} == {status}

        wait_until_sync("all are ready", lambda: all_are("/readyz", 200), seconds=30)
        assert all_are("/livez", 200)
        server.stop(kill=True)
        wait_until_sync("all have noticed", lambda: all_are("/readyz", 503), seconds=15)
        assert all_are("/livez", 200)
        server.start()
        wait_until_sync("all work again", lambda: all_are("/readyz", 200), seconds=30)


def test_it_lives_before_redis_was_ever_there(server, tmp_path):
    server.stop(kill=True)
    with running("services.report_worker", server, tmp_path) as port:
        wait_until_sync("it answers", lambda: ask(port, "/livez")[0] == 200, seconds=20)
        status, said = ask(port, "/readyz")
        assert (status, said["parts"]["consumer"]["ok"]) == (503, False)
        server.start()
        wait_until_sync("its children work", lambda: ask(port, "/readyz")[0] == 200, seconds=20)


def test_a_worker_whose_consumer_hangs_is_dead(server, tmp_path):
    with running("tests.harness.stuck", server, tmp_path, MESH_STUCK_AFTER="2s", kill=True) as port:
        wait_until_sync("it is ready", lambda: ask(port, "/readyz")[0] == 200, seconds=20)
        wait_until_sync("it is dead", lambda: ask(port, "/livez")[0] == 503, seconds=10)
        parts = ask(port, "/livez")[1]["parts"]
        assert "not turned" in parts["consumer"]["detail"] and parts["pool"]["ok"]


class TestAsyncPool:
    @pytest.fixture
    def pool(self) -> Iterator[TaskPool]:
        pool = TaskPool(1, app=SimpleNamespace(plumbing=None))
        pool.on_start()
        yield pool
        pool._end_loop()

    def test_it_lives_while_its_loop_turns(self, pool):
        assert pool.dead_for(60) is None

    def test_it_is_dead_as_soon_as_the_thread_of_its_loop_has_ended(self, pool):
        ended = threading.Thread(target=lambda: None)
        ended.start()
        ended.join()
        pool._thread, running = ended, pool._thread  # the pool itself ends the process, where it can
        said, pool._thread = pool.dead_for(60), running
        assert said == "the thread of its event loop has ended"

    def test_it_is_dead_when_its_loop_hangs_for_long(self, pool):
        gate = threading.Event()
        pool.loop.call_soon_threadsafe(gate.wait, 5)
        deadline = time.monotonic() + 3
        while pool.dead_for(0.05) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "not turned" in pool.dead_for(0.05)
        gate.set()

    def test_it_is_not_dead_for_being_stopped(self, pool):
        pool._end_loop()
        assert pool.dead_for(60) is None
