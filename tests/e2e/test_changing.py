"""The page about changing a service: its files are written, its commands run, several versions live side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.quickstart import ROOT, STAYS, blocks, compare, run, stay, told_in

PAGE = ROOT / "docs" / "changing.md"
STOPS = "# Ctrl-C: "
URL = "http://127.0.0.1:8000"


class Terminals:
    """The programs that stay, by their commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "API_", "PYTEST_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "160",
            "API_PORT": "0",
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def play(self, page: Path) -> None:
        for kind, text in blocks(page):
            if kind == "python":
                (self._folder / text.partition("\n")[0].removeprefix("# ").strip()).write_text(text)
            elif kind == "sh":
                for command in text.splitlines():
                    self._do(command)
            elif kind == "console":
                for command, told in told_in(text):
                    compare(command, told, self.run(command))

    def run(self, command: str) -> str:
        place = self._folder / "var" / "up" / "up.json"
        url = json.loads(place.read_text())["api_url"] if URL in command else ""
        done = subprocess.run(
            ["bash", "-c", command.replace(URL, url)],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr

    def _do(self, command: str) -> None:
        if command.startswith(STOPS):
            self.stop(command.removeprefix(STOPS))
        elif command.endswith(STAYS):
            name = command.removesuffix(STAYS).strip()
            if name.startswith("streammesh"):
                self._running[name] = stay(command, self._folder, self._env)
            else:
                self.start(name)
        else:
            run(command, self._folder, self._env)

    def start(self, name: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it takes tasks."""
        log = self._folder / f"{name.partition(' ')[2]}{len(self._running)}.log"
        with log.open("wb") as out:
            process = self._running[f"{name} {env}" if env else name] = subprocess.Popen(
                name.split(),
                cwd=self._folder,
                env=self._env | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + 120
        while "worker.ready" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        return process

    def stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 1), f"{name} did not end as it should"

    def stop_all(self) -> None:
        """End what is left, whatever became of it."""
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ended(self, name: str) -> int:
        return self._running.pop(name).wait(60)


# The page is about workers: what it does not name need not be started.
WITHOUT = '[tool.streammesh]\nwithout = ["archiver", "email_worker", "report_worker", "scheduler", "webhook_worker"]\n'


@pytest.mark.timeout(400)
def test_the_page_is_played_and_a_name_that_is_taken_over_ends_who_had_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(WITHOUT)
    terminals = Terminals(tmp_path)
    try:
        terminals.play(PAGE)
        terminals.start("python other.py", MESH_TAKEOVER="true")
        assert terminals.ended("python third.py") == 0
        assert terminals.ended("python second.py") == 0
    finally:
        terminals.stop_all()
