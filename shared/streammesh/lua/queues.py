"""What the scripts take that move the entries of queues."""

from __future__ import annotations

from streammesh.lua.signature import (
    Arguments,
    Each,
    Flag,
    Key,
    KeyList,
    Number,
    Record,
    Text,
    TextList,
    Written,
)


class QueueDeclareScript(Arguments):
    """Make the streams of a queue and their group."""

    group: Text
    lifetime: Text
    reader: Text
    streams: KeyList


class QueueReadScript(Arguments):
    """Read new entries."""

    group: Text
    me: Text
    most: Number
    streams: KeyList


class QueueTakeScript(Arguments):
    """Take over what was given back or whose lease ran out."""

    group: Text
    me: Text
    returned: Text
    left: Number
    lease: Number
    streams: KeyList


class StreamEntries(Record):
    """Some entries of one stream."""

    key: Key
    ids: TextList


class QueueRenewScript(Arguments):
    """Renew leases."""

    group: Text
    me: Text
    streams: Each[StreamEntries]


class QueueAckScript(Arguments):
    """Acknowledge and delete entries."""

    group: Text
    streams: Each[StreamEntries]


class QueueRequeueScript(Arguments):
    """Put one entry back at the end of its queue."""

    stream: Key
    group: Text
    id: Text
    most: Number
    task_rows: KeyList


class ReturnedEntry(Record):
    """One entry that is given back."""

    id: Text
    begun: Flag


class QueueGiveBackScript(Arguments):
    """Give back entries."""

    stream: Key
    group: Text
    me: Text
    returned: Text
    entries: Each[ReturnedEntry]


class QueueLeaveScript(Arguments):
    """End a consumer's reading."""

    stream: Key
    group: Text
    me: Text
    returned: Text
    still_held: TextList


class QueuePurgeScript(Arguments):
    """Remove entries that nobody holds."""

    stream: Key
    group: Text
    returned: Text
    most: Number


class QueueTidyScript(Arguments):
    """Remove consumers that are gone, and give back what is in nobody's hands."""

    group: Text
    me: Text
    returned: Text
    silent: Number
    streams: KeyList


class ForwardTakeScript(Arguments):
    """Take what has to be sent to another broker."""

    stream: Key
    group: Text
    me: Text
    returned: Text
    sent: Text
    left: Number
    lease: Number
    patience: Number
    waiting: Number


class ForwardedEntry(Record):
    """One entry that another broker has."""

    task: Key
    id: Text


class ForwardedScript(Arguments):
    """Note what was sent to another broker."""

    stream: Key
    group: Text
    me: Text
    sent: Text
    entries: Each[ForwardedEntry]


class PostponeScript(Arguments):
    """Put an entry back for later that no worker may run yet."""

    queue: Key
    due: Key
    due_entries: Key
    task_row: Key
    event_row: Key
    notifications: Written
    group: Text
    entry: Text
    patience: Number
    shortest: Number
    longest: Number
    jitter: Number
    changed: Text
    task: Text
    failure: Text
    kept: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text
    h: Text
    b: Text
    u: Text


class ReadQueuesScript(Arguments):
    """Say how much waits in queues, and how many dead letters there are."""

    group: Text
    streams: KeyList
    indexes: KeyList


class ReadStreamsScript(Arguments):
    """Say how long streams are."""

    streams: KeyList


class CountEntriesScript(Arguments):
    """Count entries of a stream."""

    stream: Key
    after: Text
    up_to: Text
    most: Number
    most_bytes: Number


class ForgetConsumersScript(Arguments):
    """Remove consumers that hold nothing and were not seen."""

    stream: Key
    group: Text
    idle: Number
