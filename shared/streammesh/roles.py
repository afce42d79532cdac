"""Runs a service's asyncio roles until SIGTERM or SIGINT, on uvloop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog
import uvloop

from streammesh.redisio.client import is_unavailable
from streammesh.redisio.retry import waits

log = structlog.get_logger(__name__)
CANCEL_AGAIN = 0.5  # seconds
NEW_OBJECTS = 10_000  # between looks at the youngest; Python's 700 is a look every few tasks


def keep_what_is_loaded() -> None:
    """To be called when a process has loaded what it works with: the garbage collector leaves that alone from now on.

    It lives as long as the process, so looking through it is for nothing. What is forked from here shares its pages.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main`, giving it the event that is set when the process is asked to stop."""

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        keep_what_is_loaded()
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def end(roles: Iterable[asyncio.Task[None]]) -> None:
    """Cancel roles until each has ended: in Python 3.11 `wait_for` loses a cancellation that comes as it is done."""
    left = {role for role in roles if not role.done()}
    while left:
        for role in left:
            role.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)


async def woken(bell: asyncio.Event, seconds: float) -> None:
    """Return when `bell` is set, and after so many seconds all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


async def keep_on(name: str, role: Callable[[], Awaitable[None]]) -> None:
    """Run a role for ever: when Redis is away, or anything unexpected happens, log it and begin anew.

    The waits between grow to one second, so everything consumes again soon after Redis is back.
    """
    pauses = waits()
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await role()
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if is_unavailable(error):
                log.warning("redis.away", role=name, reason=str(error))
            else:
                log.exception("role.broke", role=name)
        if loop.time() - began > 10:
            pauses = waits()
        await asyncio.sleep(next(pauses))
