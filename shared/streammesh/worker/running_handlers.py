"""Deliveries in flight on a pool's loop, and how they are stopped: at their next `await`.

A handler may cancel its own asyncio task, and what it started may do so too. Such a wish ends the attempt with a
reason; only what `cancel` was asked for ends it without one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any
from weakref import WeakSet

import structlog

from streammesh.errors import Stopped

log = structlog.get_logger(__name__)
_cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()  # those that the worker itself has cancelled


class EndOfWorker(Exception):
    """The handler, or what it had started, raised what would end the worker: SystemExit, say."""


class CancelledItself(Exception):
    """The handler cancelled the asyncio task that it runs in."""


def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel an asyncio task on behalf of the worker; to be called on its loop."""
    _cancelled.add(task)
    task.cancel()


def was_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Whether the worker itself cancelled the task."""
    return task in _cancelled


class RunningHandlers:
    """The async handlers that run now, by task id. `stop` and `fail` may be called from any thread."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stopped: dict[str, Exception] = {}

    def handler(self, task_id: str) -> _Handler:
        """A context in which the current asyncio task can be stopped; raises Stopped, or what `fail` says, when it was."""
        return _Handler(self._tasks, self._stopped, task_id)

    def stop(self, task_id: str) -> bool:
        """Cancel a handler; answers whether it runs here. One that goes on all the same can be asked again."""
        return self.fail(task_id, Stopped())

    def fail(self, task_id: str, error: Exception) -> bool:
        """As `stop`; the attempt fails with `error`."""
        task = self._tasks.get(task_id)
        if task is None:
            return False
        task.get_loop().call_soon_threadsafe(self._cancel, task_id, task, error)
        return True

    def _cancel(self, task_id: str, task: asyncio.Task[Any], error: Exception) -> None:
        if self._tasks.get(task_id) is task:  # it may have ended on the way here
            self._stopped.setdefault(task_id, error)
            cancel(task)


class _Handler:
    __slots__ = ("_stopped", "_task_id", "_tasks")

    def __init__(
        self, tasks: dict[str, asyncio.Task[Any]], stopped: dict[str, Exception], task_id: str
    ) -> None:
        self._tasks, self._stopped, self._task_id = tasks, stopped, task_id

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[self._task_id] = task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._tasks.pop(self._task_id)
        if self._task_id not in self._stopped:
            return  # whatever is raised is the handler's, a time limit's, or the end of the worker
        reason = self._stopped.pop(self._task_id)
        _cancelled.discard(task)
        if kind is asyncio.CancelledError:
            task.uncancel()
            raise reason from (None if isinstance(reason, Stopped) else reason.__cause__)


class Job:
    """One delivery in flight, as Celery's request holds on to it: made in Celery's thread, run on the loop."""

    __slots__ = ("__weakref__", "task", "terminated")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.terminated = False  # Celery's request has ended already, and awaits no answer

    def run(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, None],
        over: Callable[[asyncio.Task[Any]], None],
    ) -> asyncio.Task[Any]:
        """Begin, on the loop; `over` is called when it has ended."""
        task = self.task = asyncio.Task(
            coroutine, loop=loop
        )  # past the loop's task factory, which it needs not
        task.add_done_callback(over)
        return task

    def terminate(self, signal: Any = None) -> None:
        """Cancel it, from any thread."""
        task, self.terminated = self.task, True
        if task is not None:
            task.get_loop().call_soon_threadsafe(cancel, task)

    def limit(self, seconds: float, tell: Callable[[bool, float], Any] | None) -> None:
        """Cancel it when it is still at work after so long, and then tell Celery; to be called on the loop."""
        task = self.task
        assert task is not None
        alarm = task.get_loop().call_later(seconds, self._too_long, task, seconds, tell)
        task.add_done_callback(lambda _: alarm.cancel())

    def _too_long(self, task: asyncio.Task[Any], seconds: float, tell: Any) -> None:
        """Cancel first, so that the handler can do nothing more, then tell Celery (which blocks for a moment)."""
        if task.done():
            return
        self.terminated = True
        cancel(task)
        if tell:
            threading.Thread(target=_tell, args=(tell, seconds), name="hard-limit", daemon=True).start()

    def get(self, *_: Any) -> None:
        """Celery's pools answer results here; ours go to the ledger."""


def _tell(tell: Callable[[bool, float], Any], seconds: float) -> None:
    try:
        tell(False, seconds)
    except Exception:
        log.exception("pool.callback_broke")
