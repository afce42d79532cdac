"""Celery pool for `async def` handlers: hundreds in flight in one process, on one event loop.

Used with Celery's hook for custom pools. For plain tasks Celery's own tracer (signals, retries, acknowledgement)
runs unchanged, each task in a greenlet. A task's hard limit and `revoke(terminate=True)` cancel it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import uvloop
from celery.concurrency.base import BasePool, apply_target
from greenlet import GreenletExit

from streammesh.health import Echo
from streammesh.worker.async_job import Job
from streammesh.worker.flights import Flights
from streammesh.worker.greenlets import run_in_greenlet
from streammesh.worker.request import MeshRequest

log = structlog.get_logger(__name__)

DEFAULT_CONCURRENCY = 200
STOP_SECONDS = 5


async def _in_greenlet(run: Callable[[], Any]) -> None:
    try:
        await run_in_greenlet(run)
    except GreenletExit:
        pass
    except Exception:
        log.exception("pool.task_broke")


class TaskPool(BasePool):
    """The pool. Its loop runs in a thread of its own beside Celery's consumer.

    Deliveries come as `flights`, where nothing asks for more; see `shortcut.py`.
    """

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        MeshRequest.shares_memory = True
        self.loop = uvloop.new_event_loop()
        self._running: set[asyncio.Task[Any]] = set()
        self.flights = Flights(self.loop, self._running)
        self._coming: deque[tuple[Job, Callable[[], Any], float | None, Any]] = deque()
        self._called = self._stopped = False
        self._echo = Echo(self.loop)
        self._thread = threading.Thread(target=self._run_loop, name="async-pool", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def dead_for(self, seconds: float) -> str | None:
        """Return what to say when its loop's thread has ended, or the loop did not turn for so long."""
        if not self._thread.is_alive():
            return None if self._stopped else "the thread of its event loop has ended"
        return None if self._stopped else self._echo.silent_for(seconds)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        timeout_callback: Any = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        job = Job()

        def told(answer: Any) -> None:
            if not job.terminated:
                callback(answer)

        run = partial(apply_target, target, args, kwargs, told, accept_callback)
        self._coming.append((job, run, timeout, timeout_callback))
        if not self._called:  # one wake-up of the loop serves all that come before it looks
            self._called = True
            self.loop.call_soon_threadsafe(self._start_all)
        return job

    def _start_all(self) -> None:
        self._called = False
        while self._coming:
            job, run, timeout, timeout_callback = self._coming.popleft()
            job.run(self.loop, _in_greenlet(run), self._running)
            if timeout:
                job.limit(timeout, timeout_callback)

    def on_stop(self) -> None:
        self.flights.hand_over()

        async def drained() -> None:
            while self._running:
                await asyncio.wait(set(self._running))

        asyncio.run_coroutine_threadsafe(drained(), self.loop).result()
        self._end_loop()

    def on_terminate(self) -> None:
        for task in list(self._running):
            self.loop.call_soon_threadsafe(task.cancel)
        self._end_loop()

    def _end_loop(self) -> None:
        self._stopped = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_SECONDS)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Celery asks the pool by process id, which all our tasks share; the request's own job is asked instead."""

    @property
    def num_processes(self) -> int:
        return int(self.limit)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return {**info, "max-concurrency": self.limit, "in-flight": len(self._running)}
