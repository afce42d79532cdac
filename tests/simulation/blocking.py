"""Blocking code on the simulated loop: it runs in a greenlet, and waits where it asks Redis or sleeps.

So what is written for blocking connections (Beat's ticker, the forwarder, admission and parking of queue entries, the
ends of workflows) is simulated unchanged.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Self

import redis.asyncio
from greenlet import getcurrent, greenlet
from redis.commands import CoreCommands


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Return what comes of it. Only within `on_this_loop`."""
    parent = getcurrent().parent
    assert parent is not None, "blocking code runs outside on_this_loop"
    return parent.switch(awaitable)


def sleep(seconds: float) -> None:
    """Stand in for `time.sleep`."""
    wait_for(asyncio.sleep(seconds))


class BlockingClient(CoreCommands):  # type: ignore[misc]
    """What blocking code needs of a `redis.Redis`, answered by an asyncio client of the same loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Return the answer."""
        return wait_for(self._client.execute_command(*command, **options))

    def pipeline(self, transaction: bool = True) -> BlockingPipeline:
        """Return a pipeline of such a client."""
        return BlockingPipeline(self._client.pipeline(transaction=transaction))

    def close(self) -> None:
        """The asyncio client is closed with its process."""


class BlockingPipeline(CoreCommands):  # type: ignore[misc]
    """Collects commands, and waits for all answers together."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def execute_command(self, *command: Any, **options: Any) -> Self:
        """Add a command."""
        self._pipeline.execute_command(*command, **options)
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return the answers."""
        answers: list[Any] = wait_for(self._pipeline.execute(raise_on_error))
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


async def on_this_loop(function: Callable[..., Any], *args: Any) -> Any:
    """Run blocking code to its end, awaiting on its behalf whatever it asks."""
    child = greenlet(function)
    child.gr_context = contextvars.copy_context()  # a greenlet begins with none, and so on no host
    asked = child.switch(*args)
    while not child.dead:
        try:
            answer = await asked
        except BaseException as error:
            asked = child.throw(error)
        else:
            asked = child.switch(answer)
    return asked
