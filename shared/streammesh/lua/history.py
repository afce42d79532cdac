"""What the script takes that lets go of what is in the history."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Each, Key, Number, Record, Text, TextList


class ArchivedTask(Record):
    """One ended task that is in the history."""

    row: Key
    ended: Text


class ArchivedEvent(Record):
    """One ended event that is in the history."""

    row: Key
    identity: Key
    source: Text
    done: Text
    ended: Number
    name: Text
    content: Text
    forgotten_at: Number


class ArchivedScript(Arguments):
    """Let go of what is in the history."""

    stream: Key
    group: Text
    hot: Number
    positions: TextList
    tasks: Each[ArchivedTask]
    events: Each[ArchivedEvent]
