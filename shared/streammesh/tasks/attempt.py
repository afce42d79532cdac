"""One attempt of one delivery, step by step, without doing I/O itself.

`attempt_steps` is a generator: it yields what is to be done (a ledger call, the handler) and is sent
the answer, so the same steps serve async handlers on a loop and sync handlers in worker processes.
What if SIGKILL here? Before the claim: the queue entry is pending and taken over. After it: taken
over too, with the next token. After `finish`: the entry is gone, the outcome is there. Between the
handler's last line and `finish`: the handler runs again; `ctx.task_id` is the same then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

import structlog
from structlog.typing import FilteringBoundLogger

from streammesh import names
from streammesh.errors import LeaseLost, Misfit, ResultTooLarge, Stopped
from streammesh.events.publisher import most_bytes
from streammesh.lua import Call
from streammesh.tasks.context import Context
from streammesh.tasks.dead_letter import park_call
from streammesh.tasks.ledger import Claim, Verdict
from streammesh.tasks.settlement import Ask, Cause, Ending, Terms, attempt_failed
from streammesh.tasks.suspension import OpenRun, Suspended
from streammesh.tasks.task import AttemptOutcome, Failure, Holder, LedgerAnswer, QueuePlace, TaskRef
from streammesh.tasks.verdict import describe, lost_too_often

NOT_HANDED_OVER = Failure(
    "the ledger knows no such task: nobody handed it over, or its record was lost", "NotHandedOver"
)
log: FilteringBoundLogger = structlog.get_logger(__name__)


class Handle(NamedTuple):
    """Call the handler and send what it returns, or throw what it raises."""

    context: Context


class Workflow(NamedTuple):
    """The handler answered with a Celery signature: queue it in place of the handler; send whether that went well."""

    signature: Any
    context: Context


Step = Ask | Handle | Workflow
Steps = Generator[Step, Any, AttemptOutcome]


def attempt_steps(
    terms: Terms,
    ref: TaskRef,
    place: QueuePlace,
    worker: str,
    act: Callable[[Call[LedgerAnswer]], Any],
    open_run: OpenRun | None = None,
) -> Steps:
    """The steps of one attempt; their value is what became of it. `act` makes a call that need not get through."""
    if not names.is_task_of(ref.task_id, ref.service):  # the ledger would say the same, where it may be asked
        return (yield from refused_steps(terms, ref, place, Claim(Verdict.GONE)))
    claim = yield Ask(terms.ledger.claim(ref, place, worker))
    if claim.verdict is not Verdict.RUN:
        return (yield from refused_steps(terms, ref, place, claim))
    return (yield from claimed_steps(terms, ref, place, claim, act, open_run))


def claimed_steps(
    terms: Terms,
    ref: TaskRef,
    place: QueuePlace,
    claim: Claim,
    act: Callable[[Call[LedgerAnswer]], Any],
    open_run: OpenRun | None = None,
) -> Steps:
    """The steps of an attempt that the ledger let begin."""
    ledger = terms.ledger
    attempt: int = claim.attempt
    said = {"attempt": attempt}
    hopeless = lost_too_often(claim.lost)
    if hopeless:
        ending = Ending.failed(hopeless.failure, Cause.CHILD_DIED)
        return (yield from terms.settle(ref, place, attempt, ending, said))

    def progress(fraction: float, text: str) -> Any:
        return act(ledger.progress(ref, attempt, fraction, text))

    try:
        run = partial(open_run, ref, place, attempt, claim.row) if open_run else None
        context = Context(ref, attempt, progress, most_bytes(ledger.settings), log, run)
        if claim.row and run:
            context.run  # noqa: B018 - what it cannot go on with fails before the handler is called
        result = yield Handle(context)
        if terms.is_workflow(result):
            answer = yield Workflow(result, context)
            if answer is LedgerAnswer.CANCELLED:
                raise Stopped
            return AttemptOutcome.WORKFLOW if answer is LedgerAnswer.DONE else answer.refused
    except Stopped:
        return (yield from terms.settle(ref, place, attempt, Ending.cancelled(), said))
    except Suspended as suspended:
        answer = yield Ask(suspended.call)
        if answer is LedgerAnswer.CANCELLED:
            return (yield from terms.settle(ref, place, attempt, Ending.cancelled(), said))
        return AttemptOutcome.WAITING if answer is LedgerAnswer.DONE else answer.refused
    except LeaseLost:
        log.warning("task.lease_lost", attempt=attempt)
        return AttemptOutcome.LOST
    except Misfit as error:
        asked = terms.kept_for_another
        answer = (yield from asked(ref, place, attempt, error)) if asked else None
        if answer is None:
            return (yield from attempt_failed(terms, ref, place, attempt, error, waits=claim.waits))
        if answer is LedgerAnswer.CANCELLED:
            return (yield from terms.settle(ref, place, attempt, Ending.cancelled(), said))
        return AttemptOutcome.RETRYING if answer is LedgerAnswer.DONE else answer.refused
    except Exception as error:
        return (yield from attempt_failed(terms, ref, place, attempt, error, waits=claim.waits))
    ending = Ending.success(result, context.follow_ups)
    try:
        steps = terms.settle(ref, place, attempt, ending, said)
    except (TypeError, ResultTooLarge) as error:  # it cannot be told; retrying would not change that
        steps = terms.settle(ref, place, attempt, Ending.failed(describe(error), Cause.GAVE_UP), said)
    return (yield from steps)


def refused_steps(terms: Terms, ref: TaskRef, place: QueuePlace, claim: Claim) -> Steps:
    """What follows when the ledger let no attempt begin."""
    if claim.verdict is Verdict.EXPIRED:
        ending = Ending.expired(claim.attempt, claim.state)
        return (yield from terms.settle(ref, place, Holder.ANYBODY, ending, {}))
    if claim.verdict is Verdict.CANCELLED:
        return (yield from terms.settle(ref, place, Holder.ANYBODY, Ending.cancelled(), {}))
    if claim.verdict is Verdict.GONE and not place.entry:
        return AttemptOutcome.NOT_HANDED_OVER
    if claim.verdict is Verdict.GONE:
        kept = terms.ledger.settings.dead_letters_kept
        if (yield Ask(park_call(terms.ledger.keys, kept, place, NOT_HANDED_OVER))):
            log.error("task.not_handed_over")
            return AttemptOutcome.PARKED
        # Another broker brought a copy of what has long ended: its entry is gone, and its row by now too.
    log.info("task.skipped", verdict=claim.verdict.value, state=claim.state)
    return AttemptOutcome.PAUSED if claim.verdict is Verdict.PAUSED else AttemptOutcome.SKIPPED
