"""`streammesh publish`: say that something happened."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh import plain_json
from streammesh.cli.api_call import (
    NOT_ENDED,
    NOT_SUCCEEDED,
    NOTHING_RAN,
    WRONG_USE,
    Json,
    Key,
    Url,
    ask,
    fail,
    print_json,
)
from streammesh.cli.terminal import console, note_line, plain

if TYPE_CHECKING:
    from streammesh.client import MeshClient, Sent

PATIENCE = 3.0  # seconds of waiting after which it is said for what
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
    timeout: Annotated[
        float, typer.Option(min=0.1, help="With --wait: seconds after which it ends with exit code 6.")
    ] = 300.0,
    url: Url = None,
    key: Key = None,
) -> None:
    """Publish one event.

    With --wait the exit code is 4 when a task of it did not succeed, 5 when nothing ran since nobody wants it, 6
    when it has not ended in time.
    """
    payload, attributes = _data(data), _attributes(set_ or [])

    async def work(mesh: MeshClient) -> int:
        sent = await mesh.publish(event_type, payload, id=id, source=source, subject=subject, **attributes)
        if json:
            print_json(asdict(sent))
        else:
            known = "  (known already, stored no second time)" if sent.duplicate else ""
            console().print(plain(f"{sent.type}  {sent.id}  from {sent.source}") + known, markup=False)
        return await _to_the_end(mesh, sent, json, timeout) if wait else 0

    if code := ask(url, key, work):
        raise typer.Exit(code)


async def _to_the_end(mesh: MeshClient, sent: Sent, json: bool, timeout: float) -> int:
    """Show what comes of an event, and after a while of silence what it waits for. Return the exit code."""
    from streammesh.client import OutcomeOf, State

    found = OutcomeOf(sent.id, sent.source)

    async def follow() -> None:
        async with aclosing(mesh.notifications(event=sent.id, source=sent.source)) as notes:
            async for note in notes:
                found.add(note)
                if json:
                    print_json(asdict(note))
                else:
                    console().print(note_line(note))

    async def say_what_it_waits_for() -> None:
        said: list[str] = []
        while True:
            await asyncio.sleep(PATIENCE)
            waiting = await mesh.waiting_for(sent)
            for line in waiting:
                if line not in said:
                    typer.echo(f"waiting: {plain(line)}", err=True)
            said = waiting

    watcher = asyncio.create_task(say_what_it_waits_for())
    try:
        async with asyncio.timeout(timeout):
            await follow()
    except TimeoutError:
        waiting = "; ".join(await mesh.waiting_for(sent))
        typer.echo(f"not ended after {timeout:g} s{f': {plain(waiting)}' if waiting else ''}", err=True)
        return NOT_ENDED
    finally:
        watcher.cancel()
    codes = {State.SUCCEEDED: 0, State.FAILED: NOT_SUCCEEDED, State.NOTHING_RAN: NOTHING_RAN}
    return codes[found.outcome().state]


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
