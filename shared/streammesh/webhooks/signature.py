"""Signs what is sent to a URL as Standard Webhooks say: HMAC-SHA256 over id, time and body. Pure.

A secret is `whsec_` and 32 random bytes in base64. While one is being replaced there are two, and two signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SEALED = "sealed."  # how a secret begins that is kept sealed: then its key's name, a dot, base64
BYTES = 32


def new_secret() -> str:
    """A fresh secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for. Raises ValueError for what is none."""
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is no secret of a webhook: {error}") from None


def check_kept(secret: object) -> None:
    """Raise ValueError for what is no secret, sealed or not."""
    if not isinstance(secret, str) or not secret.isascii() or len(secret) > 1_000:
        raise ValueError("it is no secret of a webhook")
    if not secret.startswith(SEALED):
        key_of(secret)


def signed_headers(keys: Sequence[bytes], message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp`, `webhook-signature` of one message, signed with each key."""
    signed = b"%b.%d.%b" % (message_id.encode(), seconds, body)
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
