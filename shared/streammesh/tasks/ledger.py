"""The ledger: one row per task is the truth about it; Celery is the engine that runs it.

States: `queued -> started <-> retrying -> succeeded | failed | cancelled | expired`. Every move is one
script that is refused when its precondition is gone. This module makes the calls of a task that goes on;
`settlement.py` ends it, `records.py` reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
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
    state: str = ""  # how it ended; of what expired, why its last attempt failed


class Ledger:
    """Builds the ledger's calls for one mesh; running them is the caller's business.

    Claims of one subscription have a `lua.Common`: what comes at the same time travels as one command, in which
    every task is decided about on its own.
    """

    def __init__(self, keys: Keys, settings: MeshSettings) -> None:
        self.keys, self.settings = keys, settings
        self._marks = count()  # of claims
        self._commons: dict[tuple[Any, ...], lua.Common] = {}  # bounded by the number of subscriptions

    def _rows(self, ref: TaskRef) -> list[str]:
        keys = self.keys
        return [keys.task(ref.task_id), keys.event(ref.event.id), keys.notifications()]

    def _told(self, ref: TaskRef) -> list[lua.Arg]:
        event = ref.event
        return [event.source, event.id, event.type, event.subject or "", ref.service, ref.task_id]

    def _claims(self, ref: TaskRef, place: QueuePlace, worker: str) -> lua.Common:
        key = (ref.name, ref.service, place.queue, place.priority, worker)
        common = self._commons.get(key)
        if common is None:
            keys, settings = self.keys, self.settings
            common = self._commons[key] = lua.Common(
                lua.script("claim"),
                [
                    *(keys.notifications(), keys.queue(place.queue, place.priority), keys.paused()),
                    *(keys.held(ref.name), keys.holding()),
                ],
                [
                    *(worker, WORKERS, settings.notifications_kept, ms(settings.lease)),
                    *(ref.service, ref.name, notifications.task_rest(ref.name, ref.service)),
                    1 if settings.broker_url else "",
                ],
            )
        return common

    def claim(self, ref: TaskRef, place: QueuePlace, worker: str) -> lua.Call[Claim]:
        """`claim.lua`: start an attempt, if this worker may. Made again, the same call answers the same."""
        common, event = self._claims(ref, place, worker), ref.event
        return lua.Call(
            common.script,
            (self.keys.task(ref.task_id), self.keys.event(event.id)),
            (
                *(place.entry, event.source, event.id, event.type, event.subject or "", ref.task_id),
                f'{ref.fragment},"task":{{"id":{_json(ref.task_id)}',
                f"{os.getpid():x}.{next(self._marks):x}",
            ),
            _parse_claim,
            common,
        )

    def retry_later(
        self, ref: TaskRef, place: QueuePlace, attempt: int, wait: timedelta, failure: Failure
    ) -> lua.Call[LedgerAnswer]:
        """`retry_later.lua`: end this attempt and set the next. Answers `done`, `lost` or `cancelled`."""
        keys = self.keys
        data = {"error": failure.to_dict(), "retry_in_seconds": round(wait.total_seconds(), 3)}
        return lua.Call(
            lua.script("retry_later"),
            [*self._rows(ref), keys.queue(place.queue, place.priority), keys.due(), keys.due_entries()],
            [
                *(attempt, ms(wait), orjson.dumps({"error": failure.to_dict()}), place.entry, WORKERS),
                self.settings.notifications_kept,
                notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, data),
                *self._told(ref),
                *(keys.queue(place.queue, place.priority), keys.manifests_changed()),
            ],
            _answer,
        )

    def progress(self, ref: TaskRef, attempt: int, fraction: float, text: str) -> lua.Call[LedgerAnswer]:
        """`progress.lua`: say how far a delivery is, which never goes back. Answers `done` or `lost`."""
        return lua.Call(
            lua.script("progress"),
            self._rows(ref),
            [
                *(attempt, orjson.dumps(round(fraction, 4)), self.settings.notifications_kept),
                notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, {})[
                    : -len("{}")
                ],
                *self._told(ref),
                orjson.dumps(text),
            ],
            _answer,
        )

    def drain(self, task_id: str, place: QueuePlace) -> lua.Call[bool]:
        """`drain.lua`: this worker stops and gives the task back; answers whether it runs there."""
        return lua.Call(lua.script("drain"), [self.keys.task(task_id)], [place.entry], bool)

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
        args: list[lua.Arg] = [attempt, place.entry, WORKERS, workflow, ms(self.settings.retention) * 2]
        for _, h, b in entries:
            args += [h, b]
        return lua.Call(
            lua.script("start_workflow"),
            [
                self.keys.task(ref.task_id),
                self.keys.queue(place.queue, place.priority),
                *(key for key, _, _ in entries),
            ],
            args,
            _answer,
        )


def _parse_claim(answer: list[Any]) -> Claim:
    verdict = Verdict(answer[0].decode())
    if verdict is Verdict.RUN:
        return Claim(verdict, int(answer[1]), int(answer[2]))
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
