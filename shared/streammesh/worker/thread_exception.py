"""Exceptions raised in another thread: all that can be done to what a thread is at.

Python raises them there at its next line of Python; native code, and a call that waits, meet them as they return.
"""

from __future__ import annotations

import ctypes

AGAIN_SECONDS = 1.0  # between exceptions in a thread that goes on after it was to end


class TaskStopped(BaseException):
    """Raised in the thread of a task or handler that was cancelled or is over its hard limit. To be let through."""


def raise_in_thread(thread: int, error: type[BaseException]) -> None:
    """Raise `error` in the thread of this ident. The caller knows that it is still at what is to be ended."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def take_back(thread: int) -> None:
    """Take back what was to be raised in the thread and was not yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
