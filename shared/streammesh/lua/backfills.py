"""What the scripts take that give a service its past."""

from __future__ import annotations

from streammesh.lua.cancels import CancelMark
from streammesh.lua.signature import Arguments, Each, Flag, Key, Number, Record, Text, TextList
from streammesh.lua.tasks import HandoffEntry, HandoffKind, HandoffSubscription


class CreateBackfillScript(Arguments):
    """Begin a backfill."""

    row: Key
    index: Key
    running: Key
    manifests: Key
    id: Text
    service: Text
    pattern: Text
    since: Number
    before: Text
    rate: Text
    again: Text
    task: Text
    by: Text
    changed: Text
    listed: Number


class TakeBackfillScript(Arguments):
    """Make a dispatcher the one that works on a backfill."""

    row: Key
    running: Key
    id: Text
    service: Text
    dispatcher: Text
    lifetime: Number


class EndBackfillScript(Arguments):
    """End a backfill before its time."""

    row: Key
    running: Key
    id: Text
    service: Text
    state: Text
    reason: Text
    lifetime: Number


class NoteBackfillScript(Arguments):
    """Say what a backfill waits for."""

    row: Key
    waits: Text


class BackfillDomain(Record):
    """One domain of which events are handed over."""

    stream: Key
    routed: Key
    name: Text


class LeftRow(Record):
    """What the row of an event said that has left Redis, by the number of its entry."""

    entry: Number
    at: Text
    want: Text
    done: Text
    failed: Text
    tasks: TextList


class BackfillScript(Arguments):
    """Hand events of the past over to one service."""

    row: Key
    running: Key
    notifications: Key
    counters: Key
    holding: Key
    version: Key
    memory_row: Key
    joined: Key
    dead: Key
    dead_index: Key
    dead_entries: Key
    id: Text
    service: Text
    kept: Text
    planned_by: Text
    event_prefix: Number
    task_prefix: Number
    mark: Number
    begins: Text
    ends: Text
    seen: Number
    known: Number
    left_out: Number
    is_last: Flag
    most_queued: Number
    most_held: Number
    retention: Number
    lifetime: Number
    domains: Each[BackfillDomain]
    left: Each[LeftRow]
    domain_of: TextList
    wants: TextList
    again: TextList
    old: TextList
    subscriptions: Each[HandoffSubscription]
    kinds: Each[HandoffKind]
    entries: Each[HandoffEntry]
    marks: Each[CancelMark]
