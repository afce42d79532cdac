"""Waiting for a condition, never for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def wait_until(
    description: str, condition: Callable[[], Awaitable[T]], *, seconds: float = 15, every: float = 0.02
) -> T:
    """Ask until the answer is true, and return it. Raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for: {description}; last answer: {answer!r}")
        await asyncio.sleep(every)


def wait_until_sync(
    description: str, condition: Callable[[], T], *, seconds: float = 15, every: float = 0.02
) -> T:
    """As `wait_until`, blocking."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for: {description}; last answer: {answer!r}")
        time.sleep(every)
