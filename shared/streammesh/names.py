"""The mesh's words and identities: event types, service names, ids. Pure."""

from __future__ import annotations

import os
import re
import time
from enum import StrEnum
from functools import lru_cache
from hashlib import sha1
from uuid import UUID

TYPE_LENGTH = 256  # characters
NOT_TEXT = (
    r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"  # what CloudEvents allows in no attribute
)
_NOT_TEXT = re.compile(f"[{NOT_TEXT}]")
_FIRST_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
DOMAIN_LENGTH = 128
OTHER = "other"  # the domain of types that do not begin with a Latin letter
MESH = "scheduler"  # the source of ticks and of the mesh's own alerts
SERVICE = re.compile(r"^[a-z][a-z0-9_]{1,62}$")
OWN_PROCESSES = frozenset(
    {"api", "archiver", "beat", "dispatcher", "webhook_worker"}
)  # who live under these names
QUEUE = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
DEFAULT_QUEUE = "default"  # what a service calls its queue that is named as it is itself
TASK_NAMESPACE = UUID("5f0c1f6c-7a0e-5d1c-9c3e-6d1c2b7a9e10")  # never change: task ids depend on it
_IN_TASK_NAMESPACE = sha1(TASK_NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # RFC 9562, section 4.1


class TaskState(StrEnum):
    """Where a task stands, as its row, notifications and the API say it."""

    PENDING = "pending"  # waits in line: the limits of its subscription let it start later
    QUEUED = "queued"
    STARTED = "started"
    RETRYING = "retrying"  # its attempt failed; the next one waits for its time
    WAITING = "waiting"  # its handler sleeps, or waits for an event or a signal; no worker is held
    HELD = "held"  # set aside, since its subscription is paused
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SKIPPED = "skipped"  # its subscription's limits had no room for it; it was never started
    FOLDED = "folded"  # a run of its key took it; its result names that


ENDED = frozenset(
    (
        *(TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED),
        *(TaskState.SKIPPED, TaskState.FOLDED),
    )
)


def is_type(name: str) -> bool:
    """Whether a text can be an event type: any that CloudEvents allows, of 1 to 256 characters.

    For one's own types the advice is lower-case words joined by dots: `order.placed`.
    """
    return 0 < len(name) <= TYPE_LENGTH and (name.isprintable() or _NOT_TEXT.search(name) is None)


@lru_cache(maxsize=4096)
def domain_of(event_type: str) -> str:
    """The first word of a type, in lower case; it names the stream.

    The word ends before the first character that is no Latin letter, digit, `_` or `-`: `order` of
    `order.line.added`, `microsoft` of `Microsoft.Storage.BlobCreated`, `oss` of `oss:ObjectCreated:PutObject`.
    A type that begins with no Latin letter belongs to `other`.
    """
    word = _FIRST_WORD.match(event_type)
    return word[0][:DOMAIN_LENGTH].lower() if word else OTHER


def domain_of_pattern(pattern: str) -> str | None:
    """The one domain of all types that a pattern covers; None when it may cover types of several."""
    literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
    word = _FIRST_WORD.match(literal)
    ends = len(literal) if word is None else word.end()
    if literal == pattern or (word and ends < len(literal)) or (word is None and literal):
        return domain_of(literal)
    return None


def queue_of(service: str, queue: str | None = None) -> str:
    """The full name of one of a service's queues: `mail` for its own, `mail.urgent` for a further one."""
    return service if queue in (None, "", DEFAULT_QUEUE) else f"{service}.{queue}"


def owner_of(queue: str) -> str:
    """The service that a queue belongs to."""
    return queue.partition(".")[0]


def task_id(source: str, event_id: str, subscription: str) -> str:
    """The id of the task that one event becomes for one subscription: the same everywhere and for ever.

    It ends with the mark of the subscription's service, so that a rule over the names of keys can tell whose it is.
    """
    made = derived_id(source, event_id, subscription)
    mark = mark_of(subscription.partition(".")[0])
    return f"{made[:14]}8{made[15:26]}{mark}"  # UUIDv8: what stands in it is our own business


@lru_cache(maxsize=4096)
def mark_of(service: str) -> str:
    """What the ids of a service's tasks end with: 40 bits of a digest of its name."""
    digest = _IN_TASK_NAMESPACE.copy()
    digest.update(f"service\0{service}".encode())
    return digest.hexdigest()[:10]


def is_task_of(task_id: str, service: str) -> bool:
    """Whether an id may be of a task of this service; ids of versions before the mark (UUIDv5) may be anybody's."""
    return task_id.endswith(mark_of(service)) or is_unmarked(task_id)


def is_unmarked(task_id: str) -> bool:
    """Whether this is an id as versions before the mark made them."""
    return len(task_id) == 36 and task_id[14] == "5"


def task_id_before(source: str, event_id: str, subscription: str) -> str:
    """The id of a task as versions before the mark made it."""
    return derived_id(source, event_id, subscription)


def derived_id(*parts: str) -> str:
    """An id that is made of others: the same everywhere and for ever."""
    return _uuid5("\0".join(parts))


def tick_id(schedule: str, due_ms: int) -> str:
    """The event id of one tick of a schedule: the same whoever publishes it."""
    return _uuid5(f"tick\0{schedule}\0{due_ms}")


def _uuid5(name: str) -> str:
    """A UUIDv5 of `TASK_NAMESPACE`, in a third of the time that `uuid.uuid5` takes."""
    digest = _IN_TASK_NAMESPACE.copy()
    digest.update(name.encode())
    h = digest.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by time to the millisecond, 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


@lru_cache(maxsize=4096)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob over types, where `*` stands for any characters and `?` for one, as a compiled pattern."""
    first, *rest = ("".join("." if c == "?" else re.escape(c) for c in part) for part in glob.split("*"))
    if not rest:
        return re.compile(f"{first}\\Z", re.DOTALL)
    # Each part is found where it comes first and stays there (atomic), so that no glob takes exponential time.
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(f"{first}{middle}.*{rest[-1]}\\Z", re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Whether a type pattern stands for more than one type."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, name: str) -> bool:
    """Whether a type pattern, exact or glob, covers `name`.

    With one `*` it needs no compiled pattern, of which only so many are remembered.
    """
    if pattern == name:
        return True
    before, star, after = pattern.partition("*")
    if "?" in pattern or "*" in after:
        return glob_pattern(pattern).match(name) is not None
    return bool(
        star and len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
    )
