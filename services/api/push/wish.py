"""What a follower wants and may have, in the parts that an index looks up. Followers of one wish share a group."""

from __future__ import annotations

from dataclasses import dataclass

from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter

from services.api.tokens import Token

EXACT = ("event", "task", "subject", "service", "source")
Rule = tuple[tuple[str, ...], ...]  # one glob of each of these has to cover a name


@dataclass(frozen=True, slots=True)
class Wish:
    """All of it has to fit. `exact` is in the order of `EXACT`; a rule without globs fits everything."""

    exact: tuple[str | None, ...]
    prefix: str | None  # of the subject
    types: Rule  # over the notification's type or its event's
    scope: Rule  # over its event's type
    where: str | None = None  # an expression over the notification

    @classmethod
    def of(cls, wanted: Filter, key: ApiKey) -> Wish | None:
        """Return what this key's holder is told of what he wants; None where that can be nothing."""
        exact = {name: getattr(wanted, name) for name in EXACT}
        scope = [] if key.admin else [key.subscribe]
        if isinstance(key, Token):
            scope.append(key.narrowing.types)
            for name in ("event", "task", "subject", "source"):
                left = getattr(key.narrowing, name)
                if left is not None and exact[name] not in (None, left):
                    return None
                exact[name] = left if left is not None else exact[name]
        narrow = tuple(tuple(sorted(set(globs))) for globs in scope if "*" not in globs)
        if not all(narrow):
            return None
        types = () if not wanted.types or "*" in wanted.types else (tuple(sorted(set(wanted.types))),)
        return cls(tuple(exact.values()), wanted.subject_prefix, types, narrow, wanted.where)
