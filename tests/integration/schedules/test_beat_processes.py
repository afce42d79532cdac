"""Beat as it is run: real processes, Redis restarting under them, signals, the way to a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from streammesh.embedded import EmbeddedServer
from streammesh.events import envelope
from streammesh.keys import Keys
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker.config import SCHEDULER

ROOT = Path(__file__).parents[3]
NAMESPACE = "beats"
START = 45  # seconds that processes may take to start on a busy machine
SECONDLY = """
[schedules.secondly]
every = "1s"
misfire = "all"
event.type = "probe.due"
"""
CELERY = ("-m", "celery", "-A", "services.scheduler.handlers:celery_app", "beat", "--scheduler", SCHEDULER)


class Processes:
    """A server of the test's own, and processes of one mesh on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys = folder, Keys(NAMESPACE)
        self.server = EmbeddedServer(folder / "redis", fsync="always")
        self.file = folder / "schedules.toml"
        self._running: list[subprocess.Popen[bytes]] = []
        self.client = redis.Redis.from_url(self.server.url, retry=Retry(ConstantBackoff(0.05), 40))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"log-{len(self._running)}").open("wb")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stderr=log,
            stdout=log,
            env={
                **os.environ,
                "MESH_REDIS_URL": self.server.url,
                "MESH_NAMESPACE": NAMESPACE,
                "MESH_LOG_FORMAT": "json",
                "SCHEDULER_SCHEDULES_FILE": str(self.file),
            },
        )
        log.close()
        self._running.append(process)
        return process

    def said(self, number: int) -> list[str]:
        """The names of everything that process number `number` has logged."""
        lines = (self.folder / f"log-{number}").read_bytes().splitlines()
        return [orjson.loads(line)["event"] for line in lines if line.startswith(b"{")]

    def due_seconds(self) -> list[int]:
        """The due times of all ticks in the stream, in order, in seconds since the epoch."""
        found = self.client.xrange(self.keys.events("probe"))
        events = [envelope.from_json(fields[b"e"]) for _, fields in found]
        return [envelope._ms(event.data["due_at"]) // 1000 for event in events]

    def stop_all(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self.client.close()
        self.server.stop()


@pytest.fixture
def mesh(tmp_path):
    processes = Processes(tmp_path)
    processes.file.write_text(SECONDLY)
    processes.server.start()
    yield processes
    processes.stop_all()


def test_two_beats_of_which_one_is_killed_and_a_restart_of_redis_lose_and_repeat_no_tick(mesh):
    service, plain = mesh.start("-m", "services.scheduler", "--beat-only"), mesh.start(*CELERY)
    wait_until_sync("both beats live", lambda: mesh.client.zcard(mesh.keys.alive("beat")) == 2, seconds=START)
    wait_until_sync("ticks come", mesh.due_seconds)

    plain.send_signal(signal.SIGKILL)
    mesh.server.stop(kill=True)
    wait_until_sync("the other one has noticed", lambda: "redis.away" in mesh.said(0))
    away_since = time.time()
    wait_until_sync("it has missed a tick", lambda: time.time() > away_since + 1.1)
    mesh.server.start()
    wait_until_sync("ticks come again", lambda: mesh.due_seconds()[-1:] > [int(away_since) + 2])

    due = mesh.due_seconds()
    assert max(Counter(due).values()) == 1, "a tick happened twice"
    assert all(b - a == 1 for a, b in pairwise(due)), "a tick was lost, or came out of order"
    assert service.poll() is None
    service.send_signal(signal.SIGTERM)
    assert service.wait(10) == 0
    assert mesh.said(0).count("redis.away") == 1
    assert "redis.back" in mesh.said(0)


def test_the_whole_scheduler_fires_its_ticks_runs_them_and_ends_cleanly(mesh):
    mesh.file.write_text('[schedules.health]\nevery = "1s"\nevent.type = "health.check.due"\n')
    mesh.start("-m", "services.dispatcher")
    whole = mesh.start("-m", "services.scheduler")

    def results():
        notes = [fields for _, fields in mesh.client.xrange(mesh.keys.notifications())]
        bodies = [orjson.loads(b"{" + n[b"b"] + b"}") for n in notes if n[b"t"] == b"task.succeeded"]
        return [body["data"]["result"] for body in bodies]

    result = wait_until_sync("a health check was done", results, seconds=START)[-1]
    asked = time.monotonic()
    whole.send_signal(signal.SIGTERM)

    assert whole.wait(20) == 0
    assert time.monotonic() - asked < 10
    assert (result["beats"], result["redis"]["persistent"]) == (1, True)
    assert [service["service"] for service in result["services"]] == ["scheduler"]
    assert "worker.stopped" in mesh.said(1)
