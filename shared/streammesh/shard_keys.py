"""The key of what goes to another shard: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class ShardKeys:
    """What `Keys` has of it."""

    __slots__ = ()
    prefix: str

    def outbox(self, shard: int) -> str:
        """STREAM. Events that were published here and belong to another shard. Each leaves when it is stored there."""
        return f"{self.prefix}outbox:{shard}"
