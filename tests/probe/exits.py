"""Handlers that take every way out of their coroutine that Python has, and whose helpers do."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from tests.probe.service import service


async def _exit(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def _gather() -> None:
    await asyncio.gather(_exit(SystemExit(3)), asyncio.sleep(30))


async def _gather_interrupt() -> None:
    await asyncio.gather(_exit(KeyboardInterrupt()), asyncio.sleep(30))


async def _loose_task() -> None:
    helper = asyncio.create_task(_exit(SystemExit(3)))
    await asyncio.sleep(30)
    await helper


async def _loose_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.2)
    raise RuntimeError("the handler went on")


async def _stop_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    raise RuntimeError("the handler went on")


async def _cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(30)


async def _cancel_itself_and_return() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def _cancelled_by_helper() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.05, task.cancel)
    await asyncio.sleep(30)


async def _generator_exit() -> None:
    raise GeneratorExit


async def _thread() -> None:
    await asyncio.to_thread(sys.exit, 3)


async def _own_thread() -> None:
    helper = threading.Thread(target=sys.exit)
    helper.start()
    helper.join()
    raise RuntimeError("the handler went on")


WAYS: dict[str, Callable[[], Awaitable[None]]] = {
    "gather": _gather,
    "interrupt": _gather_interrupt,
    "task": _loose_task,
    "callback": _loose_callback,
    "stop loop": _stop_loop,
    "cancel": _cancel_itself,
    "cancel and return": _cancel_itself_and_return,
    "cancelled by helper": _cancelled_by_helper,
    "generator": _generator_exit,
    "thread": _thread,
    "own thread": _own_thread,
}


@service.on("probe.exit", retries=1, backoff=0.05, breaker=False)
async def leave(data: dict[str, Any]) -> None:
    """Leave in the way that the event names."""
    await WAYS[data["way"]]()


@service.on("probe.exit_in_thread", retries=1, backoff=0.05, breaker=False)
def leave_in_thread(data: dict[str, Any]) -> None:
    """The same as a `def` handler among async ones."""
    raise {"exit": SystemExit(3), "generator": GeneratorExit(), "interrupt": KeyboardInterrupt()}[data["way"]]
