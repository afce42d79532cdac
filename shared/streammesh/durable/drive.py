"""What carries out the operations of a run: on an event loop for `async def` handlers, in a thread for `def` ones."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple

from streammesh.errors import Fail
from streammesh.lua import Call


class MakeCall(NamedTuple):
    """Make this call, however long Redis is away, and send its answer."""

    call: Call[Any]


class CallFunction(NamedTuple):
    """Call the step's function and send what it returns, or throw what it raises."""

    function: Callable[[], Any]


class WaitSeconds(NamedTuple):
    """Go on after so many seconds."""

    seconds: float


Operation = Generator[MakeCall | CallFunction | WaitSeconds, Any, Any]


def sync_driver(ask: Callable[[Call[Any]], Any]) -> Callable[[Operation], Any]:
    """Carries operations out in a `def` handler: each returns its result."""

    def drive(operation: Operation) -> Any:
        forward: Callable[[Any], Any] = operation.send
        answer: Any = None
        while True:
            try:
                wanted = forward(answer)
            except StopIteration as stop:
                return stop.value
            try:
                answer, forward = _do_sync(wanted, ask), operation.send
            except Exception as error:
                answer, forward = error, operation.throw

    return drive


def _do_sync(wanted: MakeCall | CallFunction | WaitSeconds, ask: Callable[[Call[Any]], Any]) -> Any:
    if isinstance(wanted, MakeCall):
        return ask(wanted.call)
    if isinstance(wanted, WaitSeconds):
        return time.sleep(wanted.seconds)
    value = wanted.function()
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise Fail("a step of a `def` handler is a `def` function; make the handler `async def`")
    return value


def async_driver(ask: Callable[[Call[Any]], Awaitable[Any]]) -> Callable[[Operation], Any]:
    """Carries operations out in an `async def` handler: each is awaited."""

    async def drive(operation: Operation) -> Any:
        forward: Callable[[Any], Any] = operation.send
        answer: Any = None
        while True:
            try:
                wanted = forward(answer)
            except StopIteration as stop:
                return stop.value
            try:
                answer, forward = await _do_async(wanted, ask), operation.send
            except Exception as error:
                answer, forward = error, operation.throw

    return drive


async def _do_async(
    wanted: MakeCall | CallFunction | WaitSeconds, ask: Callable[[Call[Any]], Awaitable[Any]]
) -> Any:
    if isinstance(wanted, MakeCall):
        return await ask(wanted.call)
    if isinstance(wanted, WaitSeconds):
        return await asyncio.sleep(wanted.seconds)
    function = getattr(wanted.function, "func", wanted.function)
    if inspect.iscoroutinefunction(function):
        return await wanted.function()
    value = await asyncio.to_thread(wanted.function)  # it may block, and this loop has others to run
    return await value if inspect.isawaitable(value) else value
