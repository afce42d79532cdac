"""Lets synchronous code that runs in a greenlet wait for coroutines on the event loop around it.

Celery's tracer is synchronous; inside a greenlet it runs unchanged, and `wait_for` hands the futures
that a coroutine waits for up to the loop (the technique of SQLAlchemy's asyncio support). The
coroutine's own code runs in the greenlet, so Celery's `current_task` stays right.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import greenlet

T = TypeVar("T")


class _TaskGreenlet(greenlet.greenlet):
    """A greenlet whose parent is a coroutine that `run_in_greenlet` drives."""


class _Pass:
    """Awaits one future on behalf of the greenlet."""

    __slots__ = ("_future",)

    def __init__(self, future: Any) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._future)


def in_greenlet() -> bool:
    """Whether the caller runs inside a pool greenlet, so that `wait_for` may be used."""
    return isinstance(greenlet.getcurrent(), _TaskGreenlet)


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code inside a pool greenlet; other greenlets go on meanwhile."""
    parent = greenlet.getcurrent().parent
    step = coroutine.__await__()
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            future = step.send(value) if error is None else step.throw(error)
        except StopIteration as stop:
            return stop.value
        value = error = None
        try:
            value = parent.switch(future)
        except BaseException as raised:  # the loop's answer, cancellation included, belongs to the coroutine
            error = raised


async def run_in_greenlet(function: Callable[[], T]) -> T:
    """Run a synchronous function in a greenlet of its own, giving it the event loop through `wait_for`."""
    child = _TaskGreenlet(function)
    child.gr_context = contextvars.copy_context()
    out = child.switch()
    while not child.dead:
        try:
            answer = await _Pass(out)
        except BaseException as error:
            out = child.throw(error)
        else:
            out = child.switch(answer)
    return out
