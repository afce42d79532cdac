"""`streammesh watch`: be told what happens, as it happens."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh import names
from streammesh.cli.api_call import WRONG_USE, Json, Key, Source, Url, ask, fail, print_json
from streammesh.cli.terminal import console, note_line

if TYPE_CHECKING:
    from streammesh.client import MeshClient, Note


def watch(
    type: Annotated[
        str | None, typer.Option(help="Glob: task.failed, event.*, or over events: order.*")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Only what this service does.")] = None,
    event: Annotated[str | None, typer.Option(help="Only this event, from its beginning to its end.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only events about this.")] = None,
    source: Source = None,
    after: Annotated[
        str | None, typer.Option(help="Go on after this position; 0 for all that is kept.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show notifications until Ctrl-C; with --event until the event has ended.

    A connection that breaks is made anew and goes on where it was. With --json each line is one notification, and
    its `id` is the position for --after.
    """
    if source is not None and event is None:
        fail("--source says whose event is meant, and needs --event", WRONG_USE)
    filters = {"type": type, "service": service, "subject": subject}
    # The API tells all of one event; what is not wanted of it is left out here.
    asked = dict(filters) if event is None else {"source": source}
    query = {name: value for name, value in asked.items() if value is not None}

    async def work(mesh: MeshClient) -> None:
        await mesh.ping()  # a wrong address is told now; from here on the client tries for ever
        left = count
        async with aclosing(mesh.notifications(event=event, after=after, **query)) as notes:
            async for note in notes:
                if event is not None and not _fits(note, filters):
                    continue
                if json:
                    print_json(asdict(note))
                else:
                    console().print(note_line(note))
                if left is not None:
                    left -= 1
                    if not left:
                        return

    ask(url, key, work)


def _fits(note: Note, filters: dict[str, Any]) -> bool:
    if note.type == "resync":
        return True
    wanted, service, subject = filters["type"], filters["service"], filters["subject"]
    if wanted and not (names.matches(wanted, note.type) or names.matches(wanted, note.event.get("type", ""))):
        return False
    if service and (note.task or {}).get("service") != service:
        return False
    return not subject or note.event.get("subject") == subject
