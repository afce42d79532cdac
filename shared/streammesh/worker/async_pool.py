"""Celery pool for `async def` handlers: hundreds in flight in one process, on one event loop.

Used with Celery's hook for custom pools. Deliveries run on the loop; whatever Celery's own tracer runs (plain tasks,
parts of workflows) has threads; see `task_threads.py`. A hard limit and `revoke(terminate=True)` end both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import structlog
import uvloop
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target

from streammesh.health import Echo
from streammesh.worker.fast_request import current_task_id
from streammesh.worker.flights import Flights
from streammesh.worker.handler_threads import HandlerThreads
from streammesh.worker.process_end import end_process
from streammesh.worker.request import MeshRequest, PlainRequest
from streammesh.worker.running_handlers import EndOfWorker, cancel
from streammesh.worker.task_threads import TaskThreads, ThreadJob

log = structlog.get_logger(__name__)

STOP_SECONDS = 5
STRAY_SECONDS = 30.0  # for which every place may be taken by a handler that was stopped and goes on
LOOK_SECONDS = 5.0


class TaskPool(BasePool):
    """The pool. Its loop runs in a thread of its own beside Celery's consumer.

    Deliveries are its `flights`, however they were accepted; see `fast_request.py`.
    """

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        MeshRequest.shares_memory = PlainRequest.shares_memory = True
        self.loop = uvloop.new_event_loop()
        self.loop.set_task_factory(self._new_task)
        self._running: set[asyncio.Task[Any]] = set()
        self._started_by: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.handlers: HandlerThreads = self.app.plumbing.threads if self.app.plumbing else HandlerThreads()
        self.flights = Flights(self.loop, self._running, int(self.limit), self.handlers)
        self.threads = TaskThreads(int(self.limit))
        self._ending = False
        self._echo = Echo(self.loop)
        self._full_since = 0.0
        self._thread = threading.Thread(target=self._run_loop, name="async-pool", daemon=True)
        self._thread.start()
        self.loop.call_soon_threadsafe(self._look_at_strays)

    def _look_at_strays(self) -> None:
        """End the process when nothing but handlers that were to end has been running in it for a while.

        Threads cannot be killed, as the children of a prefork pool are; whoever watches over the process starts it anew.
        """
        strays = self.handlers.strays
        if strays < int(self.limit):
            self._full_since = 0.0
        elif not self._full_since:
            self._full_since = self.loop.time()
        elif self.loop.time() - self._full_since > STRAY_SECONDS:
            end_process(f"each of its {strays} places is taken by a handler that was stopped and goes on")
        self.loop.call_later(LOOK_SECONDS, self._look_at_strays)

    def _new_task(self, loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """A task that a handler starts, which is remembered with it."""
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        owner = current_task_id()
        if owner is not None:
            self._started_by[task] = owner
        return task

    def _run_loop(self) -> None:
        """Run the loop until the pool ends. SystemExit and the like of what a handler started fail its attempt only."""
        asyncio.set_event_loop(self.loop)
        while not self._ending and not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except BaseException as error:
                self._went_astray(error)
            else:
                if not self._ending:
                    log.error("pool.loop_stopped", reason="a handler stopped the event loop; it goes on")
        if not self._ending:
            end_process("the event loop of the async pool ended")

    def _went_astray(self, error: BaseException) -> None:
        """asyncio lets SystemExit and KeyboardInterrupt of any task or callback end its loop; several may come at once."""
        log.error("pool.end_of_worker_refused", error=repr(error), exc_info=error)
        for task, owner in list(self._started_by.items()):
            if not task.done() or task.cancelled():
                continue
            raised = task.exception()
            if raised is None or isinstance(raised, Exception):
                continue
            del self._started_by[task]
            told = EndOfWorker(f"what the handler had started raised what would end the worker: {raised!r}")
            told.__cause__ = raised
            self.app.plumbing.running.fail(owner, told)

    def dead_for(self, seconds: float) -> str | None:
        """Return what to say when its loop's thread has ended, or the loop did not turn for so long."""
        if self._ending:
            return None
        if not self._thread.is_alive():
            return "the thread of its event loop has ended"
        return self._echo.silent_for(seconds)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        error_callback: Any = None,
        timeout_callback: Any = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> ThreadJob:
        job = ThreadJob(args[0])  # of Celery's tracer: the task's name

        def told(answer: Any) -> None:
            if job.terminated:
                return
            if isinstance(answer, ExceptionInfo):  # SystemExit and the like
                error_callback(answer)
            else:
                callback(answer)

        def accepted(pid: int, at: float) -> None:
            accept_callback(pid, at)
            job.limit(soft_timeout, timeout, timeout_callback)

        self.threads.start(job, partial(apply_target, target, args, kwargs, told, accepted))
        return job

    def on_stop(self) -> None:
        self.flights.hand_over()
        self.threads.drop_waiting()

        async def drained() -> None:
            self.flights.close()
            while self._running:
                await asyncio.wait(set(self._running))
            if self.app.plumbing:
                await self.app.plumbing.resources.close()

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(drained(), self.loop).result()
        self.threads.wait_until_done()
        self._end_loop()

    def on_terminate(self) -> None:
        for task in list(self._running):
            self.loop.call_soon_threadsafe(cancel, task)
        self.threads.terminate()
        self._end_loop()

    def _end_loop(self) -> None:
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_SECONDS)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Celery asks the pool by process id, which all our tasks share; the request's own job is asked instead."""

    @property
    def num_processes(self) -> int:
        return int(self.limit)

    @property
    def info(self) -> dict[str, Any]:
        """What `celery inspect stats` shows of the pool."""
        info: dict[str, Any] = super().info
        in_flight = len(self._running) + self.threads.count()
        return {
            **info,
            "max-concurrency": self.limit,
            "in-flight": in_flight,
            "waiting": self.flights.waiting(),
        }
