"""The closed catalogue of notifications: each type, when it is told, and what its `data` may hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class NotificationType:
    """One type. `about`: what it tells of, and so which of `event` and `task` it has; `data`: the members it may have."""

    about: Literal["task", "event", "subscription"]
    when: str
    data: tuple[str, ...] = ()


NOTIFICATIONS: Mapping[str, NotificationType] = MappingProxyType(
    {
        "task.pending": NotificationType(
            "task", "waits in line for its turn, by the limits of its subscription"
        ),
        "task.queued": NotificationType("task", "handed over to a service's queue"),
        "task.started": NotificationType("task", "an attempt began"),
        "task.progress": NotificationType("task", "a handler said how far it is", ("progress", "text")),
        "task.retrying": NotificationType(
            "task", "an attempt failed and there will be another", ("error", "retry_in_seconds")
        ),
        "task.step": NotificationType("task", "a step of a durable handler was recorded", ("step", "kind")),
        "task.waiting": NotificationType(
            "task",
            "a durable handler waits, and no worker with it",
            ("name", "for", "type", "match", "signal", "question", "to", "version", "times", "until"),
        ),
        "task.succeeded": NotificationType("task", "done", ("result", "events", "left_out")),
        "task.failed": NotificationType("task", "gave up; it is a dead letter now", ("error", "left_out")),
        "task.cancelled": NotificationType("task", "ended without being done", ("error", "left_out")),
        "task.expired": NotificationType("task", "ended without being done", ("error", "left_out")),
        "task.skipped": NotificationType(
            "task", "ended at once by the limits of its subscription", ("error",)
        ),
        "task.folded": NotificationType(
            "task", "a run of its key took it; `result` names that run's task as `run`", ("result",)
        ),
        "task.held": NotificationType("task", "its subscription is paused"),
        "event.unrouted": NotificationType("event", "no subscription wanted the event", ("reason",)),
        "event.completed": NotificationType("event", "every task of the event ended", ("tasks", "failed")),
        "subscription.paused": NotificationType(
            "subscription", "the breaker, or a person", ("subscription", "failures", "reason")
        ),
        "subscription.resumed": NotificationType(
            "subscription", "a person", ("subscription", "failures", "reason")
        ),
    }
)
