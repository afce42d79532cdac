"""Stops async handlers that run in this process, at their next `await`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from streammesh.errors import Stopped


class Running:
    """The async handlers that run now, by task id. `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stopped: set[str] = set()

    def handler(self, task_id: str) -> _Handler:
        """A context in which the current asyncio task can be stopped; raises Stopped when it was."""
        return _Handler(self._tasks, self._stopped, task_id)

    def stop(self, task_id: str) -> bool:
        """Cancel a handler; answers whether it runs here. One that goes on all the same can be asked again."""
        task = self._tasks.get(task_id)
        if task is None:
            return False
        task.get_loop().call_soon_threadsafe(self._cancel, task_id, task)
        return True

    def _cancel(self, task_id: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(task_id) is task:  # it may have ended on the way here
            self._stopped.add(task_id)
            task.cancel()


class _Handler:
    __slots__ = ("_stopped", "_task_id", "_tasks")

    def __init__(self, tasks: dict[str, asyncio.Task[Any]], stopped: set[str], task_id: str) -> None:
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
        self._stopped.discard(self._task_id)
        if kind is asyncio.CancelledError:
            task.uncancel()
            raise Stopped from None
