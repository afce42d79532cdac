"""The calls of an attempt that has several tasks: who they are, and how each ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS
from streammesh.lua.flow import GiveBackScript, GivenBack, ReadBatchScript
from streammesh.tasks.settlement import Ending, Settled, Terms
from streammesh.tasks.task import Failure, LedgerAnswer, QueuePlace, TaskRef


class TakenAlong(NamedTuple):
    """A task that was taken along: its id, the attempts that it had before, and the body of its queue entry."""

    id: str
    attempts: int
    body: bytes


class BatchMember(NamedTuple):
    """A task of a batch, and the number of its attempt."""

    ref: TaskRef
    attempt: int


class Return(NamedTuple):
    """A task that goes back: why, after which time, and whether it is a run of its own then."""

    member: BatchMember
    failure: Failure
    wait: timedelta
    is_alone: bool = False


class BatchCalls:
    """Calls of one attempt, by its token; a script refuses each where another holds its queue entry."""

    def __init__(self, terms: Terms, ref: TaskRef, place: QueuePlace, attempt: int) -> None:
        self._terms, self._ledger = terms, terms.ledger
        self._ref, self._place, self._attempt = ref, place, attempt

    def read(self) -> lua.Call[list[TakenAlong] | None]:
        """`read_batch.lua`: who was taken along; None where the attempt is not the current one."""
        return ReadBatchScript(
            row=self._ledger.keys.task(self._ref.task_id),
            task=self._ref.task_id,
            token=self._attempt,
            entry=self._place.entry,
        ).call(_taken)

    def give_back(self, returns: Sequence[Return]) -> lua.Call[LedgerAnswer]:
        """`give_back.lua`: they wait, and stand in line again. With the run's own task, which is the last, all is over."""
        keys, settings, ref = self._ledger.keys, self._ledger.settings, self._ref
        common = GiveBackScript(
            run_row=keys.task(ref.task_id),
            queue=keys.queue(self._place.queue, self._place.priority),
            notifications=keys.notifications(),
            due=keys.due(),
            due_entries=keys.due_entries(),
            run=ref.task_id,
            token=self._attempt,
            entry=self._place.entry,
            group=WORKERS,
            kept=settings.notifications_bound,
            service=ref.service,
            changed=keys.manifests_changed(),
        ).common()
        calls = [self._given_back(one).call(common, LedgerAnswer) for one in returns]
        return lua.together(calls, lambda answer: LedgerAnswer(answer.decode()))

    def _given_back(self, one: Return) -> GivenBack:
        keys, (ref, attempt) = self._ledger.keys, one.member
        data = {"error": one.failure.to_dict(), "retry_in_seconds": round(one.wait.total_seconds(), 3)}
        return GivenBack(
            row=keys.task(ref.task_id),
            event_row=keys.event(ref.event.id),
            id=ref.task_id,
            wait=ms(one.wait),
            failure=orjson.dumps({"error": one.failure.to_dict()}),
            is_alone=one.is_alone,
            body=notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, data),
            source=ref.event.source,
            event=ref.event.id,
            event_type=ref.event.type,
            subject=ref.event.subject or "",
        )

    def end(self, endings: Sequence[tuple[BatchMember, Ending]]) -> lua.Call[list[Settled]]:
        """`settle.lua`: end these in one step."""
        return lua.together([self._ending(member, ending) for member, ending in endings])

    def _ending(self, member: BatchMember, ending: Ending) -> lua.Call[Settled]:
        terms, is_run = self._terms, member.ref.task_id == self._ref.task_id
        return terms.settlement.call(
            member.ref,
            self._place if is_run else self._place._replace(entry=""),
            self._attempt if is_run else f"+{self._ref.task_id} {self._attempt} {self._place.entry}",
            ending,
            attempts=member.attempt,
            keep=terms.keep,
            breaker=terms.breaker,
        )


def _taken(answer: list[bytes]) -> list[TakenAlong] | None:
    if answer == [b"lost"]:
        return None
    return [
        TakenAlong(task.decode("utf-8", "replace"), int(attempts) if attempts.isdigit() else 0, body)
        for task, attempts, body in zip(*[iter(answer)] * 3, strict=True)
    ]
