"""Runs what a command asks of the API, and turns what goes wrong into one line and an exit code.

0 done · 1 refused by the mesh, or not there · 2 wrongly used · 3 cannot be reached · 4 done, and a task of it
did not succeed · 130 ended by Ctrl-C
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from json import JSONDecodeError
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from streammesh import plain_json
from streammesh.cli.address import NoAddress, find_address
from streammesh.cli.settings import ClientSettings
from streammesh.errors import MeshError, MeshUnavailable
from streammesh.settings import load_settings

if TYPE_CHECKING:
    from streammesh.client import MeshClient

REFUSED, WRONG_USE, UNREACHABLE, NOT_SUCCEEDED, INTERRUPTED = 1, 2, 3, 4, 130
T = TypeVar("T")
Url = Annotated[str | None, typer.Option(help="The API; else STREAMMESH_URL, else what `up` runs here.")]
Key = Annotated[str | None, typer.Option(help="API key; else STREAMMESH_KEY, else that of `up`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Source = Annotated[str | None, typer.Option(help="The event's source, where several used its id.")]


def ask(url: str | None, key: str | None, work: Callable[[MeshClient], Awaitable[T]]) -> T:
    """Do `work` with a client of the mesh that is meant. Ends the command where that cannot be done."""
    from streammesh.client import MeshClient

    async def run() -> T:
        address = find_address(url, key, load_settings(ClientSettings))
        async with MeshClient(address.url, api_key=address.key) as mesh:
            return await work(mesh)

    try:
        return asyncio.run(run())
    except NoAddress as error:
        fail(error, WRONG_USE)
    except MeshUnavailable as error:
        fail(error, UNREACHABLE)
    except MeshError as error:
        fail(error, REFUSED)
    except (JSONDecodeError, KeyError, TypeError) as error:
        fail(f"what answers there is not a mesh's API ({type(error).__name__})", REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(why: object, code: int) -> NoReturn:
    """Say why on standard error, in one line, and end the command."""
    typer.echo(f"error: {' '.join(str(why).split())}", err=True)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One document, on one line, at once."""
    typer.echo(plain_json.dumps(value).decode())
