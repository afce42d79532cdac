"""One attempt of a run that took other tasks along, step by step, as `tasks/attempt.py` has it for one task.

What if SIGKILL here? The queue entry is pending and taken over, and whoever claims it reads anew who of the others has not
ended. All that succeeded end in one step; what failed was given back before, and is no part of the batch any more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from streammesh.batches.calls import BatchCalls, BatchMember, Return
from streammesh.batches.list_handler import BatchBinding, BatchContext
from streammesh.errors import Fail, Failed, LeaseLost, Misfit, ResultTooLarge, Stopped
from streammesh.events.publisher import most_bytes
from streammesh.lua import Call
from streammesh.names import TaskState, is_task_of
from streammesh.tasks.attempt import Handle, Steps, claimed_steps, refused_steps
from streammesh.tasks.ledger import Claim, Verdict
from streammesh.tasks.settlement import CONFLICT, Ask, Cause, Ending, Settled, Terms
from streammesh.tasks.task import AttemptOutcome, LedgerAnswer, QueuePlace, TaskRef
from streammesh.tasks.verdict import GiveUp, after_error, describe, lost_too_often

log: FilteringBoundLogger = structlog.get_logger(__name__)
AT_ONCE = timedelta(0)
Fate = Return | Ending  # of one task


def batch_steps(
    terms: Terms,
    ref: TaskRef,
    place: QueuePlace,
    worker: str,
    act: Callable[[Call[LedgerAnswer]], Any],
    binding: BatchBinding,
    read: Callable[[str, bytes], TaskRef],
) -> Steps:
    """The steps of one attempt; their value is what became of the run's own task. `read`: who a queue entry's body is about."""
    if not is_task_of(ref.task_id, ref.service):
        return (yield from refused_steps(terms, ref, place, Claim(Verdict.GONE)))
    claim = yield Ask(terms.ledger.claim(ref, place, worker))
    if claim.verdict is not Verdict.RUN:
        return (yield from refused_steps(terms, ref, place, claim))
    calls = BatchCalls(terms, ref, place, claim.attempt)
    taken = yield Ask(calls.read())
    if taken is None:
        return AttemptOutcome.LOST
    if not taken:
        return (yield from claimed_steps(terms, ref, place, claim, act))
    members = [
        BatchMember(ref, claim.attempt),
        *(BatchMember(read(one.id, one.body), one.attempts + 1) for one in taken),
    ]
    batch = _Batch(terms, calls, members)
    hopeless = lost_too_often(claim.lost)
    if hopeless:  # one of them may be at fault: each is a run of its own then
        return (yield from batch.end([Return(one, hopeless.failure, AT_ONCE, True) for one in members]))
    fates: list[Fate | None] = []
    payloads = []
    for one in members:
        try:
            payloads.append(binding.payload_for(one.ref.event))
            fates.append(None)
        except Misfit as error:  # as a run of its own it is a dead letter, or another edition's
            fates.append(Return(one, describe(error), AT_ONCE, True))
    fit = [number for number, fate in enumerate(fates) if fate is None]
    context = BatchContext(
        ref,
        claim.attempt,
        partial(_progress, terms, act, ref, claim.attempt),
        most_bytes(terms.ledger.settings),
        log,
    )
    context.give([members[number].ref.task_id for number in fit], payloads)
    try:
        result = (yield Handle(context)) if fit else None
        if terms.is_workflow(result):
            raise Fail("a handler of batches cannot answer with a workflow")
        found = batch.succeeded([members[number] for number in fit], result, context)
    except Stopped:
        return (
            yield from terms.settle(ref, place, claim.attempt, Ending.cancelled(), {"attempt": claim.attempt})
        )
    except LeaseLost:
        log.warning("task.lease_lost", attempt=claim.attempt)
        return AttemptOutcome.LOST
    except Failed as failed:
        found = batch.failed([members[number] for number in fit], failed, context)
    except Exception as error:
        found = batch.raised([members[number] for number in fit], error)
    for number, fate in zip(fit, found, strict=True):
        fates[number] = fate
    return (yield from batch.end([fate for fate in fates if fate is not None]))


def _progress(
    terms: Terms,
    act: Callable[[Call[LedgerAnswer]], Any],
    ref: TaskRef,
    attempt: int,
    fraction: float,
    text: str,
) -> Any:
    return act(terms.ledger.progress(ref, attempt, fraction, text))


class _Batch:
    """What becomes of each of some tasks, the run's own first."""

    def __init__(self, terms: Terms, calls: BatchCalls, members: Sequence[BatchMember]) -> None:
        self._terms, self._calls, self._members = terms, calls, members

    def succeeded(self, members: Sequence[BatchMember], result: Any, context: BatchContext) -> list[Fate]:
        """The first of them is what succeeded, and the others name it. Raises nothing for a result that cannot be told."""
        if not members:
            return []
        first = Ending.success(result, context.follow_ups)
        try:
            self._calls.end([(members[0], first)])  # only to see whether it can be stored
        except (TypeError, ResultTooLarge) as error:
            return self.raised(members, Fail(str(error)))
        return [first, *(Ending.folded(members[0].ref.task_id) for _ in members[1:])]

    def failed(self, members: Sequence[BatchMember], failed: Failed, context: BatchContext) -> list[Fate]:
        """Those that are named failed each by itself; the others succeeded."""
        good = [number for number in range(len(members)) if number not in failed.errors]
        fates: list[Fate | None] = [None] * len(members)
        for number, fate in zip(good, self.succeeded([members[n] for n in good], None, context), strict=True):
            fates[number] = fate
        for number in failed.errors:
            fates[number] = self._again(members[number], failed.error(number))
        return [fate for fate in fates if fate is not None]

    def raised(self, members: Sequence[BatchMember], error: Exception) -> list[Fate]:
        """All are tried again together; one that would be given up is tried by itself before, since another may be at fault."""
        fates: list[Fate] = []
        random = self._terms.random()
        for one in members:
            decision = after_error(error, one.attempt, self._terms.policy, random)
            wait = AT_ONCE if isinstance(decision, GiveUp) else decision.wait
            fates.append(Return(one, decision.failure, wait, isinstance(decision, GiveUp)))
        return fates

    def _again(self, member: BatchMember, error: Exception) -> Fate:
        decision = after_error(error, member.attempt, self._terms.policy, self._terms.random())
        if isinstance(decision, GiveUp):
            return Ending.failed(decision.failure, Cause.GAVE_UP)
        return Return(member, decision.failure, decision.wait)

    def end(self, fates: Sequence[Fate]) -> Generator[Ask, Any, AttemptOutcome]:
        """Make it so: what goes back first, and the run's own task last, which ends the attempt's right to the others."""
        pairs = [*zip(self._members, fates, strict=True)]
        run, own = pairs[0]
        others = [fate for _, fate in pairs[1:] if isinstance(fate, Return)]
        if others:
            answer: LedgerAnswer = yield Ask(self._calls.give_back(others))
            if answer is not LedgerAnswer.DONE:
                return answer.refused
        for member, fate in pairs[1:]:
            if isinstance(fate, Ending) and fate.failure:
                yield Ask(self._calls.end([(member, fate)]))
        good = [(member, fate) for member, fate in pairs[1:] if isinstance(fate, Ending) and not fate.failure]
        log.info("batch.ended", tasks=len(pairs), given_back=len(others) + isinstance(own, Return))
        is_run_good = isinstance(own, Ending) and not own.failure  # then all that succeeded end in one step
        while good and not is_run_good:
            first, *_ = yield Ask(self._calls.end(good))
            _tell_conflict(first)
            if (
                first.answer not in (LedgerAnswer.ENDED, LedgerAnswer.GONE)
                or first.state is TaskState.SUCCEEDED
            ):
                break
            good = _named_by_the_next(good)
        if isinstance(own, Return):
            answer = yield Ask(self._calls.give_back([own]))
            if answer is LedgerAnswer.CANCELLED:
                [settled] = yield Ask(self._calls.end([(run, Ending.cancelled())]))
                return (
                    AttemptOutcome.CANCELLED
                    if settled.answer is LedgerAnswer.DONE
                    else settled.answer.refused
                )
            return AttemptOutcome.RETRYING if answer is LedgerAnswer.DONE else answer.refused
        *_, settled = yield Ask(self._calls.end([*(good if is_run_good else ()), (run, own)]))
        _tell_conflict(settled)
        if settled.answer not in (LedgerAnswer.DONE, LedgerAnswer.CONFLICT):
            refused: AttemptOutcome = settled.answer.refused
            return refused
        return AttemptOutcome(settled.state)


def _named_by_the_next(good: Sequence[tuple[BatchMember, Ending]]) -> list[tuple[BatchMember, Ending]]:
    """The first of those that succeeded was cancelled meanwhile: what it would have had the next one has."""
    (_, success), *rest = good
    endings = [success, *(Ending.folded(rest[0][0].ref.task_id) for _ in rest[1:])]
    return [(member, ending) for (member, _), ending in zip(rest, endings, strict=False)]


def _tell_conflict(settled: Settled) -> None:
    if settled.answer is LedgerAnswer.CONFLICT:
        log.error("event.conflict", reason=CONFLICT)
