"""Settlement: the one way a task ends, for every cause, and the caller of `settle.lua`.

`Settlement.settle` and `attempt_failed` are steps without I/O, as in `attempt.py`: they yield the calls to be made and
are sent the answers. What is logged and returned is what the script answered, not what was wished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from streammesh import lua, notifications, plain_json
from streammesh.clock import Clock, SystemClock, to_ms
from streammesh.errors import Misfit
from streammesh.events.envelope import Event
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
from streammesh.lua.signature import quick
from streammesh.lua.tasks import SettledTask, SettleScript
from streammesh.names import TaskState
from streammesh.settings import MeshSettings
from streammesh.shards import stored_or_sent
from streammesh.tasks.dead_letter import letter_of_task
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.records import TaskRow
from streammesh.tasks.result_limit import check_result
from streammesh.tasks.task import AttemptOutcome, Failure, Holder, LedgerAnswer, QueuePlace, TaskRef, Token
from streammesh.tasks.verdict import GiveUp, RetryPolicy, after_error, handlers_traceback

_NOTHING = b'{"result":null}'
WAS_CANCELLED = Failure("it was cancelled", "Cancelled")
log: FilteringBoundLogger = structlog.get_logger(__name__)
CONFLICT = "an event with the identity of a follow-up but other content exists"


class Cause(StrEnum):
    """Why a task ends."""

    SUCCESS = "success"
    GAVE_UP = "gave up"  # its handler raised, and there is no further attempt
    EXPIRY = "expiry"
    CANCEL = "cancel"
    HARD_LIMIT = "hard limit"
    CHILD_DIED = "child died"  # or its handler would have ended the worker
    POISON = "poison"  # its queue entry cannot be read, or was delivered too often
    WORKFLOW = "workflow"  # which it became has ended
    VANISHED = "vanished"  # what stood for it, and the event
    REMOVED = "removed"  # its service was
    FOLD = "fold"  # a run of its key took it


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task is to end, and why."""

    cause: Cause
    state: TaskState
    result: Any = None
    failure: Failure | None = None
    follow_ups: Sequence[Event] = ()

    @classmethod
    def success(cls, result: Any, follow_ups: Sequence[Event], cause: Cause = Cause.SUCCESS) -> Ending:
        """It has a result."""
        return cls(cause, TaskState.SUCCEEDED, result, follow_ups=follow_ups)

    @classmethod
    def failed(cls, failure: Failure, cause: Cause) -> Ending:
        """It failed for good, and becomes a dead letter."""
        return cls(cause, TaskState.FAILED, failure=failure)

    @classmethod
    def cancelled(cls, failure: Failure = WAS_CANCELLED, cause: Cause = Cause.CANCEL) -> Ending:
        """Nobody wants it any more."""
        return cls(cause, TaskState.CANCELLED, failure=failure)

    @classmethod
    def expired(cls, attempts: int = 0, reason: str = "") -> Ending:
        """Its next attempt would have come too late; `reason` is why the last of `attempts` failed."""
        why = f": {reason}" if reason else ""
        text = "it expired before it was started"
        if attempts:
            text = f"it expired before attempt {attempts + 1} was started; attempt {attempts} failed{why}"
        return cls(Cause.EXPIRY, TaskState.EXPIRED, failure=Failure(text, "Expired"))

    @classmethod
    def folded(cls, run: str) -> Ending:
        """The run of this task took it."""
        return cls(Cause.FOLD, TaskState.FOLDED, {"run": run})


class Settled(NamedTuple):
    """What `settle.lua` answered: `done`, and in which state the task is now; or why nothing was done."""

    answer: LedgerAnswer
    state: TaskState | None = None


class Ask(NamedTuple):
    """Make this call, however long Redis is away, and send its answer."""

    call: lua.Call[Any]


Steps = Generator[Ask, Any, AttemptOutcome]
Elsewhere = Generator[
    Ask, Any, LedgerAnswer | None
]  # what came of putting a task back for another edition; None: nothing


_settled = quick(SettledTask)


class Settlement:
    """Ends tasks of one mesh; running the calls is the caller's business.

    Calls of one subscription have a `lua.Common`: what comes at the same time travels as one command, in which
    every task is decided about on its own.
    """

    def __init__(self, keys: Keys, settings: MeshSettings, clock: Clock | None = None) -> None:
        self._keys, self._settings, self._clock = keys, settings, clock or SystemClock()
        self._commons: dict[tuple[Any, ...], lua.Common] = {}  # bounded by the number of subscriptions

    def _common(self, ref: TaskRef, place: QueuePlace, keep: timedelta | None, breaker: bool) -> lua.Common:
        key = (ref.name, ref.service, place.queue, place.priority, keep, breaker)
        common = self._commons.get(key)
        if common is None:
            keys, settings, service = self._keys, self._settings, ref.service
            common = self._commons[key] = SettleScript(
                notifications=keys.notifications(),
                queue=keys.queue(place.queue, place.priority),
                recent=keys.tasks_recent(),
                open_tasks=keys.open_tasks(service),
                dead=keys.dead(service),
                dead_index=keys.dead_index(service),
                dead_entries=keys.dead_entries(service),
                dead_services=keys.dead_services(),
                failures=keys.failures(),
                paused=keys.paused(),
                domains=keys.domains(),
                due=keys.due(),
                due_entries=keys.due_entries(),
                counters=keys.counters(),
                held=keys.held(ref.name),
                cancellable=keys.cancellable(ref.name),
                group=WORKERS,
                kept=settings.notifications_bound,
                service=service,
                name=ref.name,
                keep=ms(kept(keep, settings)),
                retention=ms(settings.remembered),
                letters_kept=settings.dead_letters_kept,
                changed=keys.manifests_changed(),
                pausing=settings.breaker_failures if breaker else 0,
                rest=notifications.task_rest(ref.name, service),
                cancelled=_outcome(Ending.cancelled()),
                control=keys.control(service),
            ).common()
        return common

    def call(
        self,
        ref: TaskRef,
        place: QueuePlace,
        token: Token,
        ending: Ending,
        *,
        attempts: int = 0,
        keep: timedelta | None = None,
        breaker: bool = True,
    ) -> lua.Call[Settled]:
        """`settle.lua` for one task. Raises TypeError for a result that is not JSON, and ResultTooLarge.

        `token` is the attempt, or a Holder; `attempts` is what a dead letter says, where that is none. Without
        `breaker`, or when the input was refused, it does not count towards the pause of its subscription.
        The outcome names the follow-up events, so that who sees the end of a task can follow what it led to.
        """
        event, failure = ref.event, ending.failure
        counts = breaker and ending.cause is not Cause.REMOVED and not (failure and failure.refused)
        common = self._common(ref, place, keep, counts)
        outcome = _outcome(ending)
        if failure is None:
            events = (
                len(orjson.dumps(_named(ending.follow_ups))) + len(',"events":') if ending.follow_ups else 0
            )
            check_result(outcome, events, self._settings.max_result_bytes)
        letter = envelope = b""
        if failure and ending.state is TaskState.FAILED:
            made = token if isinstance(token, int) else attempts
            letter = plain_json.dumps(letter_of_task(ref, failure, made, to_ms(self._clock.now()), place))
            envelope = event.to_json()
        return _settled(
            row=self._keys.task(ref.task_id),
            event_row=self._keys.event(event.id),
            token=token,
            state=ending.state,
            outcome=outcome,
            entry=place.entry,
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            id=ref.task_id,
            fragment=ref.fragment,
            id_json=orjson.dumps(ref.task_id),
            letter=letter,
            envelope=envelope,
            follow_ups=[
                stored_or_sent(self._keys, self._settings, follow_up) for follow_up in ending.follow_ups
            ],
        ).call(common, _parse)

    def settle(
        self,
        ref: TaskRef,
        place: QueuePlace,
        token: Token,
        ending: Ending,
        *,
        said: Mapping[str, Any],
        **how: Any,
    ) -> Steps:
        """The steps that end a task; `said` is logged with what became of it, `how` as in `call`.

        Raises TypeError at once for a result that is not JSON, and ResultTooLarge.
        """
        return _settle(ref, ending, self.call(ref, place, token, ending, **how), said)


@dataclass(frozen=True, slots=True)
class Terms:
    """What stays the same for all deliveries of one subscription."""

    policy: RetryPolicy
    ledger: Ledger
    settlement: Settlement
    keep: timedelta | None
    breaker: bool
    random: Callable[[], float]
    is_workflow: Callable[[Any], bool]
    kept_for_another: Callable[[TaskRef, QueuePlace, int, Misfit], Elsewhere] | None = (
        None  # `rollout/beside.py`
    )

    def settle(
        self, ref: TaskRef, place: QueuePlace, token: Token, ending: Ending, said: Mapping[str, Any]
    ) -> Steps:
        """End a task of this subscription."""
        return self.settlement.settle(
            ref, place, token, ending, said=said, keep=self.keep, breaker=self.breaker
        )


def attempt_failed(
    terms: Terms,
    ref: TaskRef,
    place: QueuePlace,
    attempt: int,
    error: Exception,
    cause: Cause = Cause.GAVE_UP,
    *,
    waits: int = 0,
) -> Steps:
    """The steps that follow when an attempt ended with `error`: another one later, or the end of the task.

    `waits`: so many of the attempts before it did not fail; their handler waited.
    """
    decision = after_error(error, max(1, attempt - waits), terms.policy, terms.random())
    said = {"attempt": attempt, **handlers_traceback(error)}
    failure = decision.failure
    if isinstance(decision, GiveUp):
        return (yield from terms.settle(ref, place, attempt, Ending.failed(failure, cause), said))
    answer: LedgerAnswer = yield Ask(terms.ledger.retry_later(ref, place, attempt, decision.wait, failure))
    if answer is LedgerAnswer.CANCELLED:
        return (yield from terms.settle(ref, place, attempt, Ending.cancelled(), {"attempt": attempt}))
    if answer is not LedgerAnswer.DONE:
        log.warning("task.lease_lost", wanted="retrying", answer=answer.value, **said)
        return answer.refused
    wait = decision.wait.total_seconds()
    log.warning("task.retrying", reason=failure.reason, wait=wait, cause=cause.value, **said)
    return AttemptOutcome.RETRYING


def _settle(ref: TaskRef, ending: Ending, call: lua.Call[Settled], said: Mapping[str, Any]) -> Steps:
    settled: Settled = yield Ask(call)
    answer, state = settled
    cause = Cause.CANCEL if state is TaskState.CANCELLED else ending.cause
    about = {"task_id": ref.task_id, "task": ref.name, "cause": cause.value, **said}
    if answer is LedgerAnswer.CONFLICT:
        log.error("event.conflict", reason=CONFLICT)
    elif answer is not LedgerAnswer.DONE:
        log.warning("task.lease_lost", wanted=ending.state.value, answer=answer.value, state=state, **about)
        return answer.refused
    assert state is not None
    event = notifications.TASK_TYPES[state]
    if state is TaskState.FAILED and ending.failure:
        log.error(event, reason=ending.failure.reason, error=ending.failure.kind, **about)
    else:
        log.info(event, **about)
    return AttemptOutcome(state)


def carry_out(steps: Steps, ask: Callable[[lua.Call[Any]], Any]) -> AttemptOutcome:
    """Make the calls of some steps one after the other; returns what became of the task."""
    answer: Any = None
    try:
        while True:
            answer = ask(steps.send(answer).call)
    except StopIteration as stop:
        return AttemptOutcome(stop.value)


async def carry_out_async(steps: Steps, ask: Callable[[lua.Call[Any]], Awaitable[Any]]) -> AttemptOutcome:
    """As `carry_out`, on an event loop."""
    answer: Any = None
    try:
        while True:
            answer = await ask(steps.send(answer).call)
    except StopIteration as stop:
        return AttemptOutcome(stop.value)


def cancel_call(keys: Keys, settings: MeshSettings, row: TaskRow) -> lua.Call[Settled]:
    """Cancel a task that was read; the script looks again at where it is now.

    What has not begun never starts, and a workflow's later parts do not run: `done`. What runs is stopped by its worker,
    and ends as `cancelled` unless its handler was quicker or does not let itself be stopped; should the worker die
    meanwhile, it ends all the same: `asked`.
    """
    settlement = Settlement(keys, settings)
    return settlement.call(row.ref, row.place, Holder.ASKED_FIRST, Ending.cancelled())


def kept(keep: timedelta | None, settings: MeshSettings) -> timedelta:
    """How long an ended row lies in Redis; with a history long enough for the archiver, which shortens it."""
    if settings.has_history:
        return max(keep or timedelta(), settings.outcome_kept)
    return keep or settings.outcome_kept


def _outcome(ending: Ending) -> bytes:
    """What is stored and pushed as what came of a task."""
    if ending.result is None and ending.failure is None and not ending.follow_ups:
        return _NOTHING
    outcome: dict[str, Any] = (
        {"error": ending.failure.to_dict()} if ending.failure else {"result": ending.result}
    )
    if ending.follow_ups:
        outcome["events"] = _named(ending.follow_ups)
    return plain_json.dumps(outcome)


def _named(events: Sequence[Event]) -> list[dict[str, str]]:
    return [{"id": event.id, "source": event.source, "type": event.type} for event in events]


@cache  # of the script's few answers
def _parse(raw: bytes) -> Settled:
    answer, _, state = raw.decode().partition(" ")
    return Settled(LedgerAnswer(answer), TaskState(state) if state else None)
