"""The queue scripts' one typed caller: what can be done with the entries of a queue's streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from streammesh import lua
from streammesh.keys import RETURNED, WORKERS, Keys
from streammesh.lua.queues import (
    QueueAckScript,
    QueueDeclareScript,
    QueueGiveBackScript,
    QueueLeaveScript,
    QueuePurgeScript,
    QueueReadScript,
    QueueRenewScript,
    QueueRequeueScript,
    QueueTakeScript,
    QueueTidyScript,
    ReturnedEntry,
    StreamEntries,
)
from streammesh.settings import MeshSettings
from streammesh.tasks.dead_letter import Fields, park_entry_call


class Read(NamedTuple):
    """One entry as a stream gave it: the stream's key, the entry's id, how often it was delivered by now."""

    stream: str
    entry: str
    deliveries: int
    fields: Fields


class Taken(NamedTuple):
    """What was taken over, and what was not: the longest idle time (seconds, 0 for none) among those left with
    their owners, and whether more was given back than there was room for."""

    entries: list[Read]
    oldest: float
    more: bool


class Poison(NamedTuple):
    """An entry that was delivered too often to be tried again."""

    deliveries: int
    fields: Fields


def pairs(raw: Sequence[bytes] | None) -> Fields:
    """A stream entry's fields from the flat list that Redis answers; None is an entry that was deleted."""
    return dict(zip(raw[::2], raw[1::2], strict=True)) if raw else {}


def read_answer(answer: Any) -> list[Read]:
    """XREADGROUP's answer as RESP2 (lists) or RESP3 (a map) gives it; None or nothing is no entry."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    return [
        Read(stream.decode(), entry.decode(), 1, pairs(fields))
        for stream, entries in streams
        for entry, fields in entries
    ]


@dataclass(frozen=True, slots=True)
class QueueCalls:
    """Builds the calls for one consumer; running them is the caller's business."""

    keys: Keys
    consumer: str
    lease_ms: int
    max_deliveries: int
    dead_letters_kept: int

    def declare(self, streams: Sequence[str], lifetime_ms: int | None, *, joins: bool) -> lua.Call[int]:
        """Make streams and groups where they are missing, and with `joins` become a member; answers how many
        groups were made."""
        return QueueDeclareScript(
            streams=streams,
            group=WORKERS,
            lifetime="" if lifetime_ms is None else lifetime_ms,
            reader=self.consumer if joins else "",
        ).call(int)

    def read(self, streams: Sequence[str], most: int) -> lua.Call[list[Read]]:
        """New entries, the first streams' first, without waiting."""
        return QueueReadScript(group=WORKERS, me=self.consumer, most=most, streams=streams).call(read_answer)

    def take(self, streams: Sequence[str], most: int, *, stale: bool) -> lua.Call[Taken]:
        """Entries that were given back and, with `stale`, those whose lease ran out."""

        def parse(answer: Any) -> Taken:
            rows, oldest, more = answer
            return Taken(
                [
                    Read(streams[int(number) - 1], entry.decode(), int(times), pairs(fields))
                    for number, entry, times, fields in rows
                ],
                int(oldest) / 1000,
                bool(more),
            )

        lease = self.lease_ms if stale else 0
        return QueueTakeScript(
            group=WORKERS, me=self.consumer, returned=RETURNED, left=most, lease=lease, streams=streams
        ).call(parse)

    def renew(self, held: Mapping[str, Sequence[str]]) -> lua.Call[dict[str, list[str]]]:
        """Renew the leases of `held` (stream -> entries); answers those that are no longer this consumer's."""
        streams = list(held)

        def parse(answer: Any) -> dict[str, list[str]]:
            return {
                stream: [entry.decode() for entry in lost]
                for stream, lost in zip(streams, answer, strict=True)
                if lost
            }

        return QueueRenewScript(group=WORKERS, me=self.consumer, streams=_by_stream(held)).call(parse)

    def ack(self, ended: Mapping[str, Sequence[str]]) -> lua.Call[int]:
        """Acknowledge and delete `ended` (stream -> entries); answers how many were pending."""
        return QueueAckScript(group=WORKERS, streams=_by_stream(ended)).call(int)

    def requeue(self, stream: str, entry: str, row: str | None = None) -> lua.Call[Poison | None]:
        """Put one entry back at the end of its queue, unless it was delivered too often; its task's row (a key) follows it."""

        def parse(answer: Any) -> Poison | None:
            return Poison(int(answer[1]), pairs(answer[2])) if answer[0] == b"poison" else None

        rows = [] if row is None else [row]
        return QueueRequeueScript(
            stream=stream, group=WORKERS, id=entry, most=self.max_deliveries, task_rows=rows
        ).call(parse)

    def give_back(self, stream: str, entries: Sequence[tuple[str, bool]]) -> lua.Call[int]:
        """Give back (entry, whether a handler may have begun it) of one stream; answers how many were ours."""
        returned = [ReturnedEntry(id=entry, begun=begun) for entry, begun in entries]
        return QueueGiveBackScript(
            stream=stream, group=WORKERS, me=self.consumer, returned=RETURNED, entries=returned
        ).call(int)

    def leave(self, stream: str, still_held: Sequence[str]) -> lua.Call[int]:
        """Give back what this consumer was given and does not hold; leave the group when it holds nothing."""
        return QueueLeaveScript(
            stream=stream, group=WORKERS, me=self.consumer, returned=RETURNED, still_held=still_held
        ).call(lambda answer: int(answer[0]))

    def park(self, queue: str, read: Read, letter: Mapping[str, Any]) -> lua.Call[bool]:
        """Move an entry of `queue` to the dead letters; answers whether this call did."""
        return park_entry_call(self.keys, self.dead_letters_kept, queue, read.stream, read.entry, letter)

    def purge(self, stream: str, most: int) -> lua.Call[tuple[int, int]]:
        """Remove entries of one stream that nobody holds; answers how many, and how many were doorbells."""
        return QueuePurgeScript(stream=stream, group=WORKERS, returned=RETURNED, most=most).call(
            lambda answer: (int(answer[0]), int(answer[1]))
        )

    def tidy(self, streams: Sequence[str], silent_ms: int) -> lua.Call[int]:
        """Remove consumers that hold nothing and were silent for so long; answers how many.

        Old entries that were delivered, are in nobody's hands and lie there still are given back.
        """
        return QueueTidyScript(
            group=WORKERS, me=self.consumer, returned=RETURNED, silent=silent_ms, streams=streams
        ).call(int)


def unread_calls(settings: MeshSettings, consumer: str) -> QueueCalls:
    """The calls of a consumer that reads through no channel: another broker brings it its tasks."""
    lease_ms = round(settings.lease.total_seconds() * 1000)
    return QueueCalls(Keys(settings.namespace), consumer, lease_ms, 0, settings.dead_letters_kept)


def _by_stream(entries: Mapping[str, Sequence[str]]) -> list[StreamEntries]:
    return [StreamEntries(key=stream, ids=ids) for stream, ids in entries.items()]
