"""A Context for calling handlers as the functions that they are, without a mesh."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import structlog

from streammesh import names
from streammesh.events.envelope import build
from streammesh.events.publisher import most_bytes
from streammesh.settings import MeshSettings
from streammesh.tasks.context import Context
from streammesh.tasks.task import LedgerAnswer, TaskRef


class TrialContext(Context):
    """One attempt at an event that the test makes up: `TrialContext("order.placed", {"n": 1}, subject="order/1")`.

    What the handler publishes is checked as the mesh would and kept in `follow_ups`, its progress in
    `progressed` as (fraction, text). Nothing is sent anywhere. Raises InvalidEvent for an event that cannot be.
    """

    def __init__(
        self,
        event_type: str = "test.happened",
        data: Any = None,
        *,
        attempt: int = 1,
        task_id: str | None = None,
        service: str = "tests",
        **attributes: Any,
    ) -> None:
        event = build("tests", event_type, data, **attributes)
        ref = TaskRef(task_id or names.new_id(), f"{service}.handler", service, event)
        most = most_bytes(MeshSettings(_env_file=None))
        super().__init__(ref, attempt, lambda *_: LedgerAnswer.DONE, most, structlog.get_logger("tests"))
        self.progressed: list[tuple[float, str]] = []

    def progress(self, fraction: float, text: str = "") -> Awaitable[None]:
        """As the mesh's own, and remembers it."""
        done = super().progress(fraction, text)
        self.progressed.append((fraction, text))
        return done
