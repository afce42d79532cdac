"""`streammesh events`: events by type, subject, source, story; and where each stands."""

from __future__ import annotations

from typing import Annotated

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.pages import column_lines, moment, read_pages
from streammesh.cli.terminal import console, plain

PAGE = 200


def events(
    event_type: Annotated[str | None, typer.Option("--type", help="Of this type; a glob.")] = None,
    subject: Annotated[str | None, typer.Option(help="About exactly this, such as customer/42.")] = None,
    source: Annotated[str | None, typer.Option(help="From exactly this source.")] = None,
    story: Annotated[
        str | None, typer.Option(help="An event's id: it, and every event that followed from it.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, running, completed, failed or unrouted.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="With this anywhere in their JSON.")] = None,
    since: Annotated[str | None, typer.Option(help="Not older than this: 2h, or 2026-11-22T06:00.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most events.")] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List events, newest first, and where each stands. With --json one document a line."""
    query = {
        "type": event_type,
        "subject": subject,
        "source": source,
        "correlation": story,
        "state": state,
        "text": text,
        "since": moment(since) if since else None,
        "standing": "true",
    }
    found, whole = ask(url, key, lambda mesh: read_pages(mesh, "/v1/events", query, "events", limit, PAGE))
    if json:
        for one in found:
            print_json(one)
        return
    rows = [
        (
            plain(one.get("time") or "")[:19],
            plain(one["type"]),
            plain(one["standing"]["state"]),
            plain(one["id"]),
            plain(one.get("subject") or ""),
        )
        for one in found
    ]
    for line in column_lines(("at", "type", "state", "id", "subject"), rows) if rows else ["no events"]:
        console().print(line)
    if not whole:
        console().print("not all were looked through: say --since or --type", style="yellow")
