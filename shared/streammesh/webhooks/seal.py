"""Secrets of webhooks as they are kept: sealed with AES-256-GCM, where the mesh's own processes are given a key for it.

Whoever reads Redis, or a backup of it, then cannot sign in the mesh's name. The first key seals, each opens. A sealed
secret is bound to its owner's id, so that it opens under no other. Without a key secrets are kept as they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streammesh.webhooks.definition import Secret
from streammesh.webhooks.signature import SEALED, key_of

BYTES = 32
_NONCE = 12


class Seal:
    """Seals and opens secrets. One instance per process."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ciphers = {key_name(key): AESGCM(key) for key in keys}
        self._first = key_name(keys[0]) if keys else None

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with."""
        return self._first is not None

    def close(self, secret: str, owner: str) -> str:
        """Return a secret as it is kept for the webhook or service of this id."""
        if self._first is None:
            return secret
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._ciphers[self._first].encrypt(nonce, secret.encode(), owner.encode())
        return f"{SEALED}{self._first}.{base64.b64encode(sealed).decode()}"

    def open(self, kept: str, owner: str) -> str | None:
        """Return the secret; None where its key is not among ours, or it is another's, or garbage."""
        if not kept.startswith(SEALED):
            return kept
        name, _, text = kept.removeprefix(SEALED).partition(".")
        cipher = self._ciphers.get(name)
        try:
            sealed = base64.b64decode(text, validate=True)
            if cipher is None or len(sealed) <= _NONCE:
                return None
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError):
            return None

    def keys(self, secrets: Iterable[Secret], owner: str, now_ms: int) -> list[bytes]:
        """Return what is signed with at this moment, the newest first: of the valid secrets those that open."""
        opened = (self.open(one.text, owner) for one in secrets if one.is_valid(now_ms))
        found = []
        for secret in opened:
            try:
                found += [key_of(secret)] if secret else []
            except ValueError:
                continue
        return found

    def renewed(self, secrets: Iterable[Secret], owner: str) -> tuple[Secret, ...]:
        """Return secrets sealed with the first key; one that does not open stays as it is."""
        found = []
        for one in secrets:
            opened = None if self._is_fresh(one.text) else self.open(one.text, owner)
            found.append(one if opened is None else replace(one, text=self.close(opened, owner)))
        return tuple(found)

    def _is_fresh(self, kept: str) -> bool:
        return self._first is not None and kept.startswith(f"{SEALED}{self._first}.")


def key_name(key: bytes) -> str:
    """Return what a key is called in what it has sealed; tells nothing of it."""
    return hashlib.sha256(b"streammesh seal " + key).hexdigest()[:12]


def parse_keys(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return keys of 32 bytes from base64. Raises ValueError that does not repeat them."""
    found = []
    for number, text in enumerate(texts, 1):
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != BYTES:
            raise ValueError(f"key {number} should be {BYTES} bytes in base64: openssl rand -base64 {BYTES}")
        found.append(key)
    return tuple(found)
