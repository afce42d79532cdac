"""What follows when Redis refuses: one classification, which every path uses."""

from __future__ import annotations

import re
from enum import StrEnum

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Refusal(StrEnum):
    """What follows from an error."""

    LOST = "lost"  # no answer at all: connect anew and ask again
    AGAIN = "again"  # this server takes the same call in a moment: ask again
    ELSEWHERE = "elsewhere"  # another server is the one to ask: look the address up and connect anew
    FULL = "full"  # no room: refuse the caller, who comes again later
    DENIED = (
        "denied"  # credentials or rights are missing: a person has to act, at the start at once; later, wait
    )
    UNKNOWN_SCRIPT = "unknown script"  # send it with its whole text
    FAULT = "fault"  # what was asked is wrong: give up


_BY_CODE = {
    "LOADING": Refusal.AGAIN,  # it reads its data from disk
    "BUSY": Refusal.AGAIN,  # a script of somebody runs for too long
    "NOREPLICAS": Refusal.AGAIN,  # min-replicas-to-write
    "NOGOODSLAVE": Refusal.AGAIN,
    "MISCONF": Refusal.AGAIN,  # it cannot write to its disk, and refuses writes until it can
    "TRYAGAIN": Refusal.AGAIN,  # the slot is being moved, and holds only a part of the keys
    "ASK": Refusal.AGAIN,  # the same: the mesh waits until its slot has moved
    "IOERR": Refusal.AGAIN,
    "READONLY": Refusal.ELSEWHERE,  # it became a replica
    "MOVED": Refusal.ELSEWHERE,
    "CLUSTERDOWN": Refusal.ELSEWHERE,  # perhaps a master that was cut off and has a successor by now
    "MASTERDOWN": Refusal.ELSEWHERE,  # a replica without its master
    "OOM": Refusal.FULL,
    "NOAUTH": Refusal.DENIED,
    "WRONGPASS": Refusal.DENIED,
    "NOPERM": Refusal.DENIED,
    "DENIED": Refusal.DENIED,  # protected mode
    "NOSCRIPT": Refusal.UNKNOWN_SCRIPT,
}
# Answers that carry no code of their own, or one that means several things.
_BY_WORDS = (
    ("max number of clients reached", Refusal.AGAIN),
    ("instance state changed", Refusal.ELSEWHERE),  # UNBLOCKED: it became a replica while a read waited
    ("invalid username-password pair", Refusal.DENIED),
    ("without any password configured", Refusal.DENIED),
    ("Script attempted to access a non local key in a cluster node", Refusal.ELSEWHERE),
    ("READONLY", Refusal.ELSEWHERE),  # EXECABORT … because of: READONLY …
    ("NOREPLICAS", Refusal.AGAIN),
    ("allow-oom flag is not set", Refusal.FULL),
)
_CODE = re.compile(r"-?([A-Z]{2,})\b")
_WAIT = (Refusal.LOST, Refusal.AGAIN, Refusal.ELSEWHERE, Refusal.FULL, Refusal.DENIED)


class Refused(RedisConnectionError):  # type: ignore[misc]
    """A connection of ours was told to ask again or elsewhere; whatever mends lost connections mends this."""

    def __init__(self, error: RedisError, refusal: Refusal) -> None:
        self.refusal = refusal
        code, text = code_of(error), str(error)
        super().__init__(text if not code or text.startswith(code) else f"{code} {text}")


def code_of(error: BaseException) -> str:
    """The error's code, such as READONLY; redis-py keeps it apart from the words where it knows it."""
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code:
        return code
    found = _CODE.match(str(error))
    return found[1] if found else ""


def refusal_of(error: BaseException) -> Refusal:
    """What follows from an error of redis-py or of a socket; of any other, FAULT."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, RedisError):
        known = _BY_CODE.get(code_of(error))
        if known is not None:
            return known
        text = str(error)
        for words, refusal in _BY_WORDS:
            if words in text:
                return refusal
        if isinstance(error, OutOfMemoryError):
            return Refusal.FULL
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        return Refusal.LOST
    return Refusal.FAULT


def is_unavailable(error: BaseException) -> bool:
    """Whether the same call may be made again later: Redis is away, is another server now, is full, wants other rights."""
    return refusal_of(error) in _WAIT


def is_denied(error: BaseException) -> bool:
    """Whether Redis wants other credentials or rights."""
    return refusal_of(error) is Refusal.DENIED
