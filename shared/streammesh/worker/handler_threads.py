"""Threads for `def` handlers: calls go to them, and what they come to comes back, in batches.

A call costs no wake-up of its own. Calls wait in one line; a thread that is woken takes one after the other, and wakes
another only while more are waiting, so a batch of short handlers is run by the thread that came first, and a handler
that waits holds up none. Ends are collected by the event loop: the first one calls it, those that follow before it
comes are found with it.

Python's own (`asyncio.to_thread`) hand over one call at a time, are few, and an interpreter does not end before they
have. There are as many here as calls are at work; how many that may be is the pool's business.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from streammesh.worker.thread_exception import AGAIN_SECONDS, TaskStopped, raise_in_thread, take_back

log = structlog.get_logger(__name__)


class HandlerCall:
    """One call in a thread. Its methods are for the event loop that it was made on, except `run`."""

    __slots__ = (
        *("_answers", "_args", "_context", "_function", "_kwargs", "_threads"),
        *("_error", "_result", "_thread", "_disturbed", "answer", "begun", "interrupted", "stopped"),
    )

    def __init__(
        self,
        threads: HandlerThreads,
        answers: _Answers,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self._threads, self._answers = threads, answers
        self._function, self._args, self._kwargs = function, args, kwargs
        self._context = copy_context()
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread: int | None = None  # while it is at work
        self._disturbed = False  # an exception of ours may be on its way to the thread
        self.begun = self.interrupted = False
        self.stopped = False  # what it comes to is nobody's business any more
        self.answer: asyncio.Future[None] = answers.loop.create_future()

    async def ended(self) -> Any:
        """Return what the function returns, or raise what it raises. Cancelled, it is stopped as far as can be."""
        try:
            await self.answer
        except asyncio.CancelledError:
            self.stop()
            raise
        if self._error is not None:
            try:
                if isinstance(self._error, StopIteration):  # a coroutine cannot raise it
                    raise RuntimeError("the handler raised StopIteration") from self._error
                raise self._error
            finally:
                self._error = None  # its traceback knows this frame
        return self._result

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in it at its next line of Python; the handler may catch it. One not begun never begins."""
        self.interrupted = True
        with self._threads.lock:
            if self._raise(error) or self.begun:
                return
            self.stopped = True
        self._error = error()
        self._answers.tell(self)

    def stop(self) -> None:
        """Have it end at its next line of Python, again and again; it is waited for no longer."""
        with self._threads.lock:
            self.stopped = True
            if not self._raise(TaskStopped):
                return
            self._threads.strays += 1
        self._answers.loop.call_later(AGAIN_SECONDS, self._goes_on, True)

    def _goes_on(self, first: bool) -> None:
        with self._threads.lock:
            if not self._raise(TaskStopped):
                return
        if first:
            reason = "a thread cannot be killed: the handler ends at its next line of Python; its attempt has ended"
            log.warning("task.goes_on", reason=reason)
        self._answers.loop.call_later(AGAIN_SECONDS, self._goes_on, False)

    def _raise(self, error: type[BaseException]) -> bool:
        """Raise it where it is at work, and answer whether it is; the lock is held."""
        if self._thread is None:
            return False
        self._disturbed = True
        raise_in_thread(self._thread, error)
        return True

    def run(self) -> None:
        """Do it, in this thread. Raises nothing, whatever is raised in the thread, and when."""
        try:
            if self._begin():
                self._result = self._context.run(self._function, *self._args, **self._kwargs)
        except BaseException as error:
            self._error = error
        while True:
            try:
                self._end()
                break
            except BaseException:  # noqa: S112 - meant for the handler, which had ended
                continue
        self._answers.add(self)

    def _begin(self) -> bool:
        with self._threads.lock:
            if self.stopped:
                return False
            self.begun, self._thread = True, threading.get_ident()
            return True

    def _end(self) -> None:
        with self._threads.lock:
            at_work, self._thread = self._thread is not None, None
            if at_work and self.stopped:
                self._threads.strays -= 1
        if self._disturbed:
            take_back(threading.get_ident())


class _Answers:
    """What ended of the calls of one event loop, told to it in batches."""

    def __init__(self, threads: HandlerThreads, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self._threads = loop, threads
        self._ended: deque[HandlerCall] = deque()
        self._called = False

    def add(self, call: HandlerCall) -> None:
        """A call has ended, in this thread."""
        self._ended.append(call)
        if self._called:
            return  # the loop has not come yet, and finds this one too
        self._called = True
        try:
            self.loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            log.debug("handler.loop_gone")

    def _collect(self) -> None:
        self._called = False
        while self._ended:
            self.tell(self._ended.popleft())

    def tell(self, call: HandlerCall) -> None:
        """Wake whoever waits for the call; on the loop."""
        if not call.answer.done():
            call.answer.set_result(None)
        if call.stopped:
            self._threads.freed()


class HandlerThreads:
    """Makes threads as they are needed and keeps them for what comes. Daemons: no process waits for them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.strays = 0  # threads whose call was stopped and goes on
        self.freed: Callable[[], None] = lambda: None  # what to call on the loop when one of those has ended
        self._line: deque[HandlerCall] = deque()
        self._idle: list[threading.Lock] = []  # of each idle thread what it waits at
        self._count = 0
        self._waking = False  # a thread is on its way to the line
        self._answers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Answers] = WeakKeyDictionary()

    def start(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> HandlerCall:
        """Have a function called in a thread, in a copy of this context; to be asked on an event loop."""
        loop = asyncio.get_running_loop()
        answers = self._answers.get(loop)
        if answers is None:
            answers = self._answers[loop] = _Answers(self, loop)
        call = HandlerCall(self, answers, function, args, kwargs)
        with self.lock:
            self._line.append(call)
            try:
                self._wake_one()
            except RuntimeError:
                self._line.remove(call)
                raise
        return call

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `asyncio.to_thread`. Cancelled, the function is stopped as far as a thread can be."""
        return await self.start(function, args, kwargs).ended()

    def _wake_one(self) -> None:
        """Have a thread come to the line, where something waits and none is on its way; the lock is held."""
        if self._waking or not self._line:
            return
        if self._idle:
            self._idle.pop().release()
        else:
            try:
                threading.Thread(target=self._serve, name="handler", daemon=True).start()
            except RuntimeError:  # the system gives no more: those that there are take it, as they get free
                log.exception("handler.no_thread", threads=self._count)
                if not self._count:
                    raise
                return
            self._count += 1
        self._waking = True

    def _serve(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        woken = True
        while True:
            with self.lock:
                if woken:
                    self._waking = woken = False
                call = self._line.popleft() if self._line else None
                if call is None:
                    self._idle.append(gate)
                else:
                    self._wake_one()
            if call is None:
                gate.acquire()
                woken = True
            else:
                call.run()
                del call
