"""Where an event lies, and how far a backfill is: the order in which the past is handed over. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

LARGEST = 2**64 - 1
_POSITION = re.compile(r"([0-9]{1,14})-([0-9]{1,20})~([a-z0-9_-]{0,128})")


class Place(NamedTuple):
    """An event's place: ms and number of its entry, and the domain in whose stream it is or was."""

    at: int
    seq: int
    domain: str

    def __str__(self) -> str:
        return f"{self.at}-{self.seq}~{self.domain}"

    @property
    def entry(self) -> str:
        """Its position in the domain's stream."""
        return f"{self.at}-{self.seq}"

    def after_in(self, domain: str) -> str:
        """The lower bound, as XRANGE takes it, of what follows this place in a domain's stream."""
        return self.entry if domain > self.domain else f"({self.entry}"


def parse_place(text: str) -> Place:
    """A position as stored. Raises ValueError for what is none."""
    found = _POSITION.fullmatch(text)
    if not found or int(found[2]) > LARGEST:
        raise ValueError(f"{text[:60]!r} is no position of a backfill")
    return Place(int(found[1]), int(found[2]), found[3])


def before(since_ms: int) -> Place:
    """The place before everything that was published from then on."""
    return Place(max(0, since_ms - 1), LARGEST, "")
