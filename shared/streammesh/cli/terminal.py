"""How notifications, events and tasks look on a terminal. What comes from others is shown as plain text."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from streammesh import plain_json

if TYPE_CHECKING:  # what draws is loaded when something is drawn, and never for --json
    from rich.console import Console
    from rich.text import Text

COLOURS = {
    "succeeded": "green",
    "completed": "bold green",
    "failed": "bold red",
    "expired": "red",
    "cancelled": "yellow",
    "retrying": "yellow",
    "waiting": "cyan",
    "pending": "cyan",
    "skipped": "yellow",
    "folded": "cyan",
    "resync": "bold yellow",
    "unrouted": "yellow",
}
LONGEST = 300  # characters of a result in a table


def console() -> Console:
    """A console for standard output, made now, so that tests can take its place."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def plain(value: Any) -> str:
    """Text without what a terminal would obey: control characters, escapes, direction marks."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def note_line(note: Any) -> Text:
    """One notification: time, type, who, what is said about it."""
    from rich.text import Text

    kind = plain(note.type)
    line = Text(f"{note.time[11:23]:<12}  {kind:<16}  ", style=COLOURS.get(kind.rpartition(".")[2], ""))
    event = note.event.get("type", "")
    who = note.task["name"] if note.task else ""
    line.append(f"{plain(event):<20}  {plain(who):<32}  {said(note.data)}".rstrip())
    line.rstrip()
    return line


def said(data: dict[str, Any]) -> str:
    """What a notification's data says, in a few words."""
    if "progress" in data:
        return plain(f"{data['progress']:>4.0%}  {data.get('text', '')}")
    if data.get("error"):
        wait = f", again in {data['retry_in_seconds']:g} s" if "retry_in_seconds" in data else ""
        return plain(data["error"].get("reason", "")) + wait
    if data.get("result") is not None:
        return short(data["result"])
    if "tasks" in data:
        return f"{data['tasks']} done, {data.get('failed', 0)} without success"
    return plain(data.get("reason") or data.get("detail") or "")


def short(value: Any) -> str:
    """A JSON value on one line, cut where it is long."""
    text = plain(plain_json.dumps(value).decode())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def task_lines(tasks: list[dict[str, Any]]) -> list[Text]:
    """Tasks, a line each below a heading; lines are never broken, so that ids can be copied."""
    from rich.text import Text

    rows = [("task", "state", "attempt", "took", "id", "outcome")]
    rows += [
        (
            plain(task["name"]),
            plain(task["state"]),
            str(task["attempt"]),
            _took(task),
            plain(task["id"]),
            _outcome(task),
        )
        for task in tasks
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for number, row in enumerate(rows):
        line = Text(style="bold" if number == 0 else "")
        for name, cell, width in zip(rows[0], row, widths, strict=True):
            line.append(f"{cell:<{width}}  ", style=COLOURS.get(cell, "") if name == "state" else "")
        line.rstrip()
        lines.append(line)
    return lines


def _outcome(task: dict[str, Any]) -> str:
    if task.get("error"):
        return plain(task["error"].get("reason", ""))
    if task.get("result") is not None:
        return short(task["result"])
    return said(task["progress"]) if task.get("progress") else ""


def _took(task: dict[str, Any]) -> str:
    begin, end = task.get("queued_at"), task.get("ended_at")
    if not begin or not end:
        return ""
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds():.3f} s"


def facts(rows: list[tuple[str, Any]]) -> list[Text]:
    """Names and values below each other; what is not there is left out."""
    from rich.text import Text

    there = [(name, value) for name, value in rows if value not in (None, "", [], {})]
    width = max(len(name) for name, _ in there)
    return [
        Text.assemble(
            (f"{name:<{width}}  ", "bold"), plain(value) if isinstance(value, str) else short(value)
        )
        for name, value in there
    ]
