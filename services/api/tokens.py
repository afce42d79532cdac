"""Tokens: a part of what a key may be told, for a while, for programs that must not hold the key: browsers.

A token is sealed with the mesh's secret, not stored. It is worth what its key is still worth at each request, and
nothing once the key was revoked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson
from streammesh import names
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.notifications import Notification

from services.api.cursors import Cursors
from services.api.problems import Problem

PREFIX = "smt_"
LONGEST = 4_096  # characters of a token
KIND = "token"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a token leaves of its key: event types, and one event, source, subject or task."""

    types: tuple[str, ...] = ("*",)
    event: str | None = None
    source: str | None = None
    subject: str | None = None
    task: str | None = None

    def fits(self, note: Notification) -> bool:
        """Whether a notification is within."""
        return self.covers(note.event, note.source, note.subject) and self.task in (None, note.task)

    def covers(self, event: str, source: str, subject: str | None) -> bool:
        """Whether an event is within, apart from its type."""
        return (
            self.event in (None, event)
            and self.source in (None, source)
            and self.subject in (None, subject or None)
        )


EVERYTHING = Narrowing()


@dataclass(frozen=True, slots=True)
class Token(ApiKey):
    """Stands in for its key where one is told of things; it may publish nothing and do nothing."""

    narrowing: Narrowing = EVERYTHING

    def may_subscribe(self, event_type: str) -> bool:
        """Whether key and token both allow it."""
        return ApiKey.may_subscribe(self, event_type) and any(
            names.matches(glob, event_type) for glob in self.narrowing.types
        )

    @property
    def may_subscribe_to_all(self) -> bool:
        """Whether no event is hidden from it."""
        return "*" in self.subscribe and self.narrowing == EVERYTHING


def narrowing_of(key: ApiKey) -> Narrowing:
    """What is left of a key; all, where it is a key and no token."""
    return key.narrowing if isinstance(key, Token) else EVERYTHING


class Tokens:
    """Makes and opens tokens. One instance per process."""

    def __init__(self, cursors: Cursors, api_keys: ApiKeys) -> None:
        self._cursors, self._api_keys = cursors, api_keys

    async def issue(self, key: ApiKey, narrowing: Narrowing, ends_ms: int) -> str:
        """Return a token of this key that ends at `ends_ms`, since the epoch."""
        said = {"k": key.digest, "x": ends_ms, "n": asdict(narrowing)}
        return PREFIX + str(await self._cursors.seal(KIND, orjson.dumps(said).decode()))

    async def verify(self, text: str, now_ms: int) -> Token | None:
        """Return what a token allows; None where it is none, has ended, or its key is worth nothing any more."""
        try:
            said: dict[str, Any] = orjson.loads(await self._cursors.open(KIND, text[len(PREFIX) :]) or "{}")
        except Problem:
            return None
        if said.get("x", 0) <= now_ms:
            return None
        key = await self._api_keys.by_digest(said["k"])
        if key is None:
            return None
        narrowing = Narrowing(**{**said["n"], "types": tuple(said["n"]["types"])})
        return _narrowed(key, narrowing, said["x"])


def _narrowed(key: ApiKey, narrowing: Narrowing, ends_ms: int) -> Token:
    same: dict[str, Any] = {one.name: getattr(key, one.name) for one in fields(ApiKey)}
    ends = ends_ms if key.expires_ms is None else min(ends_ms, key.expires_ms)
    subscribe = ("*",) if key.admin else key.subscribe
    same.update(publish=(), subscribe=subscribe, sources=(), admin=False, expires_ms=ends)
    return Token(**same, narrowing=narrowing)
