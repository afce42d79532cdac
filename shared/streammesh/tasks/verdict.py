"""Decides what becomes of an attempt: again after a while, or given up. Pure.

Full jitter as in the AWS Architecture Blog, "Exponential Backoff and Jitter" (2015): it spreads a
crowd of failures best for the least total work.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from datetime import timedelta
from itertools import dropwhile
from pathlib import PurePath

from pydantic import ValidationError

from streammesh.errors import Fail, Misfit, Reject, Retry
from streammesh.tasks.task import Failure

MAX_LOST = 5  # a task that took this many workers down with it is not given to another one
TRACEBACK_LENGTH = 8_000  # characters; the end of a traceback says most
LOGGED_LENGTH = 4_000
REASON_LENGTH = 1_000
_KIT = str(PurePath(__file__).parents[1])  # frames of these files say nothing about a handler


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a delivery is retried and how long it waits in between."""

    retries: int = 5
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)

    def delay(self, attempt: int, random: float) -> timedelta:
        """The wait after attempt number `attempt` (from 1) failed; `random` is in [0, 1).

        A tenth of the ceiling is kept as the least wait, so that no retry comes at once.
        """
        ceiling = min(self.cap.total_seconds(), self.base.total_seconds() * 2.0 ** min(attempt - 1, 32))
        return timedelta(seconds=ceiling * (0.1 + 0.9 * random))

    def gives_up(self, attempt: int) -> bool:
        """Whether attempt number `attempt` (from 1) was the last one allowed."""
        return attempt > self.retries


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The attempt failed; the next one starts after `wait`."""

    wait: timedelta
    failure: Failure


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The delivery failed for good and becomes a dead letter."""

    failure: Failure


def after_error(error: BaseException, attempt: int, policy: RetryPolicy, random: float) -> TryAgain | GiveUp:
    """What follows when attempt number `attempt` (from 1) ended with `error`; `random` is in [0, 1)."""
    failure = describe(error)
    if isinstance(error, Reject | Fail) or policy.gives_up(attempt):
        return GiveUp(failure)
    if isinstance(error, Retry) and error.after is not None:
        return TryAgain(error.after, failure)
    return TryAgain(policy.delay(attempt, random), failure)


def describe(error: BaseException) -> Failure:
    """An error as it is told to people: its words, its class, the end of its traceback."""
    try:
        words = str(error.reason if isinstance(error, Reject | Fail) else error)
    except Exception:  # an error whose own text cannot be made is still told
        words = ""
    return Failure(
        reason=_told(words or type(error).__name__)[:REASON_LENGTH],
        kind=Reject.__name__ if isinstance(error, Misfit) else type(error).__name__,
        traceback=_told("".join(_from_the_handler(error).format()))[-TRACEBACK_LENGTH:],
        refused=isinstance(error, Reject | ValidationError),
    )


def handlers_traceback(error: BaseException) -> dict[str, str]:
    """The traceback for the log, from the handler's frame on; nothing for what a handler says on purpose."""
    if isinstance(error, Reject | Fail | Retry):
        return {}
    return {"exception": _told("".join(_from_the_handler(error).format()))[-LOGGED_LENGTH:].rstrip()}


def _from_the_handler(error: BaseException) -> traceback.TracebackException:
    """An error's traceback, and those of its causes, without what the kit did before it called the handler."""
    told = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        one = waiting.pop()
        if one is not None:
            frames = list(dropwhile(lambda frame: frame.filename.startswith(_KIT), one.stack))
            one.stack = traceback.StackSummary.from_list(frames or one.stack)
            waiting += [one.__cause__, one.__context__]
    return told


def _told(text: str) -> str:
    """Text that can be stored. Half surrogate pairs, as Python has them in names of files, are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def lost_too_often(lost: int) -> GiveUp | None:
    """Give up on a task whose workers keep dying, so that it does not take the next one down."""
    if lost < MAX_LOST:
        return None
    return GiveUp(Failure(f"its worker died {lost} times while running it", "WorkerLost"))
