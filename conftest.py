"""How the suite runs: what measures the machine runs alone, and a failing property does not shrink for minutes.

With pytest-xdist several processes run tests at once. A test marked `alone` waits until no other test runs, and none
begins until it has ended; `-n0` needs no such care.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import IO, Any

import hypothesis
import pytest
import structlog

# Shrinking may take five minutes for each failure. CI says what failed; whoever mends it runs the one test without.
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    database=None,
    print_blob=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# Rich tracebacks show every local variable of every frame: ten seconds for an error with an application in its frames.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


class Turns:
    """Locks between the processes of one run: many ordinary tests, or one that is alone.

    `gate` is taken for a moment by who comes in, and held by a lone test until it is through: nobody overtakes it.
    """

    def __init__(self, folder: Path) -> None:
        self._gate, self._room = (self._opened(folder / name) for name in ("gate.lock", "room.lock"))

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Wait for the turn, hold it inside the block."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @staticmethod
    def _opened(path: Path) -> IO[bytes]:
        return path.open("ab")


TURNS, FOLDER = pytest.StashKey[Turns](), pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where the locks are; in the process that starts the others."""
    if FOLDER not in node.config.stash:
        node.config.stash[FOLDER] = Path(mkdtemp(prefix="streammesh-turns-"))
    node.workerinput["turns"] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the locks; in the process that started the others."""
    if folder := config.stash.get(FOLDER, None):
        rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Wait for the test's turn, before its time limit begins to count."""
    if (given := getattr(item.config, "workerinput", None)) is None:
        return (yield)
    if (turns := item.config.stash.get(TURNS, None)) is None:
        turns = item.config.stash[TURNS] = Turns(Path(given["turns"]))
    with turns.taken(alone=item.get_closest_marker("alone") is not None):
        return (yield)
