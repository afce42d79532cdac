"""Stops a coroutine between two of its awaits, as SIGKILL would: nothing of it runs any more, no `finally`, no reply."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

import redis.asyncio

KEPT: list[Any] = []  # what was stopped must not be collected: that would run its cleaning up


@types.coroutine
def _drive(inner: Coroutine[Any, Any, Any], awaits: int) -> Generator[Any, Any, bool]:
    value, error = None, None
    for _ in range(awaits):
        try:
            waited = inner.throw(error) if error is not None else inner.send(value)
        except StopIteration:
            return True
        try:
            value, error = (yield waited), None
        except BaseException as raised:
            value, error = None, raised
    return False


async def run_up_to(inner: Coroutine[Any, Any, Any], awaits: int, seconds: float = 5) -> bool:
    """Run a coroutine until it waits for the `awaits`th time, and leave it there for ever; or for `seconds`.

    Answers whether it came to its end before. What it had sent is on its way: a script whose reply nobody reads
    any more is carried out.
    """
    driven = asyncio.ensure_future(_as_coroutine(inner, awaits))
    KEPT.append(inner)
    done, _ = await asyncio.wait({driven}, timeout=seconds)
    if not done:  # it waits for something that does not come: leave it there
        KEPT.append(driven)
        raise TimeoutError(f"await number {awaits} was not reached within {seconds} s")
    return driven.result()


async def _as_coroutine(inner: Coroutine[Any, Any, Any], awaits: int) -> bool:
    return await _drive(inner, awaits)


async def cut(*clients: redis.asyncio.Redis) -> None:
    """End a stopped process's connections, as the kernel does."""
    for client in clients:
        pool = client.connection_pool
        for connection in [*getattr(pool, "_connections", ()), *getattr(pool, "_in_use_connections", ())]:
            if connection is not None and connection._writer is not None:
                connection._writer.transport.abort()
