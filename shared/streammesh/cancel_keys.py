"""The keys of events that cancel tasks: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class CancelKeys:
    """What `Keys` has of them."""

    __slots__ = ()
    prefix: str

    def cancellable(self, task: str) -> str:
        """ZSET. Open tasks of one subscription that an event may cancel, by its value. Members leave with their task's end."""
        return f"{self.prefix}cancellable:{task}"

    def canceller(self, task: str, digest: str) -> str:
        """HASH. The newest event that cancels a subscription's tasks with one value (`digest`): what of, and which it did.

        Expires a day after the last such event.
        """
        return f"{self.prefix}canceller:{task}:{digest}"

    def cancelling(self) -> str:
        """ZSET. What is to be cancelled now: `TASK NAME<tab>DIGEST`. Leaves when it is done."""
        return f"{self.prefix}cancelling"
