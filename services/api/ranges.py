"""Conditional and range requests (RFC 9110, 13 and 14) for one file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slice:
    """What is sent: the whole file, a part of it, nothing new, or a refusal. `after` is exclusive."""

    kind: Literal["whole", "part", "unchanged", "outside"]
    first: int = 0
    after: int = 0


def http_date(moment: datetime) -> str:
    """A date as headers carry it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def choose(headers: Mapping[str, str], size: int, etag: str, modified: datetime) -> Slice:
    """What these request headers (lower-case names) ask for of a file.

    Several ranges at once, and ranges that are not understood, are answered with the whole file, as RFC 9110 allows.
    """
    known = headers.get("if-none-match")
    if known is not None:
        if known.strip() == "*" or etag in [_strong(tag) for tag in known.split(",")]:
            return Slice("unchanged")
    elif (since := _date(headers.get("if-modified-since"))) and modified.replace(microsecond=0) <= since:
        return Slice("unchanged")
    whole = Slice("whole", 0, size)
    asked = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if (
        asked is None
        or not (asked[1] or asked[2])
        or not _still_the_same(headers.get("if-range"), etag, modified)
    ):
        return whole
    if not asked[1]:  # the last n bytes
        length = min(int(asked[2]), size)
        return Slice("part", size - length, size) if length else Slice("outside")
    first = int(asked[1])
    last = min(int(asked[2]), size - 1) if asked[2] else size - 1
    if asked[2] and int(asked[2]) < first:
        return whole  # not a range at all
    return Slice("part", first, last + 1) if first < size else Slice("outside")


def _still_the_same(condition: str | None, etag: str, modified: datetime) -> bool:
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith('"'):
        return condition == etag
    return _date(condition) == modified.replace(microsecond=0)  # a weak tag is no date either


def _strong(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
