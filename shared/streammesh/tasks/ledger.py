"""The ledger: one row per task is the truth about it; Celery is the engine that runs it.

States: `queued -> started <-> retrying -> succeeded | failed | cancelled | expired`. Every move is one
script that is refused when its precondition is gone. This module makes those calls; `rows.py` reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Literal, NamedTuple

import orjson
import structlog

from streammesh import lua, notifications, plain_json
from streammesh.events.envelope import Event
from streammesh.events.publisher import ms, stored_form
from streammesh.keys import PRIORITY, WORKERS, Keys
from streammesh.settings import MeshSettings

log = structlog.get_logger(__name__)

Token = int | Literal["*", "@"]
ANYBODYS: Literal["*"] = "*"  # ends a task whoever holds it
THIS_ENTRYS: Literal["@"] = "@"  # ends it if this queue entry is the one that stands for it


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
            made = self.__dict__["_fragment"] = notifications.event_fragment(self.event)
        return made


class QueuePlace(NamedTuple):
    """Where an attempt's queue entry lies; `entry` is empty when the queue is no stream."""

    queue: str
    priority: int = PRIORITY
    entry: str = ""


class Claim(NamedTuple):
    """The ledger's answer to "may I start?": `run` with a token, or why not."""

    verdict: Literal["run", "ended", "held", "expired", "gone", "cancelled", "paused"]
    attempt: int = 0
    lost: int = 0  # attempts that ended because their worker died
    state: str = ""  # how it ended; of what expired, why its last attempt failed


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as it is shown to people."""

    reason: str
    kind: str  # class of the error
    traceback: str = ""
    refused: bool = False  # the input is at fault and not the service: the breaker does not count it

    def to_dict(self) -> dict[str, Any]:
        """As it is stored and pushed."""
        return {"reason": self.reason, "kind": self.kind}


class Ledger:
    """Builds the ledger's calls for one mesh; running them is the caller's business.

    Claims of one subscription have a `lua.Common`, and so have finishes: what comes at the same time travels
    as one command, in which every task is decided about on its own.
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

    def _finishes(self, ref: TaskRef, place: QueuePlace, keep: timedelta | None, breaker: bool) -> lua.Common:
        key = (ref.name, ref.service, place.queue, place.priority, keep, breaker)
        common = self._commons.get(key)
        if common is None:
            keys, settings, service = self.keys, self.settings, ref.service
            common = self._commons[key] = lua.Common(
                lua.script("finish"),
                [
                    *(keys.notifications(), keys.queue(place.queue, place.priority), keys.tasks_recent()),
                    *(keys.open_tasks(service), keys.dead(service), keys.dead_index(service)),
                    *(keys.dead_entries(service), keys.dead_services(), keys.failures(), keys.paused()),
                    *(keys.domains(), keys.due(), keys.due_entries(), keys.counters()),
                ],
                [
                    *(WORKERS, settings.notifications_kept, service, ref.name),
                    *(ms(keep or settings.result_ttl), ms(settings.remembered), settings.dead_letters_kept),
                    *(keys.manifests_changed(), settings.breaker_failures if breaker else 0),
                    notifications.task_rest(ref.name, service),
                ],
            )
        return common

    def finish(
        self,
        ref: TaskRef,
        place: QueuePlace,
        attempt: Token,
        state: str,
        *,
        result: Any = None,
        failure: Failure | None = None,
        follow_ups: Sequence[Event] = (),
        keep: timedelta | None = None,
        dead_letter: Mapping[str, Any] | None = None,
        breaker: bool = True,
    ) -> lua.Call[str]:
        """`finish.lua`: end a task with its outcome and all that follows from it, in one step.

        `attempt` is the token of the claim, or ANYBODYS, or THIS_ENTRYS. Answers `done`, `lost` (the token
        is no longer the current one, nothing was changed), `ended` (it had ended otherwise) or `cancelled`
        (it should fail, and is wanted cancelled: finish it so). Without `breaker`, or when the input was refused, its
        dead letter does not count towards the pause of its subscription.
        The outcome names the follow-up events, so that who sees the end of a task can follow what it led to.
        """
        counts = breaker and not (failure and failure.refused)
        common, event = self._finishes(ref, place, keep, counts), ref.event
        outcome: dict[str, Any] = {"error": failure.to_dict()} if failure else {"result": result}
        if follow_ups:
            outcome["events"] = [{"id": e.id, "source": e.source, "type": e.type} for e in follow_ups]
        names_ = [self.keys.task(ref.task_id), self.keys.event(event.id)]
        args: list[lua.Arg] = [
            *(attempt, state, plain_json.dumps(outcome), place.entry),
            *(event.source, event.id, event.type, event.subject or "", ref.task_id),
            *(ref.fragment, _json(ref.task_id)),
        ]
        if dead_letter:
            args += [plain_json.dumps(dead_letter), event.to_json(), len(follow_ups)]
        else:
            args += ["", len(follow_ups)]
        for follow_up in follow_ups:
            stored = stored_form(self.keys, follow_up)
            names_ += stored.keys
            args += stored.args
        return lua.Call(common.script, names_, args, _parse_finish, common)

    def retry_later(
        self, ref: TaskRef, place: QueuePlace, attempt: int, wait: timedelta, failure: Failure
    ) -> lua.Call[str]:
        """`retry_later.lua`: end this attempt and set the next. Answers `done`, `lost` or `cancelled`."""
        keys = self.keys
        data = {"error": failure.to_dict(), "retry_in_seconds": round(wait.total_seconds(), 3)}
        fragment = ref.fragment
        return lua.Call(
            lua.script("retry_later"),
            [*self._rows(ref), keys.queue(place.queue, place.priority), keys.due(), keys.due_entries()],
            [
                *(attempt, ms(wait), orjson.dumps({"error": failure.to_dict()}), place.entry, WORKERS),
                self.settings.notifications_kept,
                notifications.body(fragment, ref.task_id, ref.name, ref.service, attempt, data),
                *self._told(ref),
                *(keys.queue(place.queue, place.priority), keys.manifests_changed(), "", ""),
            ],
            lambda answer: str(answer[0].decode()),
        )

    def progress(self, ref: TaskRef, attempt: int, fraction: float, text: str) -> lua.Call[str]:
        """`progress.lua`: say how far a delivery is, which never goes back. Answers `done` or `lost`."""
        fragment = ref.fragment
        return lua.Call(
            lua.script("progress"),
            self._rows(ref),
            [
                *(attempt, orjson.dumps(round(fraction, 4)), self.settings.notifications_kept),
                notifications.body(fragment, ref.task_id, ref.name, ref.service, attempt, {})[: -len("{}")],
                *self._told(ref),
                orjson.dumps(text),
            ],
            lambda answer: str(answer[0].decode()),
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
    ) -> lua.Call[str]:
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
            lambda answer: str(answer[0].decode()),
        )


def dead_letter(
    ref: TaskRef, failure: Failure, attempt: int, at_ms: int, place: QueuePlace
) -> dict[str, Any]:
    """What is parked when a task gives up: why. `finish.lua` keeps the queue entry, with the whole envelope, beside it."""
    event = ref.event
    return {
        "form": "task",
        "id": ref.task_id,
        "service": ref.service,
        "task": ref.name,
        "queue": place.queue,
        "priority": place.priority,
        "reason": failure.reason,
        "kind": failure.kind,
        "detail": failure.traceback,
        "attempts": attempt,
        "at": at_ms,
        "event": {"id": event.id, "type": event.type, "source": event.source, "subject": event.subject},
    }


def _parse_claim(answer: list[Any]) -> Claim:
    verdict = answer[0].decode()
    if verdict == "run":
        return Claim("run", int(answer[1]), int(answer[2]))
    if verdict == "expired":
        outcome = orjson.loads(answer[2]) if answer[2] else {}
        return Claim("expired", int(answer[1]), state=(outcome.get("error") or {}).get("reason", ""))
    return Claim(verdict, state=answer[1].decode("utf-8", "replace") if len(answer) > 1 else "")


def _parse_finish(answer: bytes) -> str:
    if answer == b"conflict":
        log.error(
            "event.conflict", reason="an event with the identity of a follow-up but other content exists"
        )
        return "done"
    return answer.decode()


def _json(text: str) -> str:
    return orjson.dumps(text).decode()
