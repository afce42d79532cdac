"""Threads for `def` handlers among async ones: one for each that is at work, and none that the process waits for.

Python's own (`asyncio.to_thread`) are few: handlers would wait for one while their time limits run, the more so as a
thread whose handler overran cannot be stopped. And an interpreter does not end before those have.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

Work = tuple[Callable[[], Any], "Future[Any]"]


class HandlerThreads:
    """Makes threads as they are needed and keeps them for what comes."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Work]] = []  # where each idle thread waits for its work

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `asyncio.to_thread`, begun at once. Cancelled, it is waited for no longer and goes on all the same."""
        future: Future[Any] = Future()
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="handler", daemon=True).start()
        inbox.put((partial(copy_context().run, function, *args, **kwargs), future))
        return await asyncio.wrap_future(future)

    def _work(self, inbox: SimpleQueue[Work]) -> None:
        while True:
            _do(*inbox.get())
            self._idle.append(inbox)


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except StopIteration as error:  # asyncio cannot hand it on, and would wait for ever
        told = RuntimeError("the handler raised StopIteration")
        told.__cause__ = error
        future.set_exception(told)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
