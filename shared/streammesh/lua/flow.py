"""What the scripts take that look after flow control; tasks enter and leave it in those of `tasks.py`."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Key, Number, Text, TextList


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


class SetFlowScript(Arguments):
    """Set limits in place of a manifest's."""

    flow: Key
    flows: Key
    name: Text
    changes: Text
    changed: Text
