"""The identity of an event that has left Redis, in a few bytes: for `MESH_DEDUP_WINDOW` it is not taken for new. Pure.

An event's row says what was published. When the row leaves, two whole numbers of it stay, in a small set of whole
numbers (Redis packs one of up to 512 as plain integers). The first is 63 bits of (`source`, `id`), the second 31
further bits of that and 32 of what the event says. Both there: a duplicate. The first and those 31 bits: the same
identity with other content. Less is a coincidence, and the event is new.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import NamedTuple

BUCKETS = 1 << 19  # sets of one part; up to 1,500 events/s, a day's sets stay small enough to be packed
PARTS = 2  # a window has so many; who looks for an identity asks one more
_MASK = (1 << 63) - 1


class Identity(NamedTuple):
    """Where an identity is looked for, and both numbers, as Redis takes them."""

    bucket: int
    name: int
    content: int


def identity_of(source: str, id: str, digest: str) -> Identity:
    """The identity of an event; `digest` is of its content, 16 hex digits."""
    raw = blake2b(
        f"{id} {source}".encode(), digest_size=16
    ).digest()  # neither a source nor what follows it has a space
    name, more = int.from_bytes(raw[:8]) & _MASK, int.from_bytes(raw[8:12]) >> 1
    return Identity(name % BUCKETS, name, more << 32 | int(digest[:8], 16))


def part_of(at_ms: int, window: timedelta) -> int:
    """Which part of time a moment is in."""
    return int(at_ms / _length(window))


def recent_parts(now_ms: float, window: timedelta) -> range:
    """The parts in which an identity may lie that is still remembered, the latest last."""
    last = part_of(round(now_ms), window)
    return range(last - PARTS, last + 1)


def forgotten_at(part: int, window: timedelta) -> int:
    """When the last identity of a part may be forgotten, ms."""
    return round((part + 1) * _length(window) + window.total_seconds() * 1000)


def _length(window: timedelta) -> float:
    return window.total_seconds() * 1000 / PARTS
