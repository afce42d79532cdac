"""What a handler is given beside its payload. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streammesh import names
from streammesh.durations import parse_duration
from streammesh.errors import EventTooLarge, Fail, LeaseLost
from streammesh.events.envelope import Event, build, check_size
from streammesh.tasks.suspension import DurableRun
from streammesh.tasks.task import LedgerAnswer, TaskRef

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Tell = Callable[[float, str], LedgerAnswer | Awaitable[LedgerAnswer]]

MAX_FOLLOW_UPS = 1_000  # events of one attempt: they are stored in one step, with its result
FOLLOW_UP_BYTES = 16_777_216  # of all of them
TOLD_LENGTH = 1_000  # characters of a word about progress


class _Done:
    """Awaiting it answers at once; what it stands for was done by a synchronous handler already."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class Context:
    """One attempt of one delivery.

    `event` is the whole envelope, `task_id` the delivery's id (the same at every attempt, so it may be
    handed to the outside world as an idempotency key), `attempt` counts from 1.
    """

    _beside: tuple[str, ...] = ()  # tasks that share this attempt

    def __init__(
        self,
        ref: TaskRef,
        attempt: int,
        tell: Tell,
        most_bytes: int,
        log: FilteringBoundLogger,
        open_run: Callable[[], DurableRun] | None = None,
    ) -> None:
        """`tell` says in the ledger how far the attempt is; an event may have `most_bytes`."""
        self.event: Event = ref.event
        self.task_id, self.attempt, self.log = ref.task_id, attempt, log
        self.traceparent = ""  # of the span of this attempt, where traces are made
        self.follow_ups: list[Event] = []
        self._follow_up_bytes = 0
        self._ref, self._tell, self._most_bytes, self._open_run = ref, tell, most_bytes, open_run

    @cached_property
    def run(self) -> DurableRun:
        """The run of a durable handler that this attempt belongs to. Raises Fail where there is none: in a workflow's part."""
        if self._open_run is None:
            raise Fail(
                "a part of a workflow has no steps and waits for nothing; a subscription's handler may"
            )
        return self._open_run()

    @property
    def version(self) -> int:
        """The version of the handler that the run has begun with; 0 while it has recorded nothing."""
        return self.run.version if "run" in self.__dict__ else 0

    def step(
        self, name: str, function: Callable[..., Any], *args: Any, retries: int = 0, **kwargs: Any
    ) -> Any:
        """Call a function and record its result under `name`, once: a later attempt is answered from the record.

        In an `async def` handler it must be awaited, whatever the function is (a `def` one runs in a thread); in a
        `def` handler the result is returned. The function runs at least once; a crash before the record is made
        runs it again. The result is JSON (beyond 64 KiB it needs MESH_STORE_URL), and comes back as the function's return annotation says.
        `retries`: so often it is tried again here, before the attempt fails. Raises what the function raises, and
        Fail for a second step of the name, a result that cannot be recorded and more than 1,000 steps.
        """
        return self.run.step(name, function, args, kwargs, retries)

    def sleep(self, duration: timedelta | float | str, *, name: str | None = None) -> Any:
        """Go on after `duration` (seconds, or text such as "2d"; a year at most). No worker is held meanwhile:

        the attempt ends here, and the handler is called again, with its steps answered from their records.
        """
        return self.run.sleep(_seconds(duration), name)

    def wait_for(
        self,
        event_type: str,
        *,
        match: Mapping[str, Any],
        timeout: timedelta | float | str | None = None,
        name: str | None = None,
    ) -> Any:
        """Wait for the first event of a type, published after this one, with these values at these paths.

        The result is the Event, or None when it did not come within `timeout` (a year without one). The subscription
        says what may be waited for: `waits={"order.paid": "data.order_id"}`. No worker is held, as in `sleep`.
        """
        seconds = None if timeout is None else _seconds(timeout)
        return self.run.wait_for(event_type, match, seconds, name)

    def wait_for_signal(self, name: str, *, timeout: timedelta | float | str | None = None) -> Any:
        """Wait for `POST /v1/tasks/{id}/signal` with this name; the result is its data, None after `timeout`."""
        return self.run.wait_for_signal(name, None if timeout is None else _seconds(timeout), {})

    def approval(
        self,
        question: str,
        *,
        to: str = "",
        timeout: timedelta | float | str | None = None,
        name: str = "approval",
    ) -> Any:
        """Ask people: as `wait_for_signal`, and clients are told the question and whom it is for.

        The task's document has a one-time address (`waits_for.approval_url`) at which somebody without a key may answer; the
        result is then True or False, and None after `timeout`.
        """
        seconds = None if timeout is None else _seconds(timeout)
        return self.run.wait_for_signal(name, seconds, {"question": question[:TOLD_LENGTH], "to": to[:256]})

    def stream(self, name: str) -> Any:
        """Return a stream to clients, which follow it while this handler runs (`GET /v1/tasks/{id}/streams/{name}`).

        `await stream.send(chunk)`, in a `def` handler without `await`: chunks of text, bytes or JSON, 64 KiB each, 10,000
        and 4 MiB of one attempt. A new attempt begins anew, and who follows is told. Kept as long as the task's record.
        Raises Fail for a name that is not letters, digits and `_.-`.
        """
        return self.run.stream(name)

    async def flush(self) -> None:
        """Return when all that was sent to its streams is written; the worker does so when the handler ends."""
        if "run" in self.__dict__:
            await self.run.flush()

    def drop(self) -> None:
        """Give up what was sent to its streams and is not written; the worker does so when it stops the handler."""
        if "run" in self.__dict__:
            self.run.drop()

    def progress(self, fraction: float, text: str = "") -> Awaitable[None]:
        """Push how far this attempt is: `fraction` from 0 to 1, and a word about it, of 1,000 characters at most.

        In an `async def` handler it must be awaited; in a `def` handler calling it is enough. While Redis is
        away it is not told at all. Raises LeaseLost when this attempt is no longer the current one, which
        ends the handler.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        if len(text) > TOLD_LENGTH:
            text = f"{text[: TOLD_LENGTH - 1]}…"
        # Half surrogate pairs, as Python has them in names of files, are written out.
        answer = self._tell(fraction, text.encode("utf-8", "backslashreplace").decode())
        if isinstance(answer, LedgerAnswer):
            _still_ours(answer)
            return _Done()
        return _checked(answer)

    def publish(
        self,
        event_type: str,
        data: Any,
        *,
        id: str | None = None,
        subject: str | None = None,
        deliver_at: datetime | None = None,
        priority: int | None = None,
        **extensions: str | int | bool,
    ) -> Event:
        """Publish an event together with this handler's result: both are stored in one step, or neither.

        It carries `causationid` (this event), `correlationid` and the trace of this event. Its id is
        made of the task and its number, so a repeated attempt publishes the same event. Raises
        InvalidEvent and EventTooLarge at once, the latter also for more than 1,000 of them, or 16 MiB together.
        """
        trace = {
            name: value
            for name, value in self.event.extensions.items()
            if name in ("traceparent", "tracestate", "partitionkey")
        }
        if self.traceparent:
            trace["traceparent"] = self.traceparent
        event = build(
            self._ref.service,
            event_type,
            data,
            id=id
            or names.derived_id(self._ref.service, self.task_id, *self._beside, str(len(self.follow_ups))),
            subject=self.event.subject if subject is None else subject,
            deliver_at=deliver_at,
            correlation_id=self.event.correlation_id,
            causation_id=self.event.id,
            priority=priority,
            extensions={**trace, **extensions},
        )
        size = len(event.to_json())
        check_size(size, self._most_bytes)
        self._follow_up_bytes += size
        if len(self.follow_ups) >= MAX_FOLLOW_UPS or self._follow_up_bytes > FOLLOW_UP_BYTES:
            raise EventTooLarge(
                f"one attempt publishes at most {MAX_FOLLOW_UPS:,} events of {FOLLOW_UP_BYTES:,} bytes together"
            )
        self.follow_ups.append(event)
        return event


def _seconds(duration: timedelta | float | str) -> float:
    try:
        parsed = parse_duration(duration)
    except ValueError as error:
        raise Fail(f"{duration!r:.80} {error}") from None
    if not isinstance(parsed, timedelta):
        raise Fail(f"{duration!r:.80} is no duration: seconds, a timedelta or text such as 30m fit")
    return parsed.total_seconds()


def _still_ours(answer: LedgerAnswer) -> None:
    if answer is not LedgerAnswer.DONE:
        raise LeaseLost("another attempt of this task is the current one")


async def _checked(answer: Awaitable[LedgerAnswer]) -> None:
    _still_ours(await answer)
