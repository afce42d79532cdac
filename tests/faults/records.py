"""What handlers did, as they wrote it into a file outside Redis: one line at the start of a run, one at its end.

A run ends `through`, or `raised` where the handler is there to fail; one that was killed has no end.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from streammesh import Context

FILE = "FAULTS_RECORD"  # names the file, in the environment of workers
POOL = "FAULTS_POOL"  # names the pool of sync handlers, in the same place
KILL_ONCE = (
    "FAULTS_KILL_ONCE"  # names a file, in the same place: who dies because of it, see `sync_worker.py`
)


def record(what: str, name: str, ctx: Context) -> None:
    """Append `began`, `through` or `raised` of a handler; it is in the file when this returns, whoever is killed then."""
    event = ctx.event
    # Not time.time(): one scenario lies to its worker about that.
    now = time.clock_gettime(time.CLOCK_REALTIME)
    write_line(
        f"{now:.6f} {os.getpid()} {os.getsid(0)} {what} {name} {ctx.attempt} {ctx.task_id} {event.source} {event.id}"
    )


def write_line(line: str) -> None:
    """Append a line; it is in the file when this returns."""
    target = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, f"{line}\n".encode())
    finally:
        os.close(target)


@dataclass(slots=True)
class Run:
    """One run of a handler. Times are seconds since the epoch."""

    name: str  # of the handler
    task: str
    source: str
    event: str
    attempt: int
    pid: int
    session: int  # the worker that it belongs to, whether that lives or not
    began: float
    through: float | None = None
    raised: float | None = None

    @property
    def broke_off(self) -> bool:
        """Whether it has no end: it is at work, or was killed on the way."""
        return self.through is None and self.raised is None


def read_runs(path: Path) -> dict[str, list[Run]]:
    """All runs by task id, in the order in which they began."""
    runs: dict[str, list[Run]] = defaultdict(list)
    if not path.exists():
        return runs
    open_runs: dict[tuple[str, int, int], Run] = {}
    for line in path.read_text().splitlines():
        at, pid, session, what, name, attempt, task, source, event = line.split(" ", 8)
        key = (task, int(attempt), int(pid))
        if what == "began":
            open_runs[key] = Run(name, task, source, event, int(attempt), int(pid), int(session), float(at))
            runs[task].append(open_runs[key])
        elif what == "through":
            open_runs[key].through = float(at)
        else:
            open_runs[key].raised = float(at)
    return runs
