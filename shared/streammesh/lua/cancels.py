"""What the scripts take that cancel tasks for events."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Flag, Key, KeyList, Number, Record, Text, TextList


class CancelMark(Record):
    """One delivery of a batch that may be cancelled by an event, or is of an event that cancels."""

    task: Key
    cancellable: Key
    canceller: Key
    cancelling: Key
    is_canceller: Flag
    id: Text
    digest: Text
    published: Text
    by: Text
    work: Text
    changed: Text
    outboxes: KeyList  # of an event that cancels


class FindCancellableScript(Arguments):
    """Find the open tasks that an event cancels."""

    cancellable: Key
    canceller: Key
    digest: Text
    after: Text
    most: Number
    task_prefix: Text


class NoteCancelledScript(Arguments):
    """Note which tasks an event cancelled."""

    canceller: Key
    event: Text
    most: Number
    tasks: TextList


class CancelsMadeScript(Arguments):
    """End the work that an event which cancels has made."""

    cancelling: Key
    member: Text
    score: Text


class NoteCancellerScript(Arguments):
    """Note that an event which cancels was published in another shard."""

    canceller: Key
    cancelling: Key
    age: Text
    by: Text
    work: Text
    changed: Text
