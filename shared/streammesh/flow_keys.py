"""The keys of flow control: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class FlowKeys:
    """What `Keys` has of it."""

    __slots__ = ()
    prefix: str

    def flows(self) -> str:
        """SET. Task names of subscriptions that have a `flow`. Bounded by the number of subscriptions."""
        return f"{self.prefix}flows"

    def flow(self, task: str) -> str:
        """HASH. Limits of one subscription: `declared` by its manifest, `set` by an operator (JSON), `turn` a number.

        Leaves when neither is there and nothing waits. `_flow.lua` makes names of this and the next ones from the task's.
        """
        return f"{self.prefix}flow:{task}"

    def flow_line(self, task: str) -> str:
        """ZSET. Tasks of one subscription that wait for a place: `KEY\\0RANK TASK`, all of score 0. At most `max_held`."""
        return f"{self.prefix}flow-line:{task}"

    def flow_places(self, task: str) -> str:
        """ZSET. Tasks of one subscription that have a place: `KEY\\0TASK`, all of score 0. Leave with their end."""
        return f"{self.prefix}flow-places:{task}"

    def flow_ready(self, task: str) -> str:
        """ZSET. Keys of one subscription of which a task could start but for the total, by turn."""
        return f"{self.prefix}flow-ready:{task}"

    def flow_slow(self, task: str) -> str:
        """ZSET. Keys of one subscription that start nothing before a time in ms, their score."""
        return f"{self.prefix}flow-slow:{task}"

    def flow_rate(self, task: str) -> str:
        """ZSET. Key -> when its next task would be due in ms if they came evenly. Leaves when that is past."""
        return f"{self.prefix}flow-rate:{task}"

    def flow_until(self, task: str) -> str:
        """ZSET. Keys of one subscription of which events still come -> when they have waited long enough in ms (`debounce`)."""
        return f"{self.prefix}flow-until:{task}"

    def flow_runs(self, task: str) -> str:
        """ZSET. Runs that took what is before them in line: `KEY\\0RANK TASK`, all of score 0. Leave when that is folded."""
        return f"{self.prefix}flow-runs:{task}"

    def folding(self) -> str:
        """SET. Task names of subscriptions that have a `flow_runs`."""
        return f"{self.prefix}folding"

    def of_a_flow(self, task: str) -> list[str]:
        """All keys of one subscription's flow control, its limits first."""
        return [
            *(self.flow(task), self.flow_line(task), self.flow_places(task)),
            *(self.flow_ready(task), self.flow_slow(task), self.flow_rate(task)),
            *(self.flow_until(task), self.flow_runs(task)),
        ]
