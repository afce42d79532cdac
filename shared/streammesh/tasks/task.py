"""What a worker knows of a task: which it is, where its queue entry lies, why an attempt failed, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from streammesh.events.envelope import Event
from streammesh.keys import PRIORITY


class Holder(StrEnum):
    """Who may end a task, where that is not the attempt that runs it (its number is the fencing token)."""

    ANYBODY = "*"
    THIS_ENTRY = "@"  # whoever holds the queue entry that stands for it
    NOBODY = "!"  # if what stands for it lies nowhere
    IN_LINE = "="  # nobody, if it waits for its turn and never started
    ASKED_FIRST = "?"  # nobody; whoever runs it is told that it is wanted cancelled, and ends it


Token = int | str  # an attempt; a Holder; of a batch see `batches/calls.py`


@dataclass(frozen=True)
class TaskRef:
    """What a worker knows of a task before it asks the ledger."""

    task_id: str
    name: str  # `<service>.<handler>`
    service: str
    event: Event

    @property
    def fragment(self) -> str:
        """The event's part of every notification of this task; made once, without the lock of `cached_property`."""
        made: str | None = self.__dict__.get("_fragment")
        if made is None:
            made = self.__dict__["_fragment"] = self.event.fragment
        return made


class QueuePlace(NamedTuple):
    """Where an attempt's queue entry lies; `entry` is empty when the queue is no stream."""

    queue: str
    priority: int = PRIORITY
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as it is shown to people."""

    reason: str
    kind: str  # class of the error
    traceback: str = ""
    refused: bool = False  # the input is at fault and not the service: the breaker does not count it
    by: Mapping[str, str] | None = None  # the event that did it: `id`, `source`, `type`

    def to_dict(self) -> dict[str, Any]:
        """As it is stored and pushed."""
        said: dict[str, Any] = {"reason": self.reason, "kind": self.kind}
        return said if self.by is None else {**said, "by": dict(self.by)}


class LedgerAnswer(StrEnum):
    """What a script answers to a worker that wants to move a task on."""

    DONE = "done"
    CONFLICT = "conflict"  # done; an event with the identity of a follow-up but other content is there
    CANCELLED = "cancelled"  # not done: it is wanted cancelled, and to be ended as such
    ASKED = "asked"  # its worker was told to stop it
    LOST = "lost"  # another holds it by now
    ENDED = "ended"
    GONE = "gone"  # nobody knows it

    @property
    def refused(self) -> AttemptOutcome:
        """What an attempt came to that was answered so, and not `DONE`."""
        return AttemptOutcome.LOST if self is LedgerAnswer.LOST else AttemptOutcome.SKIPPED


class AttemptOutcome(StrEnum):
    """What became of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RETRYING = "retrying"
    WAITING = "waiting"  # its handler does, and no worker
    WORKFLOW = "workflow"  # its handler answered with one, which ends the task
    PARKED = "parked"  # nobody handed it over: a dead letter
    PAUSED = "paused"  # set aside, since its subscription is paused
    SKIPPED = "skipped"  # another holds it through another queue entry, or it had ended
    LOST = "lost"  # another attempt is the current one by now, of this queue entry most often
    NOT_HANDED_OVER = "not handed over"  # and no queue entry is there that could be parked

    @property
    def leaves_entry(self) -> bool:
        """Whether the queue entry is to be left alone: it went in the same step, or is another attempt's now."""
        return self not in (AttemptOutcome.SKIPPED, AttemptOutcome.NOT_HANDED_OVER)
