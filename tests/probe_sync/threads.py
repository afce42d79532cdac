"""What handlers do in threads: overrun, leave, work side by side."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from streammesh import Context

from tests.probe.record import record
from tests.probe_sync.service import service

_at_once = 0
_most = 0
_counting = threading.Lock()


def naps(seconds: float) -> None:
    """Sleep in many lines of Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@service.on("sync.side_by_side")
def side_by_side(data: dict[str, Any]) -> dict[str, Any]:
    """Answer how many were at work at most, in this process, and in which thread this one was."""
    global _at_once, _most
    with _counting:
        _at_once += 1
        _most = max(_most, _at_once)
    naps(float(data["seconds"]))
    with _counting:
        _at_once -= 1
    return {"most": _most, "thread": threading.current_thread().name}


@service.on("sync.overrunning", timeout=0.3, retries=0)
def overrunning(data: dict[str, Any], ctx: Context) -> str:
    """Take too long; tidy up, where the event says so."""
    try:
        naps(10)
    except SoftTimeLimitExceeded:
        record(f"overrun {ctx.event.id}")
        if data.get("tidy"):
            return "tidied up"
        raise
    return "ran through"


@service.on("sync.exit", retries=1, backoff=0.05, breaker=False)
def leave(data: dict[str, Any]) -> None:
    """Leave in the way that the event names."""
    raise {
        "exit": SystemExit(3),
        "generator": GeneratorExit(),
        "interrupt": KeyboardInterrupt(),
        "stop": StopIteration(),
    }[data["way"]]
