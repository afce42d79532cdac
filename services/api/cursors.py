"""Cursors that say nothing: where a page ended may be at something that the key may not read."""

from __future__ import annotations

import base64
import os

import redis.asyncio
from cryptography.fernet import Fernet, InvalidToken
from streammesh.keys import Keys

from services.api.problems import Problem

LONGEST_CURSOR = 4_096
SECRET_BYTES = 32


class Cursors:
    """Seals and opens cursors (Fernet: AES-CBC with HMAC-SHA256). One instance per process.

    The secret lies in Redis, so that a page of one replica is followed by one of another.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.cursor_secret()
        self._fernet: Fernet | None = None

    async def seal(self, kind: str, text: str | None) -> str | None:
        """A cursor of this kind; None for none."""
        if text is None:
            return None
        fernet = self._fernet or await self._read()
        return fernet.encrypt(f"{kind}\0{text}".encode()).decode().rstrip("=")

    async def open(self, kind: str, cursor: str | None) -> str | None:
        """What was sealed. Raises Problem (422) for what is no cursor of this kind."""
        if not cursor:
            return None
        fernet, is_fresh = self._fernet, False
        if fernet is None:
            fernet, is_fresh = await self._read(), True
        text = _opened(fernet, cursor)
        if (
            text is None and not is_fresh
        ):  # Redis may have lost its data, and another replica made a new secret
            text = _opened(await self._read(), cursor)
        found, _, rest = (text or "").partition("\0")
        if found != kind:
            raise wrong_cursor()
        return rest

    async def _read(self) -> Fernet:
        fresh = os.urandom(SECRET_BYTES)
        stored = await self._client.set(self._key, fresh, nx=True, get=True)
        secret = stored if isinstance(stored, bytes) and len(stored) == SECRET_BYTES else fresh
        self._fernet = Fernet(base64.urlsafe_b64encode(secret))
        return self._fernet


def wrong_cursor() -> Problem:
    """422."""
    detail = "should be the `next` of an earlier page"
    return Problem(
        "invalid-request", f"cursor: {detail}", [{"parameter": "cursor", "in": "query", "detail": detail}]
    )


def _opened(fernet: Fernet, cursor: str) -> str | None:
    try:
        return fernet.decrypt(cursor + "=" * (-len(cursor) % 4)).decode()
    except (InvalidToken, ValueError):  # ValueError: not ASCII
        return None
