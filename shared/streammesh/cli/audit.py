"""`streammesh audit`: what operators did."""

from __future__ import annotations

from typing import Annotated

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.pages import column_lines, moment, read_pages
from streammesh.cli.terminal import console, plain, short

PAGE = 500
LONGEST = 100  # characters of what was asked for


def audit(
    about: Annotated[
        str | None, typer.Option(help="What it was done to: the name of a schedule, a task, a service.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Name of an API key.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as put_schedule, pause, replay.")] = None,
    since: Annotated[str | None, typer.Option(help="Not older than this: 2h, or 2026-11-22T06:00.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most actions.")] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List who changed what, newest first; with --json one document a line."""
    query = {
        "about": about,
        "actor": actor,
        "action": action,
        "since": moment(since) if since else None,
    }
    found, _ = ask(url, key, lambda mesh: read_pages(mesh, "/v1/audit", query, "actions", limit, PAGE))
    if json:
        for one in found:
            print_json(one)
        return
    rows = [
        (
            plain(one["at"])[:19],
            plain(one["actor"]),
            plain(one["action"]),
            plain(one["about"]),
            "not known" if one["status"] is None else str(one["status"]),
            "" if one["said"] is None else short(one["said"])[:LONGEST],
        )
        for one in found
    ]
    heads = ("at", "who", "did", "to", "answer", "asked for")
    for line in column_lines(heads, rows) if rows else ["nobody did any such thing"]:
        console().print(line)
