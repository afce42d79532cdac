"""One attempt of one delivery, step by step, without doing I/O itself.

`attempt_steps` is a generator: it yields what is to be done (a ledger call, the handler) and is sent
the answer, so the same steps serve async handlers on a loop and sync handlers in worker processes.
What if SIGKILL here? Before the claim: the queue entry is pending and taken over. After it: taken
over too, with the next token. After `finish`: the entry is gone, the outcome is there. Between the
handler's last line and `finish`: the handler runs again; `ctx.task_id` is the same then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from structlog.typing import FilteringBoundLogger

from streammesh import names
from streammesh.clock import Clock, to_ms
from streammesh.errors import LeaseLost, ResultTooLarge, Stopped
from streammesh.lua import Call
from streammesh.tasks import ledger as ledgers
from streammesh.tasks.cancellation import CANCELLED, EXPIRED, expired_after
from streammesh.tasks.context import Context
from streammesh.tasks.handler import Binding
from streammesh.tasks.ledger import ANYBODYS, Ledger, QueuePlace, TaskRef, Token
from streammesh.tasks.parking import park_call
from streammesh.tasks.retry_policy import RetryPolicy
from streammesh.tasks.verdict import GiveUp, after_error, describe, handlers_traceback, lost_too_often

NOT_HANDED_OVER = "NotHandedOver"
REASON = "the ledger knows no such task: nobody handed it over, or its record was lost"
NOTHING_RAISED: Mapping[str, str] = {}
log: FilteringBoundLogger = structlog.get_logger(__name__)


class Ask(NamedTuple):
    """Make this ledger call, however long Redis is away, and send its answer."""

    call: Call[Any]


class Handle(NamedTuple):
    """Call the handler and send what it returns, or throw what it raises."""

    context: Context


class Workflow(NamedTuple):
    """The handler answered with a Celery signature: queue it in place of the handler; send whether that went well."""

    signature: Any
    context: Context


Step = Ask | Handle | Workflow
Steps = Generator[Step, Any, str]


@dataclass(frozen=True, slots=True)
class Delivering:
    """What stays the same for all deliveries of one subscription."""

    binding: Binding
    policy: RetryPolicy
    ledger: Ledger
    keep: timedelta | None
    breaker: bool
    is_workflow: Callable[[Any], bool]
    random: Callable[[], float]
    clock: Clock


def attempt_steps(
    kind: Delivering,
    ref: TaskRef,
    place: QueuePlace,
    worker: str,
    act: Callable[[Call[str]], Any],
) -> Steps:
    """The steps of one attempt; its value is what became of it: a state, or `skipped`, `lost`, `parked`,
    or `not handed over` where there is no queue entry to park."""
    ledger = kind.ledger
    claim = yield Ask(ledger.claim(ref, place, worker))
    if claim.verdict == "expired":
        failure = expired_after(claim.attempt, claim.state) if claim.attempt else EXPIRED
        yield Ask(ledger.finish(ref, place, ANYBODYS, names.EXPIRED, failure=failure, keep=kind.keep))
        return names.EXPIRED
    if claim.verdict == "cancelled":
        return (yield from _cancel(kind, ref, place, ANYBODYS))
    if claim.verdict == "gone" and place.entry:
        kept = ledger.settings.dead_letters_kept
        if (yield Ask(park_call(ledger.keys, kept, place, NOT_HANDED_OVER, REASON))):
            log.error("task.not_handed_over")
            return "parked"
        # Another broker brought a copy of what has long ended: its entry is gone, and its row by now too.
    if claim.verdict == "gone" and not place.entry:
        return "not handed over"
    if claim.verdict != "run":
        log.info("task.skipped", verdict=claim.verdict, state=claim.state)
        return "paused" if claim.verdict == "paused" else "skipped"
    attempt: int = claim.attempt
    hopeless = lost_too_often(claim.lost)
    if hopeless:
        return (yield from _give_up(kind, ref, place, attempt, hopeless))
    context = Context(ref, attempt, ledger, act, log)
    try:
        result = yield Handle(context)
        if kind.is_workflow(result):
            answer = yield Workflow(result, context)
            if answer == "cancelled":
                return (yield from _cancel(kind, ref, place, attempt))
            return "workflow" if answer == "done" else "lost"
    except Stopped:
        return (yield from _cancel(kind, ref, place, attempt))
    except LeaseLost:
        log.warning("task.lease_lost", attempt=attempt)
        return "lost"
    except Exception as error:
        decision = after_error(error, attempt, kind.policy, kind.random())
        raised = handlers_traceback(error)
        if isinstance(decision, GiveUp):
            return (yield from _give_up(kind, ref, place, attempt, decision, raised))
        answer = yield Ask(ledger.retry_later(ref, place, attempt, decision.wait, decision.failure))
        if answer == "cancelled":
            return (yield from _cancel(kind, ref, place, attempt))
        log.warning(
            "task.retrying",
            attempt=attempt,
            reason=decision.failure.reason,
            wait=decision.wait.total_seconds(),
            **raised,
        )
        return names.RETRYING if answer == "done" else "lost"
    return (yield from _succeed(kind, ref, place, attempt, result, context))


def _succeed(
    kind: Delivering, ref: TaskRef, place: QueuePlace, attempt: int, result: Any, context: Context
) -> Steps:
    try:
        call = kind.ledger.finish(
            ref,
            place,
            attempt,
            names.SUCCEEDED,
            result=result,
            follow_ups=context.follow_ups,
            keep=kind.keep,
        )
    except (TypeError, ResultTooLarge) as error:  # it cannot be told; retrying would not change that
        return (yield from _give_up(kind, ref, place, attempt, GiveUp(describe(error))))
    answer = yield Ask(call)
    if answer != "done":
        log.warning("task.lease_lost", attempt=attempt, answer=answer)
        return "lost"
    log.info("task.succeeded", attempt=attempt)
    return names.SUCCEEDED


def _give_up(
    kind: Delivering,
    ref: TaskRef,
    place: QueuePlace,
    attempt: int,
    decision: GiveUp,
    raised: Mapping[str, str] = NOTHING_RAISED,
) -> Steps:
    failure = decision.failure
    letter = ledgers.dead_letter(ref, failure, attempt, to_ms(kind.clock.now()), place)
    call = kind.ledger.finish(
        ref,
        place,
        attempt,
        names.FAILED,
        failure=failure,
        keep=kind.keep,
        dead_letter=letter,
        breaker=kind.breaker,
    )
    answer = yield Ask(call)
    if answer == "cancelled":
        return (yield from _cancel(kind, ref, place, attempt))
    log.error("task.failed", attempt=attempt, reason=failure.reason, error=failure.kind, **raised)
    return names.FAILED if answer == "done" else "lost"


def _cancel(kind: Delivering, ref: TaskRef, place: QueuePlace, token: Token) -> Steps:
    call = kind.ledger.finish(ref, place, token, names.CANCELLED, failure=CANCELLED, keep=kind.keep)
    answer = yield Ask(call)
    log.info("task.cancelled", answer=answer)
    return names.CANCELLED if answer == "done" else "lost"
