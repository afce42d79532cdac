"""The keys of who may what, and of what was done: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class AccessKeys:
    """What `Keys` has of them."""

    __slots__ = ()
    prefix: str

    def api_keys(self) -> str:
        """HASH. SHA-256 of an API key -> its name and scopes as JSON. Bounded by the number of keys."""
        return f"{self.prefix}api-keys"

    def api_keys_revoked(self) -> str:
        """ZSET. SHA-256 of API keys that were revoked or replaced, by time in ms; the last 10,000."""
        return f"{self.prefix}api-keys-revoked"

    def api_keys_used(self) -> str:
        """HASH. SHA-256 of an API key -> about when it was last used, ms. Bounded by the number of keys."""
        return f"{self.prefix}api-keys-used"

    def audit(self) -> str:
        """STREAM. What operators did, field `a` = one action as JSON. About 10,000 entries."""
        return f"{self.prefix}audit"

    def sealed_manifest(self, service: str) -> str:
        """STRING. A service's manifest as JSON, which no other's user of Redis may write; it counts before `manifests`."""
        return f"{self.prefix}manifest:{service}"

    def refusals(self) -> str:
        """HASH. Service whose worker was refused -> when (ms) and why. At most 100; expires an hour after the last."""
        return f"{self.prefix}refusals"

    def cursor_secret(self) -> str:
        """STRING. What the API seals its cursors with: 32 random bytes, the same for all its processes."""
        return f"{self.prefix}cursor-secret"
