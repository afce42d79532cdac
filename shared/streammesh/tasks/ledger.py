"""The ledger: one row per task is the truth about it; Celery is the engine that runs it.

States: `queued -> started <-> retrying -> succeeded | failed | cancelled | expired`. Every move is one
script that is refused when its precondition is gone. This module makes the calls of a task that goes on;
`settlement.py` ends it, `records.py` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
from streammesh.lua.signature import quick
from streammesh.lua.tasks import (
    ClaimedTask,
    ClaimScript,
    DrainScript,
    ProgressScript,
    RetryLaterScript,
    StartWorkflowScript,
    WorkflowMessage,
)
from streammesh.settings import MeshSettings
from streammesh.tasks.task import Failure, LedgerAnswer, QueuePlace, TaskRef


class Verdict(StrEnum):
    """The ledger's answer to "may I start?"."""

    RUN = "run"
    ENDED = "ended"
    HELD = "held"  # by another worker, or until its next attempt is due
    EXPIRED = "expired"
    GONE = "gone"
    CANCELLED = "cancelled"  # wanted so while a worker ran it that is gone: to be ended
    PAUSED = "paused"  # was set aside


class Claim(NamedTuple):
    """The verdict, and with `run` the token: the number of the attempt."""

    verdict: Verdict
    attempt: int = 0
    lost: int = 0  # attempts that ended because their worker died
    row: Mapping[
        bytes, bytes
    ] = {}  # all of it, where a durable handler has steps or waits, or an edition could not read it
    state: str = ""  # how it ended; of what expired, why its last attempt failed

    @property
    def waits(self) -> int:
        """How many attempts ended because their handler waits: these were no failures."""
        text = self.row.get(b"waits", b"")
        return int(text) if text.isdigit() and len(text) < 10 else 0


_claimed = quick(ClaimedTask)


class Ledger:
    """Builds the ledger's calls for one mesh; running them is the caller's business.

    Claims of one subscription have a `lua.Common`: what comes at the same time travels as one command, in which
    every task is decided about on its own.
    """

    def __init__(self, keys: Keys, settings: MeshSettings) -> None:
        self.keys, self.settings = keys, settings
        self._marks = count()  # of claims
        self._commons: dict[tuple[Any, ...], lua.Common] = {}  # bounded by the number of subscriptions

    def _claims(self, ref: TaskRef, place: QueuePlace, worker: str) -> lua.Common:
        key = (ref.name, ref.service, place.queue, place.priority, worker)
        common = self._commons.get(key)
        if common is None:
            keys, settings = self.keys, self.settings
            common = self._commons[key] = ClaimScript(
                notifications=keys.notifications(),
                queue=keys.queue(place.queue, place.priority),
                paused=keys.paused(),
                held=keys.held(ref.name),
                holding=keys.holding(),
                worker=worker,
                group=WORKERS,
                kept=settings.notifications_bound,
                lease=ms(settings.lease),
                service=ref.service,
                name=ref.name,
                rest=notifications.task_rest(ref.name, ref.service),
                is_carried=bool(settings.broker_url),
            ).common()
        return common

    def claim(self, ref: TaskRef, place: QueuePlace, worker: str) -> lua.Call[Claim]:
        """`claim.lua`: start an attempt, if this worker may. Made again, the same call answers the same."""
        common, event = self._claims(ref, place, worker), ref.event
        return _claimed(
            task=self.keys.task(ref.task_id),
            event_row=self.keys.event(event.id),
            entry=place.entry,
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            id=ref.task_id,
            head=f'{ref.fragment},"task":{{"id":{_json(ref.task_id)}',
            mark=f"{os.getpid():x}.{next(self._marks):x}",
        ).call(common, _parse_claim)

    def retry_later(
        self,
        ref: TaskRef,
        place: QueuePlace,
        attempt: int,
        wait: timedelta,
        failure: Failure,
        unfit: Iterable[str] = (),
    ) -> lua.Call[LedgerAnswer]:
        """`retry_later.lua`: end this attempt and set the next. Answers `done`, `lost` or `cancelled`.

        `unfit`: digests of schemas that the payload does not fit, where that is why; then no attempt is used up.
        """
        keys, event = self.keys, ref.event
        data = {"error": failure.to_dict(), "retry_in_seconds": round(wait.total_seconds(), 3)}
        return RetryLaterScript(
            task_row=keys.task(ref.task_id),
            event_row=keys.event(event.id),
            notifications=keys.notifications(),
            queue=keys.queue(place.queue, place.priority),
            due=keys.due(),
            due_entries=keys.due_entries(),
            token=attempt,
            wait=ms(wait),
            failure=orjson.dumps({"error": failure.to_dict()}),
            entry=place.entry,
            group=WORKERS,
            kept=self.settings.notifications_bound,
            body=notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, data),
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            service=ref.service,
            task=ref.task_id,
            changed=keys.manifests_changed(),
            unfit=" ".join(unfit),
        ).call(_answer)

    def progress(self, ref: TaskRef, attempt: int, fraction: float, text: str) -> lua.Call[LedgerAnswer]:
        """`progress.lua`: say how far a delivery is, which never goes back. Answers `done` or `lost`."""
        event = ref.event
        body = notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, {})
        return ProgressScript(
            task_row=self.keys.task(ref.task_id),
            event_row=self.keys.event(event.id),
            notifications=self.keys.notifications(),
            token=attempt,
            fraction=orjson.dumps(round(fraction, 4)),
            kept=self.settings.notifications_bound,
            body=body.removesuffix("{}"),
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            service=ref.service,
            task=ref.task_id,
            text=orjson.dumps(text),
        ).call(_answer)

    def drain(self, task_id: str, place: QueuePlace) -> lua.Call[bool]:
        """`drain.lua`: this worker stops and gives the task back; answers whether it runs there."""
        return DrainScript(task_row=self.keys.task(task_id), entry=place.entry).call(bool)

    def start_workflow(
        self,
        ref: TaskRef,
        place: QueuePlace,
        attempt: int,
        workflow: str,
        entries: Sequence[tuple[str, bytes, bytes]],
    ) -> lua.Call[LedgerAnswer]:
        """`start_workflow.lua`: queue a workflow's first tasks, (queue key, h, b) each, in place of the handler.

        Answers `done`, `lost` or `cancelled`.
        """
        return StartWorkflowScript(
            task_row=self.keys.task(ref.task_id),
            queue=self.keys.queue(place.queue, place.priority),
            token=attempt,
            entry=place.entry,
            group=WORKERS,
            workflow=workflow,
            lifetime=ms(self.settings.retention) * 2,
            messages=[WorkflowMessage(queue=key, h=h, b=b) for key, h, b in entries],
        ).call(_answer)


_VERDICTS = {verdict.value.encode(): verdict for verdict in Verdict}


def _parse_claim(answer: list[Any]) -> Claim:
    verdict = _VERDICTS[answer[0]]
    if verdict is Verdict.RUN:
        row = dict(zip(answer[3][::2], answer[3][1::2], strict=True)) if len(answer) > 3 else {}
        return Claim(verdict, int(answer[1]), int(answer[2]), row)
    if verdict is Verdict.EXPIRED:
        return Claim(verdict, int(answer[1]), state=_reason_of(answer[2]))
    return Claim(verdict, state=answer[1].decode("utf-8", "replace") if len(answer) > 1 else "")


def _answer(raw: list[Any]) -> LedgerAnswer:
    return LedgerAnswer(raw[0].decode())


def _reason_of(outcome: bytes) -> str:
    """Why an attempt failed, from what the row says of it; nothing where that cannot be read."""
    try:
        return str(orjson.loads(outcome)["error"]["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def _json(text: str) -> str:
    return orjson.dumps(text).decode()
