"""Has a worker that holds too much memory end and be started again, where its tasks share its process.

What a child of a prefork pool is spared by being replaced, a worker of any other pool is spared by draining: it takes
no new task, what runs may end within `MESH_DRAIN`, the rest goes to other workers at once. Whatever watches over the
process starts it again; its exit code says that it wishes so. What if SIGKILL here? The same, without the drain.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import structlog
from celery import signals
from celery.worker import state

EX_TEMPFAIL = 75  # sysexits.h: try again
LOOK_SECONDS = 1.0
MIB = 1 << 20
OF_CONTAINER = 0.85  # of its limit, beyond which the system would end the process without a word
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_PAGE = os.sysconf("SC_PAGE_SIZE")
log = structlog.get_logger(__name__)


class MemoryWatch:
    """Looks each second, from when the worker is ready. One instance per process."""

    def __init__(self, most_mib: int) -> None:
        self._most, self._over = _bound(most_mib), threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)

    def start(self) -> None:
        """Begin, unless there is no bound, or the worker is beyond it before its first task."""
        held = held_mib()
        if not self._most or held is None or self._thread.is_alive():
            return
        if held >= self._most:
            log.error("worker.memory_bound_too_low", held=held, bound=self._most, setting="MESH_MAX_MEMORY")
            return
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            held = held_mib() or 0
            if held > self._most:
                log.error("worker.too_large", held=held, bound=self._most, exit_code=EX_TEMPFAIL)
                begin_drain(EX_TEMPFAIL)
                return


def begin_drain(code: int) -> None:
    """What SIGTERM does, with another exit code."""
    about: dict[str, Any] = {"sig": "memory", "how": "Warm", "exitcode": code}
    signals.worker_shutting_down.send(sender="memory", **about)
    state.should_stop = code


def held_mib() -> int | None:
    """The resident memory of this process in MiB; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE // MIB
    except (OSError, ValueError, IndexError):
        return None


def _bound(most_mib: int) -> int:
    """The setting, or less in a container that has less; 0 for none."""
    if not most_mib:
        return 0
    try:
        limit = int(_LIMIT.read_text())
    except (OSError, ValueError):  # there is none, or it is `max`
        return most_mib
    return min(most_mib, max(1, int(limit * OF_CONTAINER) // MIB))
