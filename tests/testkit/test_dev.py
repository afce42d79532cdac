"""`streammesh dev` and `streammesh rerun --here`: a saved handler takes the next event; a debugger; one event on the desk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streammesh.testing.conditions import wait_until_sync

WORKER = """
from streammesh import Context, Service

service = Service("shop_worker")


@service.on("order.placed")
async def confirm(order: dict, ctx: Context) -> dict:
    ANSWER
    ctx.publish("order.confirmed", {"by": answer})
    return {"answer": answer}


@service.on("order.broken", retries=0)
async def broken(order: dict) -> None:
    raise RuntimeError("as always")


if __name__ == "__main__":
    service.run()
"""
PROGRAM = [sys.executable, "-m", "streammesh.cli"]


def save(folder: Path, answer: str) -> None:
    (folder / "worker.py").write_text(WORKER.replace("ANSWER", answer))


class Terminal:
    """A `streammesh dev` that runs: what it shows, and what is typed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._log = folder, folder / "terminal.log"
        env = {**os.environ, "API_PORT": "0", "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "dev"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    @property
    def shown(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def sees(self, what: str, times: int = 1, seconds: float = 120) -> None:
        try:
            wait_until_sync(what, lambda: self.shown.count(what) >= times, seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{what!r} is not shown {times} times:\n{self.shown[-4000:]}") from None

    def published(self, event_type: str) -> str:
        """The id of the first event of a type that was published here."""
        return wait_until_sync(
            f"{event_type} is published",
            lambda: "".join(re.findall(rf"{event_type}  ([0-9a-f-]{{36}})  from", self.shown)[:1]),
            seconds=120,
        )

    def types(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def end(self) -> int:
        self._process.send_signal(signal.SIGINT)
        with self._process as process:
            return process.wait(60)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("desk")
    save(folder, 'answer = "first"')
    made = Terminal(folder)
    try:
        made.sees("pool=async queue=shop_worker")
        yield made
    finally:
        assert made.end() == 0


@pytest.mark.timeout(400)
def test_what_is_typed_is_published_and_a_saved_handler_takes_the_next_event(terminal: Terminal) -> None:
    terminal.types('order.placed {"n": 1}')
    terminal.sees('{"answer":"first"}')
    save(terminal.folder, 'answer = "second"')
    terminal.sees("saved: worker.py")
    terminal.types('order.placed {"n": 2}')
    terminal.sees('{"answer":"second"}')


@pytest.mark.timeout(400)
def test_a_breakpoint_stops_in_the_handler(terminal: Terminal) -> None:
    starts = terminal.shown.count("worker.ready")
    save(terminal.folder, 'answer = "typed"; breakpoint()')
    terminal.sees("worker.ready", starts + 1)
    terminal.types('order.placed {"n": 3}')
    terminal.sees("(Pdb) ")
    terminal.types("answer = order['n'] * 100")
    terminal.types("c")
    terminal.sees('{"answer":300}')


@pytest.mark.timeout(400)
def test_an_event_is_run_again_on_ones_desk_without_effects(terminal: Terminal) -> None:
    save(terminal.folder, 'answer = "on the desk"')
    event = terminal.published("order.placed")
    done = subprocess.run(
        [*PROGRAM, "rerun", event, "--here"], cwd=terminal.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'would publish order.confirmed {"by":"on the desk"}' in done.stdout
    assert 'result {"answer":"on the desk"}' in done.stdout

    terminal.types("order.broken {}")
    terminal.sees("task.failed")
    event = terminal.published("order.broken")
    done = subprocess.run(
        [*PROGRAM, "rerun", event, "--here"], cwd=terminal.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    frames = [line for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert len(frames) == 1 and "in broken" in frames[0], done.stderr  # it begins at the handler
