"""The keys of what durable handlers wait for and stream: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class DurableKeys:
    """What `Keys` has of them."""

    __slots__ = ()
    prefix: str

    def arrived(self, service: str, digest: str) -> str:
        """ZSET. Events that the service's handlers may wait for, with the same values at the same paths (`digest`).

        Score = when it was published: ms and the number of its entry. The newest 100; expires a day after the last.
        """
        return f"{self.prefix}arrived:{service}:{digest}"

    def waiters(self, service: str, digest: str) -> str:
        """ZSET. Runs that wait for such an event. Score = after which one. Expires with the last of their deadlines."""
        return f"{self.prefix}waiters:{service}:{digest}"

    def waking(self, service: str) -> str:
        """ZSET. Tasks that end waits of a service's handlers, score = when their event was published, as in `arrived`.

        `_handover.lua` and `settle.lua` make its name; a task leaves when it ends.
        """
        return f"{self.prefix}waking:{service}"

    def chunks(self, task_id: str, name: str) -> str:
        """STREAM. What a task's handler streams to clients under a name; id = epoch and number of the chunk.

        `_chunks.lua` makes it from the row's key. Leaves with the row; bounded: `durable.chunks.MOST_CHUNKS`.
        """
        return f"{self.prefix}chunks:{task_id}:{name}"

    def chunks_written(self) -> str:
        """CHANNEL. Rung with a task's id when a stream of it goes on or ends; `_chunks.lua` makes its name."""
        return f"{self.prefix}chunks-written"
