"""Which of many globs cover a name: found by a text that each of them has, not by trying each.

A glob is filed under what stands before its first wildcard and after its last one, or under a text between two of
them: where the fewest are. Of a name, its beginnings, ends and parts of these lengths are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from streammesh import names

_WILDCARDS = re.compile(r"[*?]+")
Ends = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Filed:
    glob: str
    least: int  # characters that a name has to have
    pattern: re.Pattern[str] | None  # None where the ends decide

    def covers(self, name: str) -> bool:
        return len(name) >= self.least and (self.pattern is None or self.pattern.match(name) is not None)


Drawer = dict[str, _Filed]


class GlobIndex:
    """Globs over types. What a name costs grows with the lengths that are in use and with what covers it.

    Where looking up every part of a name would cost more than to try all globs that are filed by a part, these are
    tried; so no set of globs costs more than to try each once.
    """

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._ends: dict[tuple[int, int], dict[Ends, Drawer]] = {}
        self._parts: dict[int, dict[str, Drawer]] = {}
        self._by_part = 0  # globs
        self._places: dict[str, Ends | str] = {}

    def add(self, glob: str) -> None:
        """File a glob that is not there yet."""
        if not names.is_glob(glob):
            self._exact.add(glob)
            return
        before, *between, after = _WILDCARDS.split(glob)
        simple = glob.count("*") == 1 and "?" not in glob
        filed = _Filed(
            glob, len(glob) - glob.count("*"), None if simple else names.glob_pattern.__wrapped__(glob)
        )
        options: list[Ends | str] = [(before, after), *filter(None, between)]
        if not before and not after and len(options) > 1:
            del options[0]  # every name has such ends
        place = min(options, key=lambda option: len(self._drawer(option)))
        self._places[glob] = place
        if isinstance(place, str):
            self._parts.setdefault(len(place), {}).setdefault(place, {})[glob] = filed
            self._by_part += 1
        else:
            self._ends.setdefault((len(before), len(after)), {}).setdefault(place, {})[glob] = filed

    def discard(self, glob: str) -> None:
        """Take out a glob that is there."""
        if not names.is_glob(glob):
            self._exact.discard(glob)
            return
        place = self._places.pop(glob)
        drawer = self._drawer(place)
        del drawer[glob]
        if isinstance(place, str):
            self._by_part -= 1
            if not drawer:
                del self._parts[len(place)][place]
                if not self._parts[len(place)]:
                    del self._parts[len(place)]
        elif not drawer:
            kind = len(place[0]), len(place[1])
            del self._ends[kind][place]
            if not self._ends[kind]:
                del self._ends[kind]

    def _drawer(self, place: Ends | str) -> Drawer:
        if isinstance(place, str):
            return self._parts.get(len(place), {}).get(place, {})
        return self._ends.get((len(place[0]), len(place[1])), {}).get(place, {})

    def covering(self, name: str) -> Iterator[str]:
        """Every glob that covers a name, once."""
        if name in self._exact:
            yield name
        for drawer in self._drawers(name):
            for filed in drawer.values():
                if filed.covers(name):
                    yield filed.glob

    def _drawers(self, name: str) -> Iterator[Drawer]:
        size = len(name)
        for (before, after), table in self._ends.items():
            if before + after <= size and (name[:before], name[size - after :]) in table:
                yield table[name[:before], name[size - after :]]
        if sum(max(0, size - length + 1) for length in self._parts) >= self._by_part:
            for parts in self._parts.values():
                yield from parts.values()
            return
        for length, parts in self._parts.items():
            for text in {name[at : at + length] for at in range(size - length + 1)}:
                if text in parts:
                    yield parts[text]
