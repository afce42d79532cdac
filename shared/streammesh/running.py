"""Runs a service's asyncio roles until SIGTERM or SIGINT, on uvloop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from streammesh.redis_client import is_unavailable

log = structlog.get_logger(__name__)


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main`, giving it the event that is set when the process is asked to stop."""

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def keep_on(name: str, role: Callable[[], Awaitable[None]]) -> None:
    """Run a role for ever: when Redis is away, or anything unexpected happens, log it and begin anew.

    Waits grow from 0.1 to 1 second, so everything consumes again soon after Redis is back.
    """
    wait = 0.1
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
            wait = 0.1
        await asyncio.sleep(wait)
        wait = min(1.0, wait * 2)
