"""What the scripts take that look after flow control; tasks enter and leave it in those of `tasks.py`."""

from __future__ import annotations

from typing import ClassVar

from streammesh.lua.signature import Arguments, Flag, Key, Number, Record, Rest, Text, TextList


class TendFlowScript(Arguments):
    """Look after the flow control of a subscription."""

    flow: Key
    flows: Key
    due: Key
    due_entries: Key
    name: Text
    declared: Text
    most: Number
    line_from: Text
    places_from: Text
    page: Number
    tasks: TextList


class LookAtFlowScript(Arguments):
    """Answer how the keys of a subscription stand."""

    line: Key
    places: Key
    ready: Key
    slow: Key
    part: Text
    begin: Text
    limit: Number
    looks: Number


class ReadFoldsScript(Arguments):
    """Answer which tasks runs took with them."""

    line: Key
    runs: Key
    folding: Key
    name: Text
    most: Number


class ReadBatchScript(Arguments):
    """Answer which tasks an attempt took along."""

    row: Key
    task: Text
    token: Text
    entry: Text


class GivenBack(Record):
    """One task of a batch that failed."""

    row: Key
    event_row: Key
    id: Text
    wait: Number
    failure: Text
    is_alone: Flag
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text


class GiveBackScript(Arguments):
    """End an attempt for some tasks of a batch."""

    run_row: Key
    queue: Key
    notifications: Key
    due: Key
    due_entries: Key
    run: Text
    token: Text
    entry: Text
    group: Text
    kept: Text
    service: Text
    changed: Text
    tasks: ClassVar[Rest[GivenBack]]


class SetFlowScript(Arguments):
    """Set limits in place of a manifest's."""

    flow: Key
    flows: Key
    name: Text
    changes: Text
    changed: Text
