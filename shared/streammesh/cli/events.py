"""`streammesh event`, `tasks`, `task`: what became of an event and of its tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh.cli.api_call import Json, Key, Source, Url, ask, print_json
from streammesh.cli.terminal import console, facts, plain, task_lines

if TYPE_CHECKING:
    from rich.text import Text

EventId = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]


def event(
    event_id: EventId, source: Source = None, json: Json = False, url: Url = None, key: Key = None
) -> None:
    """Show an event and everything that came of it; where nothing ran, why."""
    found = _event(event_id, source, url, key)
    if json:
        print_json(found)
        return
    from rich.text import Text

    envelope = found["event"] or {}
    _print(
        facts(
            [
                ("event", f"{found['type']}  {found['id']}"),
                ("source", found["source"]),
                ("subject", envelope.get("subject")),
                ("published", found["published_at"]),
                ("state", f"{found['state']}: {found['detail']}"),
                ("data", envelope.get("data")),
            ]
        )
    )
    tasks = known_tasks(found)
    if tasks:
        _print([Text(), *task_lines(tasks)])
    missed = [f"not to {one['subscription']}: {one['reason']}" for one in found["not_delivered"]]
    missed += [f"not yet {one['subscription']}: {one['detail']}" for one in found.get("not_run", ())]
    led_to = [f"led to {one['type']}  {one['id']}" for task in tasks for one in task["events"]]
    _print([Text(plain(line)) for line in (*missed, *led_to)])


def tasks(
    event_id: EventId, source: Source = None, json: Json = False, url: Url = None, key: Key = None
) -> None:
    """List the tasks that an event became."""
    found = known_tasks(_event(event_id, source, url, key))
    if json:
        print_json(found)
    else:
        _print(task_lines(found) if found else ["no tasks; `streammesh event` says why"])


def task(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show one task: state, attempt, result or error, times, worker."""
    found = ask(url, key, lambda mesh: mesh.task(task_id)).raw
    if json:
        print_json(found)
        return
    shown = ("state", "attempt", "queued_at", "started_at", "ended_at", "next_attempt_at", "worker")
    about = found["event"]
    _print(
        facts(
            [
                ("task", f"{found['name']}  {found['id']}"),
                ("event", f"{about['type']}  {about['id']}"),
                *((name.removesuffix("_at").replace("_", " "), found[name]) for name in shown),
                ("progress", found["progress"]),
                ("result", found["result"]),
                ("error", (found["error"] or {}).get("reason")),
            ]
        )
    )


def _print(lines: Sequence[Text | str]) -> None:
    out = console()
    for line in lines:
        out.print(line)


def _event(event_id: str, source: str | None, url: str | None, key: str | None) -> Mapping[str, Any]:
    return ask(url, key, lambda mesh: mesh.event(event_id, source=source)).raw


def known_tasks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks whose records are still kept."""
    return [delivery["task"] for delivery in found["deliveries"] if delivery["task"]]
