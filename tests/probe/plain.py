"""Plain Celery tasks among async handlers."""

from __future__ import annotations

import time
from typing import Any

from celery import current_task, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from tests.probe.record import record
from tests.probe.service import service

task = service.celery_app.task


@task
def nap(seconds: float, name: str = "") -> str:
    """Sleep without a pause, as a blocking call does."""
    time.sleep(seconds)
    record(f"nap-done {name}")
    return str(current_task.request.id)


@task
def crawl(seconds: float, name: str = "") -> str:
    """Sleep in short pieces; say how the soft limit was met."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        record(f"soft {name}")
        return "soft"
    record(f"crawl-done {name}")
    return "done"


@task
def echo(value: Any) -> Any:
    """Answer with what was given."""
    return value


@task
def leave(how: str) -> None:
    """Ask for the end of the process."""
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "other": BaseException("odd")}[how]


@task
def note(request: Any, error: Any, trace: Any, name: str = "") -> None:
    """What is linked to the error of another."""
    record(f"errback {name} {type(error).__name__}")


@shared_task
def shared(value: int) -> int:
    """A task that belongs to no app in particular."""
    return value + 1
