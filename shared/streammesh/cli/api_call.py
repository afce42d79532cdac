"""Runs what a command asks of the API, and turns what goes wrong into one line and an exit code.

0 done · 1 refused by the mesh, or not there · 2 wrongly used · 3 cannot be reached · 4 done, and a task of it
did not succeed · 5 done, and nothing ran · 6 not ended in the time given · 130 ended by Ctrl-C
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from streammesh import plain_json
from streammesh.errors import MeshError, MeshUnavailable

if TYPE_CHECKING:
    from streammesh.client import MeshClient, Reconnect

REFUSED, WRONG_USE, UNREACHABLE, NOT_SUCCEEDED, NOTHING_RAN, NOT_ENDED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130
T = TypeVar("T")
Url = Annotated[str | None, typer.Option(help="The API; else STREAMMESH_URL, else what `up` runs here.")]
Key = Annotated[str | None, typer.Option(help="API key; else STREAMMESH_KEY, else that of `up`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Source = Annotated[str | None, typer.Option(help="The event's source, where several used its id.")]


def ask(url: str | None, key: str | None, work: Callable[[MeshClient], Awaitable[T]]) -> T:
    """Do `work` with a client of the mesh that is meant. Ends the command where that cannot be done."""
    from streammesh.cli.address import NoAddress, find_address
    from streammesh.cli.settings import load_client_settings
    from streammesh.client import MeshClient

    settings = load_client_settings()

    async def run() -> T:
        address = find_address(url, key, settings)
        patience = settings.retry_for.total_seconds()
        async with MeshClient(
            address.url, api_key=address.key, retry_for=patience, on_reconnect=_say_lost
        ) as mesh:
            return await work(mesh)

    try:
        return asyncio.run(run())
    except NoAddress as error:
        fail(error, WRONG_USE)
    except MeshUnavailable as error:
        fail(error, UNREACHABLE)
    except MeshError as error:
        fail(error, REFUSED)
    except (ValueError, KeyError, TypeError) as error:
        fail(f"what answers there is not a mesh's API ({type(error).__name__})", REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(why: object, code: int) -> NoReturn:
    """Say why on standard error, in one line, and end the command."""
    typer.echo(f"error: {' '.join(str(why).split())}", err=True)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One document, on one line, at once; in any encoding of standard output it is the same JSON."""
    text = plain_json.dumps(value).decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), separators=(",", ":"))  # every other character as \\u escape
    typer.echo(text)


def _say_lost(reconnect: Reconnect) -> None:
    if reconnect.tries == 3:  # not of a moment, as when one of several replicas is renewed
        typer.echo(f"the mesh is away ({reconnect.reason}); it is tried again until it is back", err=True)
