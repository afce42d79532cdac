"""`streammesh failures`: what failed most."""

from __future__ import annotations

from typing import Annotated

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.pages import column_lines, moment
from streammesh.cli.terminal import console, plain

REASON = 100  # characters


def failures(
    service: Annotated[str | None, typer.Option(help="Of this service.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Not older than this: 2h, or 2026-11-22T06:00; else a day.")
    ] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what failed for good, by handler and error, the most frequent first."""
    query = {"service": service, "since": moment(since) if since else None}
    given = {name: value for name, value in query.items() if value is not None}
    found = ask(url, key, lambda mesh: mesh.get("/v1/failures", given))
    if json:
        print_json(found)
        return
    rows = [
        (
            f"{one['count']:,}",
            plain(one["task"] or one["service"]),
            plain(one["kind"]),
            plain(one["last_at"])[:19],
            plain(one["newest"]["id"]),
            plain(one["newest"]["reason"])[:REASON],
        )
        for one in found["failures"]
    ]
    heads = ("times", "task", "error", "last", "newest", "its reason")
    for line in column_lines(heads, rows) if rows else ["nothing failed"]:
        console().print(line)
    if not found["complete"]:
        console().print(f"the newest {found['counted']:,} were counted; there are more", style="yellow")
