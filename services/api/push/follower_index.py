"""Who is to be told of a notification: found by what it is about, not by asking everybody.

A group of followers stands at one place: by the exact values of its wish (event, task, subject, service, source), the
beginning of its subject, its types and its key's scope. A notification's own values lead to the places; so it costs
a look-up for each kind of filter that is in use, and what it matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from streammesh import names
from streammesh.notifications import Notification, holds

from services.api.push.globs import GlobIndex
from services.api.push.wish import EXACT, Rule, Wish

V = TypeVar("V")
F = TypeVar("F")
MOST_REMEMBERED = 65_536  # rules that are remembered to fit some names, before they are looked for anew
ByWhere = dict[str | None, "FollowerGroup[Any]"]  # by an expression, asked last of all
Kind = tuple[bool, ...]  # which exact values are asked for, and whether the beginning of the subject is


class FollowerGroup(dict[F, None]):
    """Followers with one wish, in the order in which they came."""

    __slots__ = ("wish",)

    def __init__(self, wish: Wish) -> None:
        super().__init__()
        self.wish = wish


class Rules:
    """Rules that are in use, and which of them fit given names."""

    def __init__(self) -> None:
        self._used: Counter[Rule] = Counter()
        self._globs = GlobIndex()
        self._filed: dict[str, dict[Rule, None]] = {}  # by a glob without which the rule does not fit
        self._known: dict[tuple[str, ...], dict[Rule, None]] = {}
        self._remembered = 0

    def add(self, rule: Rule) -> None:
        """One more uses it."""
        self._used[rule] += 1
        if self._used[rule] > 1:
            return
        self._forget()
        for glob in rule[-1] if rule else ():
            if glob not in self._filed:
                self._globs.add(glob)
            self._filed.setdefault(glob, {})[rule] = None

    def discard(self, rule: Rule) -> None:
        """One fewer uses it."""
        self._used[rule] -= 1
        if self._used[rule] > 0:
            return
        del self._used[rule]
        self._forget()
        for glob in rule[-1] if rule else ():
            del self._filed[glob][rule]
            if not self._filed[glob]:
                del self._filed[glob]
                self._globs.discard(glob)

    def fitting(self, *about: str) -> Mapping[Rule, None]:
        """The rules that fit one of some names."""
        found = self._known.get(about)
        if found is None:
            found = dict.fromkeys(self._found(about))
            if self._remembered + len(found) >= MOST_REMEMBERED:
                self._forget()
            self._known[about] = found
            self._remembered += len(found) + 1
        return found

    def _found(self, about: tuple[str, ...]) -> Iterator[Rule]:
        if () in self._used:
            yield ()
        for name in about:
            for glob in self._globs.covering(name):
                for rule in self._filed[glob]:
                    if len(rule) == 1 or all(any(names.matches(g, name) for g in globs) for globs in rule):
                        yield rule

    def _forget(self) -> None:
        if self._known:
            self._known, self._remembered = {}, 0


class _Places:
    """All groups whose wishes ask for the same kinds of things."""

    def __init__(self, kind: Kind) -> None:
        asked = [name for name, wanted in zip(EXACT, kind, strict=False) if wanted]
        self.values: Callable[[Notification], Any] = attrgetter(*asked) if asked else _nothing
        self._pick = [number for number, wanted in enumerate(kind[:-1]) if wanted]
        self._lengths: Counter[int] = Counter()  # of beginnings of subjects; 0 where none is asked for
        self.at: dict[tuple[Any, str], dict[Rule, dict[Rule, ByWhere]]] = {}

    def key(self, wish: Wish) -> tuple[Any, str]:
        values = tuple(wish.exact[number] for number in self._pick)
        return (values[0] if len(values) == 1 else values), wish.prefix or ""

    def add(self, wish: Wish) -> FollowerGroup[Any]:
        """The group of a wish, made where there is none."""
        by_scope = self.at.setdefault(self.key(wish), {}).setdefault(wish.types, {})
        if wish.scope not in by_scope:
            by_scope[wish.scope] = {}
        by_where = by_scope[wish.scope]
        if wish.where not in by_where:
            by_where[wish.where] = FollowerGroup(wish)
            self._lengths[len(wish.prefix or "")] += 1
        return by_where[wish.where]

    def discard(self, wish: Wish) -> None:
        """Take out the group of a wish."""
        key = self.key(wish)
        by_types = self.at[key]
        by_where = by_types[wish.types][wish.scope]
        del by_where[wish.where]
        if not by_where:
            del by_types[wish.types][wish.scope]
        if not by_types[wish.types]:
            del by_types[wish.types]
        if not by_types:
            del self.at[key]
        length = len(wish.prefix or "")
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

    def of(self, note: Notification) -> Iterator[dict[Rule, dict[Rule, ByWhere]]]:
        values = self.values(note)
        for length in self._lengths:
            found = self.at.get((values, note.subject[:length]))
            if found:
                yield found


class FollowerIndex:
    """Followers by their wishes. One for those who are told live, one for those who are behind."""

    def __init__(self) -> None:
        self._types, self._scopes = Rules(), Rules()
        self._places: dict[Kind, _Places] = {}
        self._groups: dict[Wish, FollowerGroup[Any]] = {}

    def add(self, follower: F, wish: Wish) -> FollowerGroup[F]:
        """Have it found from now on; answers its group."""
        group = self._groups.get(wish)
        if group is None:
            self._types.add(wish.types)
            self._scopes.add(wish.scope)
            kind = _kind_of(wish)
            places = self._places.get(kind)
            if places is None:
                places = self._places[kind] = _Places(kind)
            group = self._groups[wish] = places.add(wish)
        group[follower] = None
        return group

    def discard(self, follower: object, wish: Wish) -> None:
        """Have it found no more."""
        group = self._groups.get(wish)
        if group is None or follower not in group:
            return
        del group[follower]
        if group:
            return
        del self._groups[wish]
        self._types.discard(wish.types)
        self._scopes.discard(wish.scope)
        kind = _kind_of(wish)
        self._places[kind].discard(wish)
        if not self._places[kind].at:
            del self._places[kind]

    def group(self, wish: Wish) -> FollowerGroup[Any] | None:
        """The group of those who have this wish."""
        return self._groups.get(wish)

    def groups(self) -> list[FollowerGroup[Any]]:
        """All groups."""
        return list(self._groups.values())

    def find(self, note: Notification) -> list[FollowerGroup[Any]]:
        """The groups that are to be told of a notification."""
        if not self._groups:
            return []
        types = self._types.fitting(note.type, note.event_type)
        scopes = self._scopes.fitting(note.event_type)
        found: list[FollowerGroup[Any]] = []
        if types and scopes:
            for places in self._places.values():
                for by_types in places.of(note):
                    for by_scope in _common(types, by_types):
                        for by_where in _common(scopes, by_scope):
                            found += [
                                g for where, g in by_where.items() if where is None or holds(where, note)
                            ]
        return found


def _kind_of(wish: Wish) -> Kind:
    return (*(value is not None for value in wish.exact), wish.prefix is not None)


def _common(fitting: Mapping[Rule, None], table: Mapping[Rule, V]) -> Iterable[V]:
    """What a table has of what fits, going through the smaller one."""
    if len(fitting) <= len(table):
        return [table[rule] for rule in fitting if rule in table]
    return [value for rule, value in table.items() if rule in fitting]


def _nothing(note: Notification) -> tuple[()]:
    return ()
