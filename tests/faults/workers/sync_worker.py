"""`python -m tests.faults.workers.sync_worker`: sync handlers in worker processes or threads, and a workflow."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import chain, chord, signals
from streammesh import Context, Service

from tests.faults.records import KILL_ONCE, POOL, record

service = Service("fault_sync", pool=os.environ.get(POOL))  # type: ignore[arg-type]


def kill_before_the_body(sender: str | None = None, **_: Any) -> None:
    """Die as a chord's last part is about to send the chord's body."""
    if sender == "fault_sync.total":
        _die_once("body")


def kill_before_the_claim(sender: Any = None, **_: Any) -> None:
    """Die as a delivery is about to ask whether it may start."""
    if sender.name == "fault_sync.work":
        _die_once("claim")


def _die_once(moment: str) -> None:
    """Where a test asks for it, by a file that names this moment."""
    marker = Path(os.environ.get(KILL_ONCE) or os.devnull)
    if marker.is_file() and marker.read_text() == moment:
        marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if KILL_ONCE in os.environ:  # who listens to these has deliveries go Celery's own way
    signals.before_task_publish.connect(kill_before_the_body)
    signals.task_prerun.connect(kill_before_the_claim)


@service.on("fault.noted", backoff=0.1)
def note(data: dict[str, Any], ctx: Context) -> int:
    """The quickest."""
    record("began", "note", ctx)
    record("through", "note", ctx)
    return int(data["n"])


@service.on("fault.worked", backoff=0.1)
def work(data: dict[str, Any], ctx: Context) -> int:
    """Take as long as the event says."""
    record("began", "work", ctx)
    ctx.progress(0.5, "half way")
    time.sleep(float(data["seconds"]))
    record("through", "work", ctx)
    return int(data["n"])


@service.on("fault.after", backoff=0.1)
def after(data: dict[str, Any], ctx: Context) -> int:
    """What follows from `fault.followed`."""
    record("began", "after", ctx)
    record("through", "after", ctx)
    return int(data["n"])


@service.on("fault.woven", backoff=0.1)
def weave(data: dict[str, Any], ctx: Context) -> Any:
    """Answer with a workflow."""
    record("began", "weave", ctx)
    record("through", "weave", ctx)
    return chain(chord([square.s(n) for n in range(3)], total.s()), add.s(int(data["n"])))


@service.part
def square(n: int) -> int:
    """One part."""
    time.sleep(0.05)
    return n * n


@service.part
def total(parts: list[int]) -> int:
    """Merge."""
    return sum(parts)


@service.part
def add(value: int, n: int) -> int:
    """The last part."""
    return value + n


if __name__ == "__main__":
    service.run()
