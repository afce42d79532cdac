"""What the product takes from the machine, taken from the seed instead: ids, jitter, clocks, process numbers."""

from __future__ import annotations

import asyncio
import datetime as real
import logging
import os
import random
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

import structlog
from detangle._context import current_host
from detangle._timepatch import TimePatch

from tests.simulation import blocking

WITH_CLOCK = ("streammesh.clock", "streammesh.events.envelope", "streammesh.events.encoded")
skew: dict[str, float] = {}  # host -> seconds by which its clock is wrong


class SimulatedDatetime(real.datetime):
    """`datetime` whose `now` is virtual time, wrong by the host's skew."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return virtual time on the host that asks."""
        return real.datetime.fromtimestamp(time.time() + skew.get(current_host.get() or "", 0.0), tz)


def _pid() -> int:
    """Return a process number of the simulated host; a restarted host has another name, so another number."""
    return 1000 + sum((current_host.get() or "").encode())


def _urandom(size: int) -> bytes:
    return random.randbytes(size)  # detangle seeds `random` from the schedule


def _uuid4() -> uuid.UUID:
    return uuid.UUID(int=random.getrandbits(128), version=4)


async def _in_place(function: Any, *args: Any) -> Any:
    """Stand in for `asyncio.to_thread`: there are no threads."""
    return function(*args)


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks have the same order at every replay, whatever their addresses."""

    _count = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        NumberedTask._count += 1
        self._number = NumberedTask._count
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        """Return the number."""
        return self._number


_enter_time, _leave_time = TimePatch.enter, TimePatch.exit


@contextmanager
def virtual_time() -> Iterator[None]:
    """Within: time is virtual from the first step of a schedule on, and not only within each; that is set up once."""
    entered: list[TimePatch] = []

    def enter(patch: TimePatch) -> None:
        if not entered or entered[-1] is not patch:
            while entered:
                _leave_time(entered.pop())
            _enter_time(patch)
            entered.append(patch)

    with patch.object(TimePatch, "enter", enter), patch.object(TimePatch, "exit", lambda _: None):
        try:
            yield
        finally:
            while entered:
                _leave_time(entered.pop())


broke: list[str] = []  # what the product logged as an error that it did not expect


def _listen(_: Any, __: str, event: dict[str, Any]) -> Any:
    """Keep what says that something broke; nothing is printed."""
    if str(event.get("event", "")).endswith((".broke", ".failed")) and event.get("exc_info"):
        error = sys.exc_info()[1]
        at = traceback.extract_tb(error.__traceback__)[-1] if error else None
        where = f"{at.filename.rpartition('/')[2]}:{at.lineno}" if at else ""
        broke.append(f"{event['event']} {event.get('role', '')}: {type(error).__name__}: {error} ({where})")
    raise structlog.DropEvent


@contextmanager
def seeded() -> Iterator[None]:
    """Within: every source of randomness or time that the product asks follows the schedule."""
    skew.clear()
    broke.clear()
    NumberedTask._count = 0
    asyncio.get_running_loop().set_task_factory(
        lambda loop, coro, **options: NumberedTask(coro, loop=loop, **options)
    )
    patches: list[Any] = [
        patch.object(os, "urandom", _urandom),
        patch.object(os, "getpid", _pid),
        patch.object(uuid, "uuid4", _uuid4),
        patch.object(time, "sleep", blocking.sleep),
        patch.object(asyncio, "to_thread", _in_place),
        patch("redis.utils.get_lib_version", lambda: "8"),  # it reads a file, for each connection
        patch("services.dispatcher.__main__.tell_health"),  # it answers from a thread, over real sockets
    ]
    for name in WITH_CLOCK:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "datetime"):
            patches.append(patch.object(module, "datetime", SimulatedDatetime))
    configured = structlog.get_config()
    structlog.configure(
        processors=[cast("Any", _listen)], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    for one in patches:
        one.start()
    try:
        yield
    finally:
        structlog.configure(**configured)
        for one in reversed(patches):
            one.stop()
