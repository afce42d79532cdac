"""Who is calling: bearer keys, looked up by their hash, remembered for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from time import monotonic, time_ns
from typing import Any

import structlog
from streammesh.api_keys import LONGEST, ApiKey, ApiKeys
from streammesh.errors import InvalidApiKey, MeshUnavailable

from services.api.bootstrap_keys import bring_operators
from services.api.log_context import without_request
from services.api.problems import Problem
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings
from services.api.tokens import LONGEST as LONGEST_TOKEN
from services.api.tokens import PREFIX as TOKEN
from services.api.tokens import Tokens

log = structlog.get_logger(__name__)

MOST_KNOWN = 10_000
NOTED_EVERY_MS = 60_000
AWAY_SECONDS = (
    3_600.0  # that a key of a mesh of several shards is believed while the one with the keys is away
)


@dataclass(slots=True)
class _KnownKey:
    key: ApiKey
    checked: float
    refreshing: bool = False
    unasked: float | None = None  # when nobody answered as it was looked up
    noted: int = 0  # when its use was last said to Redis, ms


class Authenticator:
    """Answers whose key a request carries.

    A key in use is looked up again every `key_refresh` beside the requests, so in steady state no request
    waits for it; one that was not looked up for `key_lifetime` is looked up before it is believed. A
    revoked key is therefore refused within `key_lifetime`. What is not a key is not remembered, each key once
    however its header is spelled, and `MOST_KNOWN` at most; secrets are not: the memory holds hashes.

    Where the keys lie in one of several shards (`believes_while_away`), a known key is believed while that shard does not
    answer, as nobody can revoke one meanwhile: the other shards' publishers are to notice nothing.
    """

    def __init__(
        self,
        api_keys: ApiKeys,
        tokens: Tokens,
        settings: ApiSettings,
        reading: ReadLimit,
        now: Callable[[], float] = monotonic,
        *,
        believes_while_away: bool = False,
    ) -> None:
        self._api_keys, self._tokens, self._reading, self._now = api_keys, tokens, reading, now
        self._patience = AWAY_SECONDS if believes_while_away else 0.0
        self._refresh = settings.key_refresh.total_seconds()
        self._lifetime = settings.key_lifetime.total_seconds()
        self._operators = settings.admin_key
        self._known: dict[bytes, _KnownKey] = {}  # SHA-256 of the header -> the key that it carries
        self._tasks: set[asyncio.Task[None]] = set()

    def at_once(self, header: bytes | None) -> ApiKey | None:
        """The key if it is known and fresh, without waiting for anything; None says nothing."""
        known = self._known.get(sha256(header).digest()) if header else None
        if known is None or header is None:
            return None
        age = self._now() - known.checked
        is_asked_in_vain = known.refreshing or (
            known.unasked is not None and self._now() - known.unasked <= self._lifetime
        )
        if age > self._lifetime and (age > self._patience or not is_asked_in_vain):
            return None
        if known.key.expires_ms is not None and known.key.has_expired(_now_ms()):
            return None
        if age > self._refresh and not known.refreshing:
            known.refreshing = True
            self._beside(self._look_again(header, known))
        return known.key

    async def authenticate(self, header: bytes | None) -> ApiKey:
        """The key of an `Authorization` header. Raises Problem (401), MeshUnavailable."""
        if header is None:
            raise unauthenticated("No API key was sent.", challenge="Bearer")
        header = _canonical(header)
        found = self.at_once(header) or await self._asked(header)
        if found is None:
            raise unauthenticated("This API key or token is not known, has expired, or was revoked.")
        return found

    async def _asked(self, header: bytes) -> ApiKey | None:
        """The key as it is now; where nobody answers, as it was known, if that is believed. Raises MeshUnavailable."""
        try:
            return await self._look_up(header)
        except MeshUnavailable:
            known = self._known.get(sha256(header).digest())
            if known is not None:
                known.unasked = self._now()
            if (found := self.at_once(header)) is None:
                raise
            return found

    async def _look_up(self, header: bytes) -> ApiKey | None:
        secret = _secret_of(header)
        async with self._reading():
            try:
                if secret.startswith(TOKEN):
                    key: ApiKey | None = await self._tokens.verify(secret, _now_ms())
                else:
                    key = await self._api_keys.verify(secret) or await self._brought_back(secret)
            except InvalidApiKey as error:
                log.error("api_key.broken", reason=str(error))
                key = None
        place = sha256(header).digest()
        if key is None:
            self._known.pop(place, None)
            return None
        known = self._known.get(place)
        noted = known.noted if known else 0
        if place not in self._known and len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[place] = known = _KnownKey(key, self._now(), noted=noted)
        self._note_use(known)
        return key

    def _note_use(self, known: _KnownKey) -> None:
        """About once a minute and process, beside the requests."""
        now_ms = _now_ms()
        if now_ms - known.noted >= NOTED_EVERY_MS:
            known.noted = now_ms
            self._beside(self._say_used(known.key.digest, now_ms))

    async def _say_used(self, digest: str, now_ms: int) -> None:
        with suppress(MeshUnavailable):
            async with self._reading():
                await self._api_keys.used(digest, now_ms)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=without_request())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _brought_back(self, secret: str) -> ApiKey | None:
        """The operator's own key where there is none at all any more: Redis has lost its data since the start."""
        known = self._operators.get_secret_value() if self._operators else ""
        if not known or not compare_digest(known.encode(), secret.encode()) or await self._api_keys.count():
            return None
        if not await bring_operators(self._api_keys, known):
            return None
        log.error("api_keys.were_lost")
        return await self._api_keys.verify(secret)

    async def _look_again(self, header: bytes, known: _KnownKey) -> None:
        try:
            await self._look_up(header)
        except MeshUnavailable:
            known.refreshing, known.unasked = False, self._now()  # believed until its lifetime is over

    async def aclose(self) -> None:
        """End the look-ups that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _now_ms() -> int:
    return time_ns() // 1_000_000


def _canonical(header: bytes) -> bytes:
    """One spelling of the header for each key."""
    return b"Bearer " + _secret_of(header).encode("latin-1")


def _secret_of(header: bytes) -> str:
    scheme, _, secret = header.decode("latin-1").partition(" ")
    secret = secret.strip()
    longest = LONGEST_TOKEN if secret.startswith(TOKEN) else LONGEST
    if scheme.lower() != "bearer" or not secret or len(secret) > longest:
        raise unauthenticated("Send `Authorization: Bearer <key>`.")
    return secret


def unauthenticated(detail: str, challenge: str = 'Bearer error="invalid_token"') -> Problem:
    """401 with a challenge (RFC 6750)."""
    return Problem("unauthenticated", detail, headers={"www-authenticate": challenge})


def must_be_admin(key: ApiKey) -> None:
    """Raises Problem (403) for any other key."""
    if not key.admin:
        raise Problem("forbidden", f"The key {key.name!r} is no admin key.")


def must_publish(key: ApiKey, event_type: str) -> None:
    """Raises Problem (403) unless the key may publish this type."""
    if not key.may_publish(event_type):
        raise Problem("forbidden", f"The key {key.name!r} may not publish {event_type!r}.")
