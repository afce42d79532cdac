"""One-time addresses at which somebody without a key answers one question of a handler, and nothing else.

What such an address may do is sealed with the mesh's secret, not stored: one signal of one task, until a deadline. It is
used once because the first signal of a name counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from streammesh.durable.records import OpenWait, waits_of
from streammesh.tasks.records import TaskRow

from services.api.cursors import Cursors
from services.api.problems import Problem

KIND = "approval"
PATH = "/approvals"
LONGEST = 4_096  # characters of a token


class ApprovalLink(NamedTuple):
    """What an address may answer."""

    task: str
    signal: str
    ends_ms: int


class Approvals:
    """Makes and opens such addresses. One instance per process."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    async def address(self, row: TaskRow) -> str | None:
        """Where the question that a task waits for can be answered; None where it asks nobody anything."""
        name = row.durable.get(b"waiting", b"").decode("utf-8", "replace")
        wait = waits_of(row.durable).get(name)
        if row.state != "waiting" or wait is None or not is_question(wait):
            return None
        said = {"t": row.id, "s": wait.about["signal"], "x": wait.until_ms}
        token = await self._cursors.seal(KIND, orjson.dumps(said).decode())
        return f"{PATH}?token={token}"

    async def open(self, token: str, now_ms: int) -> ApprovalLink | None:
        """What a token may answer; None for what is none, or whose time is over."""
        if not 0 < len(token) <= LONGEST:
            return None
        try:
            said: dict[str, Any] = orjson.loads(await self._cursors.open(KIND, token) or "{}")
        except Problem:
            return None
        if said.get("x", 0) <= now_ms:
            return None
        return ApprovalLink(said["t"], said["s"], said["x"])


def is_question(wait: OpenWait) -> bool:
    """Whether a wait is one of `ctx.approval`, as it is written."""
    about = wait.about
    return (
        about.get("for") == "signal"
        and isinstance(about.get("signal"), str)
        and isinstance(about.get("question"), str)
    )
