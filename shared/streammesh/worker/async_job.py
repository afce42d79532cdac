"""One delivery in flight on the async pool's loop, as Celery's request holds on to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from streammesh.worker.running_handlers import cancel

log = structlog.get_logger(__name__)


class Job:
    """Made in Celery's thread, run on the loop."""

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
