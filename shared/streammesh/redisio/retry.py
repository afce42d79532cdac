"""What is asked of Redis however long it is away: one way to wait, for threads and for event loops.

Every ledger call may be repeated: a script that ran and whose reply was lost answers the same again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog

from streammesh import lua
from streammesh.lua import BlockingClient, Call
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.pipeline import Multiplexed

T = TypeVar("T")
Away = Callable[
    [Exception], None
]  # is told of each time that Redis was away, and may raise what ends the waiting
log = structlog.get_logger(__name__)
LOOP_GONE_SECONDS = 60.0  # a thread that asked a loop which has ended meanwhile waits no longer


def waits() -> Iterator[float]:
    """Yield the seconds between two tries: at once, then growing to one second, for ever."""
    yield from (0.05, 0.1, 0.2, 0.5)
    while True:
        yield 1.0


def until_back(what: str, ask: Callable[[], T], away: Away | None = None) -> T:
    """Ask Redis something on a blocking client, however long it is away; raises only what trying again cannot mend."""
    pauses: Iterator[float] | None = None
    while True:
        try:
            return ask()
        except Exception as error:
            _is_away(what, error, away)
        pauses = pauses or waits()
        time.sleep(next(pauses))


async def until_back_async(what: str, ask: Callable[[], Awaitable[T]], away: Away | None = None) -> T:
    """As `until_back`, on an event loop."""
    pauses: Iterator[float] | None = None
    while True:
        try:
            return await ask()
        except Exception as error:
            _is_away(what, error, away)
        pauses = pauses or waits()
        await asyncio.sleep(next(pauses))


def _is_away(what: str, error: Exception, away: Away | None = None) -> None:
    """Log that Redis is away; raise what is something else."""
    if not is_unavailable(error):
        raise error
    log.warning("redis.away", asked=what, reason=str(error))
    if away is not None:
        away(error)


def insist_sync(client: BlockingClient, call: Call[T]) -> T:
    """Make the call on a blocking client; raises only what trying again cannot mend."""
    return until_back(call.script.name, lambda: lua.run_sync(client, call))


async def insist(calls: Multiplexed, call: Call[T]) -> T:
    """As `insist_sync`, on an event loop's shared connection."""
    try:  # nearly always that is all, and every task makes two calls
        return await calls.run(call)
    except Exception as error:
        _is_away(call.script.name, error)
    await asyncio.sleep(next(waits()))
    return await until_back_async(call.script.name, lambda: calls.run(call))


def mention_sync(client: BlockingClient, unheard: T, call: Call[T]) -> T:
    """Make a call that need not get through, such as progress: a handler does not fail because Redis is away.

    Returns `unheard` then.
    """
    try:
        return lua.run_sync(client, call)
    except Exception as error:
        _is_away(call.script.name, error)
        return unheard


async def mention(calls: Multiplexed, unheard: T, call: Call[T]) -> T:
    """As `mention_sync`, on an event loop's shared connection."""
    try:
        return await calls.run(call)
    except Exception as error:
        _is_away(call.script.name, error)
        return unheard


def mention_from_thread(loop: asyncio.AbstractEventLoop, calls: Multiplexed, unheard: T, call: Call[T]) -> T:
    """As `mention_sync`, from a thread beside the event loop that `calls` belongs to."""
    return asyncio.run_coroutine_threadsafe(mention(calls, unheard, call), loop).result(LOOP_GONE_SECONDS)
