"""One attempt of a durable handler: steps answer from their records, waits end the attempt.

Each operation is a generator that does no I/O: it yields what is to be done (a call, a function, a pause) and is sent
what came of it, so that `async def` handlers and `def` handlers have the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from streammesh import names, plain_json
from streammesh.durable.calls import DurableCalls, StepAnswer, Waiter, signal_step, version_wait
from streammesh.durable.chunks import ChunkStream, SyncChunkStream, check_stream_name, check_written
from streammesh.durable.claim_check import checked_in, checked_out
from streammesh.durable.drive import CallFunction, MakeCall, Operation, WaitSeconds
from streammesh.durable.other_shards import GRACE
from streammesh.durable.records import (
    LONGEST_WAIT,
    MOST_BYTES,
    MOST_STEPS,
    RESULT_BYTES,
    OpenWait,
    StepRecord,
    check_name,
    decode,
    encode,
    match_digest,
    records_of,
    waits_of,
)
from streammesh.errors import Fail, LeaseLost, Reject, Retry, Stopped
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.lua import Call
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.suspension import DurableRun, Suspended
from streammesh.tasks.task import QueuePlace, TaskRef

T = TypeVar("T")
log = structlog.get_logger(__name__)
SHOWN = 200  # characters of a value that is told: it comes from an event, whatever that holds
MOST_PAUSE = 30.0  # seconds between two tries of a step
FULL = (
    f"a run has at most {MOST_STEPS:,} steps, and {MOST_BYTES:,} bytes of results; "
    "publish an event that another handler goes on with"
)
RESERVED = signal_step("")  # begins names that are of signals, which come from outside
VERSIONS = "version:"  # and these are of waits for another worker
MOST_AWAY = 30.0  # seconds until a run is offered again to whoever may have its version
_VERSION = re.compile(rb"[1-9][0-9]{0,6}")


class Run:
    """What one attempt knows of its run; `drive` carries its operations out."""

    def __init__(
        self,
        calls: DurableCalls,
        drive: Callable[[Operation], Any],
        subscription: Subscription,
        ref: TaskRef,
        place: QueuePlace,
        attempt: int,
        row: Mapping[bytes, bytes],
        *,
        is_async: bool = False,
        older: Mapping[int, Subscription] = {},
    ) -> None:
        self._is_async = is_async
        self._streams: dict[str, ChunkStream | SyncChunkStream] = {}
        self._calls, self._drive = calls, drive
        self._ref, self._place, self._attempt = ref, place, attempt
        self._waits: dict[str, OpenWait] = waits_of(row)
        self._subscription = self._begun_with(
            row.get(b"durable"), {**older, subscription.version: subscription}
        )
        self._records: dict[str, StepRecord] = records_of(row)
        self._named: set[str] = set()  # by this attempt's code
        self._counts: dict[str, int] = {}
        calls.claims.tidy_in_time(ref.service)

    @property
    def version(self) -> int:
        """The version of the handler that this run goes on with."""
        return self._subscription.version

    def _begun_with(self, began: bytes | None, known: Mapping[int, Subscription]) -> Subscription:
        """The version that a run began with; the newest of one that has recorded nothing.

        Raises Suspended where this worker does not have it: the run is offered again, until one comes that has.
        """
        if began is None:
            return known[max(known)]
        if not _VERSION.fullmatch(began):
            raise Fail(
                f"its record says that it began with version {began[:40]!r} of its handler, which is none"
            )
        version = int(began)
        if version in known:
            return known[version]
        name = version_wait(version)
        before = self._waits.get(name)
        times = before.about.get("times", 0) if before else 0
        times = times if isinstance(times, int) and 0 <= times < 1_000_000 else 0
        log.warning("task.version_away", version=version, known=sorted(known), times=times)
        about = {"for": "version", "version": version, "times": times + 1}
        seconds = min(MOST_AWAY, 2.0 * 2 ** min(times, 5))
        place, attempt = self._place, self._attempt
        raise Suspended(
            self._calls.suspend(self._ref, place, attempt, version, name, seconds, about, "", is_anew=True)
        )

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        retries: int,
    ) -> Any:
        """As `Context.step`."""
        return self._drive(self._step(self._once(check_name(name)), function, args, kwargs, retries))

    def sleep(self, seconds: float, name: str | None) -> Any:
        """As `Context.sleep`."""
        about = {"for": "time"}
        return self._drive(self._slept(self._once(name, "sleep"), _bounded(seconds), about))

    def wait_for(
        self, event_type: str, match: Mapping[str, Any], seconds: float | None, name: str | None
    ) -> Any:
        """As `Context.wait_for`."""
        paths = self._subscription.waits.get(event_type)
        if paths is None or sorted(match) != sorted(paths):
            raise Fail(
                f"it waits for {event_type!r} by {sorted(match)}, and its subscription does not say so: "
                f"write waits={{{event_type!r}: {sorted(match)}}} there"
            )
        for path, value in match.items():
            if not isinstance(value, str | int | float | bool | None):
                raise Fail(
                    f"match[{path!r}] is {type(value).__name__}; a text, a number, a boolean or None fits"
                )
        try:
            digest = match_digest(event_type, match)
        except TypeError as error:
            raise Fail(f"match holds what no event can hold: {error}"[:300]) from None
        about = {"for": "event", "type": event_type, "match": dict(match)}
        named = self._once(name, f"event:{event_type}")
        return self._drive(self._awaited(named, _bounded(seconds), about, digest))

    def expect(self, event_type: str, match: Mapping[str, Any], seconds: float) -> Any:
        """Wait for an event as `wait_for`, and count only one that was published within `seconds` after the run's own.

        What is published in time may come a little later; so long as the run's own event took to come here, and `GRACE`
        beyond, it is waited for.
        """
        digest = match_digest(event_type, match)
        shown = {path: _shown(value) for path, value in match.items()}
        about = {"for": "event", "type": event_type, "match": shown}
        named = self._new(f"expected:{event_type}")
        return self._drive(self._awaited(named, _bounded(seconds + GRACE), about, digest, seconds))

    def wait_for_signal(self, name: str, seconds: float | None, about: Mapping[str, Any]) -> Any:
        """As `Context.wait_for_signal`."""
        named = self._new(signal_step(check_name(name)))
        about = {"for": "signal", "signal": name, **about}
        return self._drive(self._signalled(named, _bounded(seconds), about))

    def stream(self, name: str) -> ChunkStream | SyncChunkStream:
        """As `Context.stream`."""
        if name not in self._streams:
            write = partial(self._write, check_stream_name(name))
            self._streams[name] = (ChunkStream if self._is_async else SyncChunkStream)(name, write)
        return self._streams[name]

    async def flush(self) -> None:
        """Return when all that was sent to its streams is written. Raises as `ChunkStream.send`."""
        for stream in self._streams.values():
            if isinstance(stream, ChunkStream):
                await stream.flush()

    def drop(self) -> None:
        """Give up what waits to be written: the attempt was stopped."""
        for stream in self._streams.values():
            if isinstance(stream, ChunkStream):
                stream.drop()

    def _write(self, name: str, first: int, pieces: Sequence[bytes]) -> Any:
        return self._drive(self._written(name, first, pieces))

    def _written(self, name: str, first: int, pieces: Sequence[bytes]) -> Operation:
        call = self._calls.write_chunks(self._ref, self._place, self._attempt, name, first, pieces)
        check_written(name, (yield MakeCall(call)))

    def ask(self, call: Call[T]) -> Any:
        """Make a call as this attempt makes its own."""
        return self._drive(_asked(call))

    def _once(self, name: str | None, prefix: str = "") -> str:
        """The name of a step, which one run has once; what nobody named is counted."""
        if name is None:
            number = self._counts[prefix] = self._counts.get(prefix, 0) + 1
            name = f"{prefix}:{number}"
        elif check_name(name).startswith((RESERVED, VERSIONS)):
            raise Fail(
                f"a step is named {name!r}, and names that begin with {RESERVED!r} or {VERSIONS!r} are the mesh's own: of signals, "
                "and of waits for another worker"
            )
        return self._new(name)

    def _new(self, name: str) -> str:
        """Return a name that this attempt's code has not used. Raises Fail."""
        if name in self._named:
            raise Fail(
                f"two steps are named {name!r}: a step is known by its name, so that a repeated attempt finds it; "
                "give each its own, as f'charge-{number}'"
            )
        self._named.add(check_name(name))
        if len(self._named) > MOST_STEPS:
            raise Fail(FULL)
        return name

    def _record_of(self, name: str, *kinds: str) -> StepRecord | None:
        """What was recorded under a name. Raises Fail where it is of something else than the code of today does there."""
        record = self._records.get(name)
        if record is not None and record.kind not in kinds:
            raise Fail(
                f"under {name!r} the run has recorded what is no {kinds[0]} ({record.kind}): its code has changed; "
                "say version= on the subscription"
            )
        return record

    def _step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        retries: int,
    ) -> Operation:
        if record := self._record_of(name, "step", "stored"):
            return decode(name, function, (yield from self._value_of(record)))
        failed = 0
        while True:
            try:
                value = yield CallFunction(partial(function, *args, **kwargs))
                break
            except (Reject, Fail, Retry, LeaseLost, Stopped):
                raise
            except Exception:
                failed += 1
                if failed > retries:
                    raise
            yield WaitSeconds(min(MOST_PAUSE, 0.25 * 2 ** min(failed, 10)))
        raw = encode(name, function, value)
        read = decode(name, function, raw)  # what cannot be read back is not recorded
        if self._streams and self._is_async:  # what the step has streamed is there when its record is
            yield CallFunction(self.flush)
        kind, value = "step", raw
        if len(raw) > RESULT_BYTES:
            value = yield from checked_in(self._calls.claims, self._ref, name, raw, RESULT_BYTES)
            kind = "stored"
        call = self._calls.record(
            self._ref, self._place, self._attempt, name, kind, value, self._subscription.version
        )
        record = _recorded((yield MakeCall(call)))
        if record.value == value:
            return read
        return decode(name, function, (yield from self._value_of(record)))

    def _value_of(self, record: StepRecord) -> Operation:
        if record.kind == "stored":
            return (yield from checked_out(self._calls.claims, record.value))
        return record.value

    def _slept(self, name: str, seconds: float | None, about: Mapping[str, Any]) -> Operation:
        yield from self._wait(name, seconds, about, "", "timeout")
        return None

    def _awaited(
        self,
        name: str,
        seconds: float | None,
        about: Mapping[str, Any],
        digest: str,
        within: float | None = None,
    ) -> Operation:
        record = yield from self._wait(name, seconds, about, digest, "event", "timeout", within=within)
        return None if record.kind == "timeout" else _event(record.value)

    def _signalled(self, name: str, seconds: float | None, about: Mapping[str, Any]) -> Operation:
        record = yield from self._wait(name, seconds, about, "", "signal", "timeout")
        return None if record.kind == "timeout" else _said(name, record.value)

    def _wait(
        self,
        name: str,
        seconds: float | None,
        about: Mapping[str, Any],
        digest: str,
        *kinds: str,
        within: float | None = None,
    ) -> Generator[MakeCall | CallFunction, Any, StepRecord]:
        """The record of a wait that is over. Raises Suspended while it goes on."""
        if record := self._record_of(name, *kinds):
            return record
        ref, attempt, version, again = self._ref, self._attempt, self._subscription.version, 0.0
        if (
            name in self._waits
        ):  # it began in an earlier attempt: either it is over, or what woke this run was something else
            waiter = Waiter(ref.task_id, self._place.queue, self._place.priority, name) if digest else None
            domain = "" if within is None else names.domain_of(about["type"])
            if domain and self._calls.others.are_there:
                ask = partial(self._calls.others.look_again_in, ref.task_id, name, ref.service, domain)
                again = yield CallFunction(ask)
            if not again:
                call = self._calls.record(
                    ref, self._place, attempt, name, "timeout", b"null", version, waiter, digest, domain
                )
                answer: StepAnswer = yield MakeCall(call)
                if answer.verdict not in ("early", "open"):
                    return _recorded(answer)
                again = GRACE if answer.verdict == "open" else 0.0
        if sum(len(record.value) for record in self._records.values()) > MOST_BYTES:
            raise Fail(FULL)
        raise Suspended(
            self._calls.suspend(
                *(ref, self._place, attempt, version, name, again or seconds, about, digest, within),
                is_anew=again > 0,
            )
        )


def _recorded(answer: StepAnswer) -> StepRecord:
    if answer.record is not None:
        return answer.record
    if answer.verdict == "cancelled":
        raise Stopped
    if answer.verdict == "full":
        raise Fail(FULL)
    raise LeaseLost("another attempt of this task is the current one")


def _event(value: bytes) -> Event:
    try:
        return envelope.from_checked(plain_json.loads(value))
    except (ValueError, KeyError, TypeError) as error:
        raise Fail(f"the event that it waited for cannot be read: {error!r}"[:300]) from None


def _said(name: str, value: bytes) -> Any:
    try:
        return plain_json.loads(value)
    except ValueError as error:
        raise Fail(f"the record of {name!r} cannot be read: {error}"[:300]) from None


def _shown(value: Any) -> Any:
    """A value of an event as it is told, cut where it is long."""
    text = plain_json.dumps(value).decode()
    return value if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _bounded(seconds: float | None) -> float | None:
    if seconds is not None and not 0 <= seconds <= LONGEST_WAIT:
        raise Fail(f"a wait lasts from 0 to {LONGEST_WAIT:,.0f} seconds, not {seconds!r}")
    return seconds


def _asked(call: Call[Any]) -> Operation:
    return (yield MakeCall(call))


_: type[DurableRun] = Run  # what the attempt takes it for
