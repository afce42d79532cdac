"""Celery pool for `async def` handlers: hundreds in flight in one process, on one event loop.

Used with Celery's hook for custom pools. Celery's own tracer (signals, retries, acknowledgement)
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

from streammesh.engine.greenlet_bridge import run_in_greenlet
from streammesh.engine.request import MeshRequest

log = structlog.get_logger(__name__)

DEFAULT_CONCURRENCY = 200
STOP_SECONDS = 5


class _Job:
    """One task in flight, as Celery's request holds on to it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.over = self.terminated = False

    def terminate(self, signal: Any = None) -> None:
        """Cancel it, from any thread."""
        task, self.terminated = self.task, True
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)

    def get(self, *_: Any) -> None:
        """Celery's pools answer results here; ours go to the ledger."""


def _log_error(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception():
        log.error("pool.callback_broke", exc_info=future.exception())


class TaskPool(BasePool):
    """The pool. Its loop runs in a thread of its own beside Celery's consumer."""

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        MeshRequest.shares_memory = True
        self.loop = uvloop.new_event_loop()
        self._running: set[asyncio.Task[Any]] = set()
        self._coming: deque[tuple[_Job, Callable[[], Any], float | None, Any]] = deque()
        self._called = False
        self._thread = threading.Thread(target=self._run_loop, name="async-pool", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

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
    ) -> _Job:
        job = _Job()

        def told(answer: Any) -> None:
            if not job.terminated:  # else Celery's request has ended already, and awaits no answer
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
            self._start(*self._coming.popleft())

    def _start(self, job: _Job, run: Callable[[], Any], timeout: float | None, timeout_callback: Any) -> None:
        task = job.task = self.loop.create_task(self._run(run))
        self._running.add(task)
        alarm = (
            self.loop.call_later(timeout, self._hard_limit, job, timeout, timeout_callback)
            if timeout
            else None
        )

        def done(finished: asyncio.Task[Any]) -> None:
            job.over = True
            self._running.discard(finished)
            if alarm:
                alarm.cancel()
            if not finished.cancelled() and finished.exception():
                log.error("pool.task_broke", exc_info=finished.exception())

        task.add_done_callback(done)

    async def _run(self, run: Callable[[], Any]) -> None:
        try:
            await run_in_greenlet(run)
        except GreenletExit:
            pass

    def _hard_limit(self, job: _Job, timeout: float, timeout_callback: Any) -> None:
        """Cancel first, so that the handler can do nothing more, then tell Celery (which blocks for a moment)."""
        if job.task is None or job.over:
            return
        job.terminated = True
        job.task.cancel()
        if timeout_callback:
            telling: Any = self.loop.run_in_executor(None, timeout_callback, False, timeout)
            telling.add_done_callback(_log_error)

    def on_stop(self) -> None:
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
