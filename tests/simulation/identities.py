"""Publishing and reading are linearizable for each identity: some order of all calls, each somewhere between its
beginning and its answer, explains every answer. The search is Wing and Gong's, of `detangle.lin`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from detangle.lin import Model, Operation

NOT_THERE, SOMEWHERE = "", "?"  # an entry of which no answer has told yet where it lies


class Identities(Model):
    """`publish(id)` -> where it lies, the first one's place for ever; `read(id)` -> the same, or "" before."""

    name = "identities"

    def init(self) -> Hashable:
        """Return the state before anything was published."""
        return NOT_THERE

    def step(self, state: Any, op: Operation) -> tuple[bool, Any]:
        """Return whether an answer is right in a state, and the state after it."""
        if op.status != "ok":  # nobody was answered: it may have been done
            return True, (state or SOMEWHERE) if op.f == "publish" else state
        if op.f == "read" and op.output == NOT_THERE:
            return state == NOT_THERE, state
        if state == SOMEWHERE or (state == NOT_THERE and op.f == "publish"):
            return True, op.output
        return state == op.output, state

    def partition(self, operations: Sequence[Operation]) -> list[list[Operation]]:
        """Return the calls about each identity, which have nothing to do with each other."""
        of: dict[Any, list[Operation]] = {}
        for operation in operations:
            of.setdefault(operation.arg, []).append(operation)
        return list(of.values())
