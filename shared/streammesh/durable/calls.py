"""The calls of durable handlers: their scripts with keys and arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from streammesh import lua, notifications, plain_json
from streammesh.durable.chunks import MOST_STREAMS
from streammesh.durable.claim_check import ClaimCheck
from streammesh.durable.other_shards import OtherShards
from streammesh.durable.records import (
    LONGEST_WAIT,
    MOST_BYTES,
    MOST_STEPS,
    StepRecord,
    parse_record,
    told_kind,
)
from streammesh.keys import WORKERS, Keys
from streammesh.lua.durable import (
    ArriveScript,
    RecordedStep,
    RecordStepScript,
    SignalScript,
    SuspendScript,
    WakeScript,
    WokenTask,
    WriteChunksScript,
)
from streammesh.lua.signature import quick
from streammesh.settings import MeshSettings
from streammesh.shards import outboxes
from streammesh.tasks.records import TaskRow
from streammesh.tasks.task import LedgerAnswer, QueuePlace, TaskRef

LOOKBACK_MS = 86_400_000  # how long an event is remembered that a handler may begin to wait for
MOST_ARRIVED = 100  # of one key, the newest; and so many tasks are woken at once
SEPARATOR = "\t"

_recorded = quick(RecordedStep)


class StepAnswer(NamedTuple):
    """What `record_step.lua` answered: `done` with the record, which may be that of an earlier attempt; or why not."""

    verdict: str
    record: StepRecord | None = None


class SignalAnswer(StrEnum):
    """What became of a signal."""

    DONE = "done"
    KNOWN = "known"  # one of this name came before, and counts
    ENDED = "ended"
    GONE = "gone"  # nobody knows the task
    FULL = "full"  # the task holds as much as it may


class Waiter(NamedTuple):
    """A run that waits for an event: what stands in its set."""

    task: str
    queue: str
    priority: int
    name: str

    @property
    def member(self) -> str:
        """As it stands in the set."""
        return SEPARATOR.join((self.task, self.queue, str(self.priority), self.name))

    @classmethod
    def parse(cls, member: bytes) -> Waiter | None:
        """From the set; None for what nobody of the mesh put there."""
        parts = member.decode("utf-8", "replace").split(SEPARATOR, 3)
        if len(parts) != 4 or parts[2] not in "0123456789" or len(parts[2]) != 1:
            return None
        return cls(parts[0], parts[1], int(parts[2]), parts[3])


class AwaitedEvent(NamedTuple):
    """An event that runs of a service may wait for, told apart by a digest of what stands at their paths.

    `value` is what they are given. `age_ms`: how long ago it was published, where that was in another shard.
    """

    service: str
    digest: str
    value: bytes
    id: str = ""
    source: str = ""
    age_ms: int | None = None


class DurableCalls:
    """Builds these calls for one mesh; running them is the caller's business."""

    def __init__(self, keys: Keys, settings: MeshSettings) -> None:
        self._keys, self._settings = keys, settings
        self._commons: dict[str, lua.Common] = {}  # by service
        self.claims, self.others = ClaimCheck(settings), OtherShards(settings)

    def record(
        self,
        ref: TaskRef,
        place: QueuePlace,
        attempt: int,
        name: str,
        kind: str,
        value: bytes,
        version: int,
        waiter: Waiter | None = None,
        digest: str = "",
        domain: str = "",
    ) -> lua.Call[StepAnswer]:
        """`record_step.lua`: record what a step came to, or with `timeout` that a wait is given up."""
        keys, event = self._keys, ref.event
        common = self._commons.get(ref.service)
        if common is None:
            common = self._commons[ref.service] = RecordStepScript(
                notifications=keys.notifications(),
                kept=self._settings.notifications_bound,
                service=ref.service,
                most_steps=MOST_STEPS,
                most_bytes=MOST_BYTES,
            ).common()
        data = {"step": name, "kind": told_kind(kind)}
        return _recorded(
            task_row=keys.task(ref.task_id),
            event_row=keys.event(event.id),
            waiters=keys.waiters(ref.service, digest),
            arrived=keys.arrived(ref.service, digest),
            token=attempt,
            entry=place.entry,
            name=name,
            kind=kind,
            value=value,
            waiter=waiter.member if waiter else "",
            after=_after(digest),
            domain=domain,
            version=version,
            body=notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, data),
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            task=ref.task_id,
        ).call(common, _step_answer)

    def suspend(
        self,
        ref: TaskRef,
        place: QueuePlace,
        attempt: int,
        version: int,
        name: str,
        seconds: float | None,
        about: Mapping[str, Any],
        digest: str,
        within: float | None = None,
        is_anew: bool = False,
    ) -> lua.Call[LedgerAnswer]:
        """`suspend.lua`: end this attempt until a wait is over. Answers `done`, `lost` or `cancelled`.

        `within`: only an event counts that was published so many seconds after the run's own one.
        """
        keys, event = self._keys, ref.event
        waiter = Waiter(ref.task_id, place.queue, place.priority, name).member if digest else ""
        body = notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, attempt, {})
        return SuspendScript(
            task_row=keys.task(ref.task_id),
            event_row=keys.event(event.id),
            notifications=keys.notifications(),
            queue=keys.queue(place.queue, place.priority),
            due=keys.due(),
            due_entries=keys.due_entries(),
            arrived=keys.arrived(ref.service, digest),
            waiters=keys.waiters(ref.service, digest),
            token=attempt,
            entry=place.entry,
            group=WORKERS,
            kept=self._settings.notifications_bound,
            name=name,
            longest=round((LONGEST_WAIT if seconds is None else seconds) * 1000),
            within="" if within is None else round(within * 1000),
            waiter=waiter,
            after=_after(digest),
            about=plain_json.dumps(about),
            version=version,
            is_anew=is_anew,
            body=body.removesuffix("{}"),
            source=event.source,
            event=event.id,
            event_type=event.type,
            subject=event.subject or "",
            service=ref.service,
            task=ref.task_id,
            changed=keys.manifests_changed(),
        ).call(_ledger_answer)

    def arrive(self, came: AwaitedEvent) -> lua.Call[list[bytes]]:
        """`arrive.lua`: note that an event came; answers its score, and who waits for it."""
        keys = self._keys
        return ArriveScript(
            arrived=keys.arrived(came.service, came.digest),
            waiters=keys.waiters(came.service, came.digest),
            event_row=keys.event(came.id),
            source=came.source,
            value=came.value,
            lookback=LOOKBACK_MS,
            most=MOST_ARRIVED,
            service=came.service,
            digest=came.digest,
            age="" if came.age_ms is None else came.age_ms,
            changed=keys.manifests_changed(),
            outboxes=outboxes(keys, self._settings) if came.age_ms is None else (),
        ).call(list)

    def wake(self, came: AwaitedEvent, score: bytes, waiters: Sequence[Waiter]) -> list[lua.Call[bool]]:
        """`wake.lua`: end the waits of these; each answers whether this call did."""
        keys = self._keys
        common = WakeScript(
            waiters=keys.waiters(came.service, came.digest),
            due=keys.due(),
            due_entries=keys.due_entries(),
            value=came.value,
            after=_after(came.digest),
            score=score,
        ).common()
        return [
            WokenTask(
                row=keys.task(one.task),
                queue=keys.queue(one.queue, one.priority),
                waiter=one.member,
                task=one.task,
                name=one.name,
            ).call(common, bool)
            for one in waiters
        ]

    def signal(self, row: TaskRow, name: str, value: bytes) -> lua.Call[SignalAnswer]:
        """`signal.lua`: give a task the signal `name`."""
        keys, place = self._keys, row.place
        return SignalScript(
            row=keys.task(row.id),
            queue=keys.queue(place.queue, place.priority),
            due=keys.due(),
            due_entries=keys.due_entries(),
            task=row.id,
            name=signal_step(name),
            value=value,
            most_steps=MOST_STEPS,
            most_bytes=MOST_BYTES,
        ).call(lambda raw: SignalAnswer(raw.decode()))

    def write_chunks(
        self, ref: TaskRef, place: QueuePlace, attempt: int, name: str, first: int, pieces: Sequence[bytes]
    ) -> lua.Call[str]:
        """`write_chunks.lua`: append chunks to a stream. Answers `done`, `lost`, `cancelled` or `full`."""
        return WriteChunksScript(
            task_row=self._keys.task(ref.task_id),
            chunks=self._keys.chunks(ref.task_id, name),
            token=attempt,
            entry=place.entry,
            name=name,
            task=ref.task_id,
            first=first,
            most_streams=MOST_STREAMS,
            lifetime=round(LONGEST_WAIT * 1000),
            pieces=pieces,
        ).call(lambda raw: str(raw[0].decode()))


def version_wait(version: int) -> str:
    """Under which name a run waits for a worker that has this version of its handler."""
    return f"version:{version}"


def signal_step(name: str) -> str:
    """Under which name of a step a signal is recorded."""
    return f"signal:{name}"


def _after(digest: str) -> str:
    return f"after:{digest}"


def _step_answer(raw: list[bytes]) -> StepAnswer:
    verdict = raw[0].decode()
    return StepAnswer(verdict, parse_record(raw[1]) if len(raw) > 1 else None)


def _ledger_answer(raw: list[bytes]) -> LedgerAnswer:
    return LedgerAnswer(raw[0].decode())
