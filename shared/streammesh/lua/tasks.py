"""What the scripts take that move tasks: from hand-off to settlement."""

from __future__ import annotations

from typing import ClassVar

from streammesh.lua.cancels import CancelMark
from streammesh.lua.events import StoredEvent
from streammesh.lua.signature import Arguments, Each, Flag, Key, Number, Record, Rest, Text, TextList, Written


class HandoffSubscription(Record):
    """One subscription that something is handed over to."""

    queue: Key
    open_tasks: Key
    name: Text
    service: Text
    state: Text
    meta: Text
    rest: Text
    flow: Text
    keep: Text
    parts: TextList


class HandoffKind(Record):
    """What events of one batch have in common."""

    source: Text
    event_type: Text
    want: Text
    meta: Text
    subscriptions: Text


class HandoffDelivery(Record):
    """One delivery of an event."""

    task: Key
    expires: Text
    b: Text
    key: Text


class HandoffEntry(Record):
    """One event of a batch, beside what is said by the number of its kind."""

    row: Key
    kind: Number
    position: Text
    subject: Text
    fragment: Text
    correlation: Text
    deliveries: Each[HandoffDelivery]


class HandoffScript(Arguments):
    """Hand a batch of events over to queues."""

    stream: Key
    notifications: Key
    counters: Key
    holding: Key
    version: Key
    memory_row: Key
    routed: Key
    group: Text
    kept: Text
    planned_by: Text
    event_prefix: Number
    task_prefix: Number
    mark: Number
    may_join: Flag
    most_queued: Number
    most_held: Number
    subscriptions: Each[HandoffSubscription]
    kinds: Each[HandoffKind]
    entries: Each[HandoffEntry]
    marks: Each[CancelMark]


class ClaimedTask(Record):
    """One task that a worker wants to begin."""

    task: Key
    event_row: Key
    entry: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    id: Text
    head: Text
    mark: Text


class ClaimScript(Arguments):
    """Start attempts."""

    notifications: Written
    queue: Key
    paused: Key
    held: Key
    holding: Key
    worker: Text
    group: Text
    kept: Text
    lease: Number
    service: Text
    name: Text
    rest: Text
    is_carried: Flag
    tasks: ClassVar[Rest[ClaimedTask]]


class SettledTask(Record):
    """One task that ends."""

    row: Key
    event_row: Key
    token: Text
    state: Text
    outcome: Text
    entry: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    id: Text
    fragment: Text
    id_json: Text
    letter: Text
    envelope: Text
    follow_ups: Each[StoredEvent]


class SettleScript(Arguments):
    """End tasks."""

    notifications: Written
    queue: Key
    recent: Written
    open_tasks: Key
    dead: Key
    dead_index: Key
    dead_entries: Key
    dead_services: Key
    failures: Key
    paused: Key
    domains: Key
    due: Key
    due_entries: Key
    counters: Key
    held: Key
    cancellable: Key
    group: Text
    kept: Text
    service: Text
    name: Text
    keep: Text
    retention: Number
    letters_kept: Text
    changed: Text
    pausing: Number
    rest: Text
    cancelled: Text
    control: Text
    tasks: ClassVar[Rest[SettledTask]]


class RetryLaterScript(Arguments):
    """End an attempt that failed and set the next."""

    task_row: Key
    event_row: Key
    notifications: Written
    queue: Key
    due: Key
    due_entries: Key
    token: Text
    wait: Number
    failure: Text
    entry: Text
    group: Text
    kept: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text
    task: Text
    changed: Text
    unfit: Text


class ProgressScript(Arguments):
    """Tell how far a delivery is."""

    task_row: Key
    event_row: Key
    notifications: Written
    token: Text
    fraction: Text
    kept: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text
    task: Text
    text: Text


class DrainScript(Arguments):
    """Note that a worker gives a running task back."""

    task_row: Key
    entry: Text


class WorkflowMessage(Record):
    """One of a workflow's first tasks."""

    queue: Key
    h: Text
    b: Text


class StartWorkflowScript(Arguments):
    """Queue a workflow's first tasks in place of its handler."""

    task_row: Key
    queue: Key
    token: Text
    entry: Text
    group: Text
    workflow: Text
    lifetime: Text
    messages: Each[WorkflowMessage]


class PauseSubscriptionScript(Arguments):
    """Pause a subscription, or resume it."""

    paused: Key
    failures: Key
    notifications: Key
    name: Text
    why: Text
    kept: Text
    changed: Text
    body: Text
    service: Text
    event_type: Text


class ReleaseScript(Arguments):
    """Queue a task that was set aside."""

    held: Key
    holding: Key
    paused: Key
    queue: Key
    task_row: Key
    event_row: Key
    notifications: Key
    name: Text
    position: Text
    kept: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text
    task: Text


class QueueAgainScript(Arguments):
    """Queue a task again that lies nowhere."""

    task_row: Key
    queue: Key
    due: Key
    held: Key
    event_row: Key
    notifications: Key
    task: Text
    state: Text
    place: Text
    h: Text
    b: Text
    kept: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text


class QueueParkScript(Arguments):
    """Park a queue entry."""

    queue: Key
    dead: Key
    index: Key
    entries: Key
    services: Key
    counters: Key
    group: Text
    id: Text
    letter_id: Text
    letter: Text
    kept: Text
    service: Text
    h: Text
    b: Text


class PromoteScript(Arguments):
    """Move a due member back to where it was going."""

    due: Key
    due_entries: Key
    target: Key
    row: Key
    domains: Key
    member: Text
    kind: Text
    h: Text
    b: Text
    domain: Text
    json: Text
    source: Text
    digest: Text
    changed: Text
