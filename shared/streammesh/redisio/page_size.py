"""How many records to ask Redis for in one round trip, when each may be a hundred bytes or a million."""

from __future__ import annotations

FIRST = 64  # records of the first look: how large they are is not known yet
MANY_BYTES, FEW_BYTES = 2_000_000, 500_000  # of one look, after which the next takes fewer, or more


class PageSize:
    """Counts so many records that a page has some megabytes at most; `most` where they are small."""

    def __init__(self, most: int, first: int = FIRST) -> None:
        self._most = most
        self.count = max(1, min(most, first))

    def seen(self, size: int) -> None:
        """Go by the size of the page that was read, in bytes."""
        if size > MANY_BYTES:
            self.count = max(1, self.count // max(2, size // MANY_BYTES))
        elif size < FEW_BYTES:
            self.count = min(self._most, self.count * 2)
