"""Beat in a thread beside a worker."""

from __future__ import annotations

import os
import signal

import pytest
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker import beat
from streammesh.worker.app import make_app


@pytest.fixture
def thread(mesh_settings, monkeypatch):
    monkeypatch.setattr(beat, "mesh_settings", lambda: mesh_settings)
    return beat.BeatThread(make_app("scheduler", mesh_settings))


@pytest.fixture
def signals(monkeypatch):
    """The signals that the process would have sent to itself."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_it_fires_until_it_is_stopped(mesh, thread, signals):
    mesh.put("yearly", mesh.now_ms() // 1000 * 1000 - 1000, every="366d", misfire="latest")

    thread.start()
    wait_until_sync("a tick comes", mesh.fired)
    thread.stop()

    assert not thread.is_alive()
    assert signals == []


def test_should_it_break_the_whole_process_is_ended(thread, signals, monkeypatch):
    def broken(*_):
        raise RuntimeError("Beat is broken")

    monkeypatch.setattr(beat.MeshScheduler, "tick", broken)

    thread.start()
    thread.join(10)

    assert signals == [(os.getpid(), signal.SIGTERM)]
