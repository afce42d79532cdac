"""`streammesh keys`: make, list and revoke API keys, straight in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.errors import MeshError
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable, open_async
from streammesh.settings import MeshSettings, load_settings

T = TypeVar("T")
app = typer.Typer(help="API keys: who may publish what and be told what.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _run(work: Callable[[ApiKeys], Awaitable[T]]) -> T:
    settings = load_settings(MeshSettings)

    async def run() -> T:
        client = open_async(settings, "cli")
        try:
            return await work(ApiKeys(client, Keys(settings.namespace)))
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except MeshError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except Exception as error:
        if not is_unavailable(error):
            raise
        typer.echo(f"error: Redis at MESH_REDIS_URL cannot be reached: {error}", err=True)
        raise typer.Exit(3) from None


@app.command()
def create(
    name: str,
    publish: Annotated[list[str] | None, typer.Option(help="Types it may publish, such as 'user.*'.")] = None,
    subscribe: Annotated[list[str] | None, typer.Option(help="Types it may be told about.")] = None,
    admin: Annotated[bool, typer.Option(help="May do everything.")] = False,
    rate: Annotated[
        int | None,
        typer.Option(help="Events a second that it may publish to one API process; else API_RATE."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    secret = _run(
        lambda keys: keys.create(
            name, publish=publish or (), subscribe=subscribe or (), admin=admin, rate=rate
        )
    )
    typer.echo(orjson.dumps({"name": name, "key": secret}).decode() if json else secret)


@app.command("list")
def show(json: Json = False) -> None:
    """List the keys, without their secrets."""
    found: list[ApiKey] = _run(lambda keys: keys.list())
    if json:
        shown = [
            {
                "name": k.name,
                "publish": k.publish,
                "subscribe": k.subscribe,
                "admin": k.admin,
                "rate": k.rate,
                "created": k.created,
            }
            for k in found
        ]
        typer.echo(orjson.dumps(shown).decode())
        return
    table = Table("name", "may publish", "may subscribe", "admin", "rate", "created")
    for key in found:
        table.add_row(
            key.name,
            " ".join(key.publish),
            " ".join(key.subscribe),
            "yes" if key.admin else "",
            f"{key.rate}/s" if key.rate else "",
            key.created,
        )
    Console().print(table)


@app.command()
def revoke(name: str) -> None:
    """Make a key worthless; open connections of it end within seconds."""
    if not _run(lambda keys: keys.revoke(name)):
        typer.echo(f"error: there is no key called {name!r}; `streammesh keys list` shows them", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {name}")
