"""`streammesh event`, `tasks`, `task`: what became of an event and of its tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh.cli.api_call import WRONG_USE, Json, Key, Source, Url, ask, fail, print_json
from streammesh.cli.pages import column_lines, read_pages
from streammesh.cli.terminal import console, facts, plain, task_lines

if TYPE_CHECKING:
    from rich.text import Text

PAGE = 200
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
    event_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The event's id; else those that are open.")
    ] = None,
    source: Source = None,
    service: Annotated[str | None, typer.Option(help="Of this service.")] = None,
    worker: Annotated[str | None, typer.Option(help="With exactly this worker.")] = None,
    state: Annotated[
        str | None, typer.Option(help="open, ended, or one state: queued, started, retrying, failed, …")
    ] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most tasks.")] = 20,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the tasks that an event became; without an event those that have not ended."""
    if event_id is not None:
        if service or worker or state or oldest:
            fail("say an event, or which tasks; not both", WRONG_USE)
        found = known_tasks(_event(event_id, source, url, key))
    else:
        query = {"service": service, "worker": worker, "state": state or "open"}
        query["order"] = "oldest" if oldest else None
        found, _ = ask(url, key, lambda mesh: read_pages(mesh, "/v1/tasks", query, "tasks", limit, PAGE))
    if json:
        print_json(found)
    elif event_id is not None:
        _print(task_lines(found) if found else ["no tasks; `streammesh event` says why"])
    else:
        rows = [
            (
                plain(one["queued_at"] or "")[:19],
                plain(one["name"]),
                plain(one["state"]),
                plain(one["worker"] or ""),
                plain(one["event"]["id"]),
                plain(one["id"]),
            )
            for one in found
        ]
        heads = ("queued", "task", "state", "worker", "event", "id")
        _print(column_lines(heads, rows) if rows else ["no such tasks"])


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
