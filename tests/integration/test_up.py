"""`streammesh up` as a newcomer runs it: a service that cannot start, a port of one's own, a plain terminal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from streammesh.embedded import free_port
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with the API, the dispatcher, and a worker that imports what is not there."""
    services = tmp_path / "services"
    services.mkdir()
    (services / "__init__.py").touch()
    for name in ("api", "dispatcher"):
        copytree(ROOT / "services" / name, services / name, ignore=ignore_patterns("tests", "__pycache__"))
    broken = services / "broken_worker"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "handlers.py").write_text("import no_such_module\n")
    (broken / "__main__.py").write_text("from .handlers import service\n\nservice.run()\n")
    return tmp_path


def streammesh(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streammesh.cli", *arguments]
    return subprocess.run(
        command, cwd=tree, env=clean(), capture_output=True, text=True, timeout=60, check=False
    )


def clean(**more: str) -> dict[str, str]:
    """This environment without a mesh in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "STREAMMESH_", "API_"))}
    return {**kept, **more}


def test_the_rest_becomes_ready_and_is_found_beside_a_service_that_cannot_start(tree: Path) -> None:
    port, log, ready = free_port(), tree / "up.log", tree / "var" / "up" / "up.json"
    env = clean(API_PORT=str(port), PYTHONIOENCODING="ascii")
    with log.open("wb") as out:
        mesh = subprocess.Popen(
            [sys.executable, "-m", "streammesh.cli", "up"], cwd=tree, env=env, stdout=out, stderr=out
        )
    try:
        wait_until_sync("the rest is ready", ready.exists, seconds=60)
        found = json.loads(ready.read_text())
        keys = streammesh(tree, "keys", "list", "--json")
        sent = streammesh(tree, "publish", "nobody.wants", "{}", "--wait")
        again = streammesh(tree, "up")

        assert found["api_url"] == f"http://127.0.0.1:{port}"
        assert [key["name"] for key in json.loads(keys.stdout)] == ["dev"], keys.stderr
        assert sent.returncode == 5, sent.stderr
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "a mesh runs in" in again.stderr
    finally:
        mesh.send_signal(signal.SIGINT)
        code = mesh.wait(60)
    said = log.read_text("ascii")
    reason = "ended with code 1: ModuleNotFoundError: No module named 'no_such_module'"
    assert f"broken_worker | {reason}; it is started again in 1 s" in said
    assert f"ready without broken_worker: {reason}" in said
    assert code == 0 and not ready.exists()


def test_a_port_that_is_taken_and_a_wrong_setting_are_one_line(tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = streammesh(tree, "up", "--port", str(held.getsockname()[1]))
    (tree / ".env").write_text("MESH_REDIS_URL=reddis://:hunter2@host\n")
    wrong = streammesh(tree, "up")

    assert (taken.returncode, taken.stderr.count("\n")) == (1, 1)
    assert "is taken; choose another with --port or API_PORT" in taken.stderr
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert wrong.stderr.startswith("MESH_REDIS_URL: ") and "hunter2" not in wrong.stderr
