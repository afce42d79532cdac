"""`streammesh publish`: say that something happened."""

from __future__ import annotations

import re
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh import plain_json
from streammesh.cli.asking import NOT_SUCCEEDED, WRONG_USE, Json, Key, Url, ask, fail, print_json
from streammesh.cli.showing import console, note_line, plain

if TYPE_CHECKING:
    from streammesh.client import MeshClient

_ATTRIBUTE = re.compile(r"([a-z0-9]{1,64})=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,9}")
OWN_OPTION = {"id", "type", "source", "subject", "data", "specversion"}


def publish(
    event_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="What happened, such as user.registered.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(metavar="JSON", help="The data: JSON, @FILE, or - for standard input."),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="What it is about, such as user/42.")] = None,
    id: Annotated[
        str | None, typer.Option(help="Its id; published again with it, it is a duplicate.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Who says so; else the key's name.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another attribute, such as priority=9."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show what comes of it, until all has ended.")] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Publish one event.

    With --wait the exit code is 4 when a task of it did not succeed.
    """
    payload, attributes = _data(data), _attributes(set_ or [])
    if source is not None:
        attributes["source"] = source

    async def work(mesh: MeshClient) -> bool:
        sent = await mesh.publish(event_type, payload, id=id, subject=subject, **attributes)
        if json:
            print_json(asdict(sent))
        else:
            known = "  (known already, stored no second time)" if sent.duplicate else ""
            console().print(plain(f"{sent.type}  {sent.id}  from {sent.source}") + known, markup=False)
        return not wait or await _follow(mesh, sent.id, sent.source, json)

    if not ask(url, key, work):
        raise typer.Exit(NOT_SUCCEEDED)


async def _follow(mesh: MeshClient, event_id: str, source: str, json: bool) -> bool:
    """Show what comes of an event; answers whether every task of it succeeded."""
    well = True
    async with aclosing(mesh.notifications(event=event_id, source=source)) as notes:
        async for note in notes:
            well = well and note.type not in ("task.failed", "task.cancelled", "task.expired")
            if json:
                print_json(asdict(note))
            else:
                console().print(note_line(note))
    return well


def _data(text: str | None) -> Any:
    if text is None:
        return None
    try:
        if text == "-":
            return plain_json.loads(sys.stdin.buffer.read())
        return plain_json.loads(Path(text[1:]).read_bytes() if text.startswith("@") else text.encode())
    except OSError as error:
        fail(f"{text[1:]}: {error.strerror}", WRONG_USE)
    except ValueError as error:
        fail(f"the data is not JSON: {error}", WRONG_USE)


def _attributes(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        parts = _ATTRIBUTE.fullmatch(text)
        if not parts:
            fail(
                f"--set {text!r}: should be NAME=VALUE, the name in lower-case letters and digits", WRONG_USE
            )
        name, value = parts.groups()
        if name in OWN_OPTION:
            fail(f"--set {name}: has an argument or option of its own", WRONG_USE)
        found[name] = int(value) if _NUMBER.fullmatch(value) else value
    return found
