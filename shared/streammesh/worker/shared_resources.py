"""The resources of one process: each made when a handler first asks for it, and closed when the worker has drained.

In a pool with an event loop the asynchronous ones live on that loop, and blocking functions run in a thread; in a
prefork child all of them are made in its own thread, the asynchronous ones on the loop that it keeps. A failed attempt
to make one fails the attempt of the handler that asked for it; the next one tries again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog

from streammesh.worker.connections import Connections
from streammesh.worker.handler_threads import HandlerThreads
from streammesh.worker.resource_function import Resource

CLOSE_SECONDS = 5.0  # that all resources of a process have to close
Given = tuple[tuple[str, Any], ...]  # (parameter, type)
log = structlog.get_logger(__name__)


class SharedResources:
    """What the makers have made in this process. `makers` may still grow while the service is declared."""

    def __init__(
        self, makers: Mapping[Any, Resource], threads: HandlerThreads, connections: Callable[[], Connections]
    ) -> None:
        self._makers, self._threads, self._connections = makers, threads, connections
        self._made: dict[Any, Any] = {}
        self._opening: dict[Any, asyncio.Task[Any]] = {}
        self._stack = AsyncExitStack()
        self._lock = threading.RLock()  # of blocking handlers, of which a process may run several

    async def arguments(self, given: Given) -> dict[str, Any]:
        """Return the arguments for these parameters, on the loop that the resources live on."""
        return {name: await self._one(wanted) for name, wanted in given}

    def arguments_sync(self, given: Given) -> dict[str, Any]:
        """As `arguments`, from blocking code without a loop."""
        if all(wanted in self._made for _, wanted in given):
            return {name: self._made[wanted] for name, wanted in given}
        with self._lock:
            return self._connections().run(self._in_this_thread(given))

    async def _in_this_thread(self, given: Given) -> dict[str, Any]:
        return {name: await self._make(self._makers[wanted], in_thread=False) for name, wanted in given}

    async def _one(self, wanted: Any) -> Any:
        if wanted in self._made:
            return self._made[wanted]
        opening = self._opening.get(wanted)
        if opening is None:
            # Not the first handler's own task: its timeout ends the handler, and not what others wait for.
            opening = asyncio.create_task(self._make(self._makers[wanted], in_thread=True))
            self._opening[wanted] = opening
            opening.add_done_callback(lambda done: self._opened(wanted, done))
        return await asyncio.shield(opening)

    def _opened(self, wanted: Any, done: asyncio.Task[Any]) -> None:
        self._opening.pop(wanted, None)
        if not done.cancelled() and (error := done.exception()):
            log.error("resource.failed", resource=self._makers[wanted].name, reason=repr(error)[:500])

    async def _make(self, maker: Resource, *, in_thread: bool) -> Any:
        if maker.gives in self._made:
            return self._made[maker.gives]
        needs = {
            name: await (
                self._one(wanted) if in_thread else self._make(self._makers[wanted], in_thread=False)
            )
            for name, wanted in maker.needs
        }
        if maker.is_async:
            made = maker.make(**needs)
            value = await (anext(made) if maker.yields else made)
            if maker.yields:
                self._stack.push_async_callback(self._close, maker, lambda: anext(made, None))
        elif maker.yields:
            generator = maker.make(**needs)
            value = await self._call(in_thread, next, generator)
            self._stack.push_async_callback(
                self._close, maker, lambda: self._call(in_thread, next, generator, None)
            )
        else:
            value = await self._call(in_thread, lambda: maker.make(**needs))
        self._made[maker.gives] = value
        log.info("resource.opened", resource=maker.name)
        return value

    async def _call(self, in_thread: bool, function: Callable[..., Any], *args: Any) -> Any:
        return await self._threads.run(function, *args) if in_thread else function(*args)

    @staticmethod
    async def _close(maker: Resource, close: Callable[[], Any]) -> None:
        try:
            await close()
        except Exception as error:  # the others are closed all the same
            log.error("resource.not_closed", resource=maker.name, reason=repr(error)[:500])
        else:
            log.info("resource.closed", resource=maker.name)

    async def close(self) -> None:
        """Close what was made, the last one first, on the loop that it lives on; what takes too long is left."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._made.clear()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await stack.aclose()
        except TimeoutError:
            log.error("resource.not_closed", reason=f"not within {CLOSE_SECONDS:g} s")

    def close_sync(self) -> None:
        """As `close`, in a process without a loop of its own."""
        if self._made:
            self._connections().run(self.close())
