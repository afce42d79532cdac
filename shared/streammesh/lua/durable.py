"""What the scripts take that durable handlers need: their steps and waits."""

from __future__ import annotations

from typing import ClassVar

from streammesh.lua.signature import (
    Arguments,
    Flag,
    Key,
    KeyList,
    Number,
    Record,
    Rest,
    Text,
    TextList,
    Written,
)


class RecordedStep(Record):
    """One step that was made, or one wait that is given up."""

    task_row: Key
    event_row: Key
    waiters: Key
    arrived: Key
    token: Text
    entry: Text
    name: Text
    kind: Text
    value: Text
    waiter: Text
    after: Text
    domain: Text
    version: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    task: Text


class RecordStepScript(Arguments):
    """Record steps."""

    notifications: Written
    kept: Text
    service: Text
    most_steps: Number
    most_bytes: Number
    steps: ClassVar[Rest[RecordedStep]]


class SuspendScript(Arguments):
    """End an attempt that waits."""

    task_row: Key
    event_row: Key
    notifications: Written
    queue: Key
    due: Key
    due_entries: Key
    arrived: Key
    waiters: Key
    token: Text
    entry: Text
    group: Text
    kept: Text
    name: Text
    longest: Number
    within: Text
    waiter: Text
    after: Text
    about: Text
    version: Text
    is_anew: Flag
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text
    task: Text
    changed: Text


class ArriveScript(Arguments):
    """Note that an event came that may be waited for."""

    arrived: Key
    waiters: Key
    event_row: Key
    source: Text
    value: Text
    lookback: Number
    most: Number
    service: Text
    digest: Text
    age: Text
    changed: Text
    outboxes: KeyList


class LookBeyondScript(Arguments):
    """Look whether an event that was published in time may still be on its way to a run of another shard."""

    stream: Written
    waking: Key
    outbox: Key
    routed: Written
    service: Text
    age: Text


class WokenTask(Record):
    """One task whose wait ends."""

    row: Key
    queue: Key
    waiter: Text
    task: Text
    name: Text


class WakeScript(Arguments):
    """End the waits of tasks for an event."""

    waiters: Key
    due: Key
    due_entries: Key
    value: Text
    after: Text
    score: Text
    tasks: ClassVar[Rest[WokenTask]]


class SignalScript(Arguments):
    """Give a task a signal."""

    row: Key
    queue: Key
    due: Key
    due_entries: Key
    task: Text
    name: Text
    value: Text
    most_steps: Number
    most_bytes: Number


class WriteChunksScript(Arguments):
    """Append chunks to a stream of a task."""

    task_row: Key
    chunks: Key
    token: Text
    entry: Text
    name: Text
    task: Text
    first: Number
    most_streams: Number
    lifetime: Text
    pieces: TextList
