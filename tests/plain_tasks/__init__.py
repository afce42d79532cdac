"""Plain Celery tasks on the stream transport, for workers that tests start: `celery -A tests.plain_tasks.worker_app worker`."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from types import SimpleNamespace

from celery import Celery
from streammesh.transport.transport import broker_url, install

from tests.probe.record import record

LEASE_OPTIONS = {"max_deliveries": 3}


def make_app(redis_url: str, namespace: str, lease: float, prefetch: int = 1) -> Celery:
    """A Celery app with the tasks below, on a mesh of the test's own."""
    install()
    app = Celery("plain", set_as_current=False, amqp="streammesh.worker.reconnection:SteadyAMQP")
    app.conf.update(
        broker_url=broker_url(redis_url),
        result_backend=redis_url,
        broker_transport_options={"namespace": namespace, "lease_seconds": lease, **LEASE_OPTIONS},
        result_backend_transport_options={"global_keyprefix": f"{{{namespace}}}:result:"},
        broker_connection_retry_on_startup=True,
        task_default_queue="plain",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=prefetch,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    for function in (add, total, mark, nap, hog, kill_worker, die, note):
        app.task(name=f"plain.{function.__name__}", shared=False)(function)
    return app


def tasks_of(app: Celery) -> SimpleNamespace:
    """The app's tasks by their short names."""
    return SimpleNamespace(
        **{name.removeprefix("plain."): app.tasks[name] for name in app.tasks if name.startswith("plain.")}
    )


def add(a: float, b: float) -> float:
    """Add."""
    return a + b


def total(numbers: list[float]) -> float:
    """Add them all."""
    return sum(numbers)


def mark(name: str) -> None:
    """Leave a line."""
    record(f"mark {name}")


def nap(name: str, seconds: float) -> None:
    """Sleep, and say when it began and ended."""
    record(f"began {name}")
    time.sleep(seconds)
    record(f"ended {name}")


def hog(name: str, seconds: float, stretch: float = 0.99) -> None:
    """Hold the interpreter's lock, in stretches, as a bad extension module would."""
    record(f"began {name}")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ctypes.PyDLL(None).usleep(int(stretch * 1_000_000))
    record(f"ended {name}")


def die(name: str = "") -> None:
    """Take the process that runs it down."""
    record(f"began {name}")
    os.kill(os.getpid(), signal.SIGKILL)


def note(request: object, error: BaseException, trace: object, name: str = "") -> None:
    """What is linked to the error of another task."""
    record(f"errback {name} {type(error).__name__}")


def kill_worker(name: str) -> None:
    """Take the whole worker down, as a fault in native code or the kernel's out-of-memory killer does."""
    record(f"began {name}")
    os.killpg(os.getpgid(0), signal.SIGKILL)
