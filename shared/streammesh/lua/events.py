"""What the scripts take that store events, and those that publish at set times."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Each, Key, KeyList, Number, Record, Text, TextList, Written


class StoredEvent(Record):
    """One event as every script stores it; see `_event.lua`."""

    row: Key
    stream: Written
    source: Text
    id: Text
    digest: Text
    domain: Text
    deliver_at: Text
    name: Text
    content: Text
    json: Text
    sets: KeyList


class SoughtIdentity(Record):
    """An identity that may have left its row, and where it is looked for; see `_identity.lua`."""

    name: Text
    content: Text
    sets: KeyList


class EventKind(Record):
    """What events of one batch have in common."""

    stream: Written
    source: Text
    domain: Text
    deliver_at: Text


class BatchedEvent(Record):
    """One event of a batch, beside what is said by the number of its kind."""

    row: Key
    kind: Number
    digest: Text
    json: Text


class PublishOnceScript(Arguments):
    """Publish a batch of events."""

    domains: Key
    due: Key
    due_entries: Key
    counters: Key
    memory_row: Key
    retention: Number
    changed: Text
    prefix: Number
    mark: Number
    identities: Each[SoughtIdentity]
    kinds: Each[EventKind]
    events: Each[BatchedEvent]


class ParkEventScript(Arguments):
    """Park an event that is not handed over."""

    events: Key
    dead: Key
    index: Key
    entries: Key
    services: Key
    counters: Key
    service: Text
    position: Text
    letter_id: Text
    letter: Text
    kept: Text
    envelope: Text


class TrimEventsScript(Arguments):
    """Remove the oldest events of a stream."""

    events: Key
    retention: Number
    limit: Text
    holder: Text


class LowerWantedScript(Arguments):
    """Count anew how many deliveries an event has."""

    event_row: Key
    notifications: Key
    version: Key
    planned_by: Text
    kept: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    fragment: Text
    task_ids: TextList


class RaiseAlertScript(Arguments):
    """Publish an alert."""

    alerted: Key
    domains: Key
    due: Key
    due_entries: Key
    counters: Key
    last: Text
    until_ms: Text
    retention: Number
    changed: Text
    events: Each[StoredEvent]


class ReadDueSchedulesScript(Arguments):
    """Tell a Beat what is due."""

    schedules: Key
    schedules_due: Key
    alive: Key
    beat: Text
    limit: Number
    fresh: Number


class MovedSchedule(Record):
    """One schedule whose ticks are due."""

    schedule: Text
    read: Text
    stood_at: Number
    next_at: Text
    ticks: Each[StoredEvent]


class TickScript(Arguments):
    """Publish due ticks of schedules."""

    schedules: Key
    schedules_due: Key
    domains: Key
    due: Key
    due_entries: Key
    counters: Key
    retention: Number
    changed: Text
    moves: Each[MovedSchedule]


class ReadSchedulesScript(Arguments):
    """Read every schedule."""

    schedules: Key
    schedules_due: Key
    only: TextList


class ScheduleChange(Record):
    """One change of a schedule."""

    name: Text
    expected: Text
    entry: Text
    position: Text


class StoreSchedulesScript(Arguments):
    """Change schedules."""

    schedules: Key
    schedules_due: Key
    changes: Each[ScheduleChange]
