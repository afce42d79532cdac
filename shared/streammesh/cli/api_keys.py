"""`streammesh keys`: make, list and revoke API keys, straight in Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from streammesh.clock import rfc3339_ms, to_ms
from streammesh.errors import MeshError

if TYPE_CHECKING:
    from streammesh.api_keys import ApiKey, ApiKeys

T = TypeVar("T")
app = typer.Typer(
    help="API keys: who may publish what and be told what.", no_args_is_help=True, rich_markup_mode=None
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _run(work: Callable[[ApiKeys], Awaitable[T]], action: str = "", about: str = "", said: Any = None) -> T:
    """Do it; an `action` is noted in the audit before it is done, and again with what came of it."""
    from streammesh import lua
    from streammesh.api_keys import ApiKeys
    from streammesh.audit import Action, note_call
    from streammesh.keys import Keys
    from streammesh.redisio.client import is_unavailable, open_async
    from streammesh.settings import MeshSettings, load_settings

    settings = load_settings(MeshSettings)

    async def run() -> T:
        client, keys = open_async(settings, "cli"), Keys(settings.namespace)
        try:
            if not action:
                return await work(ApiKeys(client, keys))
            begun = Action(f"cli:{_user()}", action, about[:512], said=said)
            noted = await lua.run(client, note_call(keys, begun))
            try:
                found = await work(ApiKeys(client, keys))
            except MeshError as error:
                refused = replace(begun, status=409, answer=str(error)[:2_000])
                await lua.run(client, note_call(keys, refused, noted))
                raise
            status = 404 if found is False else 200  # what was asked for was not there
            await lua.run(client, note_call(keys, replace(begun, status=status), noted))
            return found
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
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Sources that it may publish under beside its own name: globs, such as '/shops/*'."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="After this it is worth nothing, such as 90d; else it lasts.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    ends = None if expires is None else _span("--expires", expires)
    secret = _run(
        lambda keys: keys.create(
            name,
            publish=publish or (),
            subscribe=subscribe or (),
            admin=admin,
            rate=rate,
            sources=source or (),
            expires=ends,
        ),
        "create_key",
        name,
        {"publish": publish or [], "subscribe": subscribe or [], "admin": admin, "sources": source or []},
    )
    _show_secret(name, secret, json)


@app.command()
def rotate(
    name: str,
    overlap: Annotated[str, typer.Option(help="How long the old key works beside the new one.")] = "1h",
    json: Json = False,
) -> None:
    """Make another key with the same name and scopes, and print it; the old one ends after the overlap."""
    ends = _span("--overlap", overlap)
    _show_secret(name, _run(lambda keys: keys.rotate(name, ends), "rotate_key", name), json)


@app.command("list")
def show(json: Json = False) -> None:
    """List the keys, without their secrets."""

    async def read(keys: ApiKeys) -> tuple[list[ApiKey], dict[str, int]]:
        return await keys.list(), await keys.last_uses()

    found, used = _run(read)
    now_ms = to_ms(datetime.now(UTC))
    shown: list[dict[str, Any]] = [
        {
            "name": k.name,
            "publish": k.publish,
            "subscribe": k.subscribe,
            "sources": (k.name, *k.sources),
            "admin": k.admin,
            "rate": k.rate,
            "created": k.created,
            "expires": None if k.expires_ms is None else rfc3339_ms(k.expires_ms),
            "expired": k.has_expired(now_ms),
            "last_used": rfc3339_ms(used[k.digest]) if k.digest in used else None,
        }
        for k in found
    ]
    if json:
        typer.echo(orjson.dumps(shown).decode())
        return
    table = Table(
        *("name", "may publish", "as", "may subscribe", "admin", "rate", "created", "expires", "last used")
    )
    for key in shown:
        table.add_row(
            key["name"],
            " ".join(key["publish"]),
            "any source" if key["admin"] else " ".join(key["sources"]),
            " ".join(key["subscribe"]),
            "yes" if key["admin"] else "",
            f"{key['rate']}/s" if key["rate"] else "",
            key["created"],
            "expired" if key["expired"] else key["expires"] or "",
            key["last_used"] or "",
        )
    Console().print(table)


@app.command()
def revoke(name: str) -> None:
    """Make a key worthless, for good; open connections of it end within seconds."""
    if not _run(lambda keys: keys.revoke(name), "revoke_key", name):
        typer.echo(f"error: there is no key called {name!r}; `streammesh keys list` shows them", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {name}")


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def _show_secret(name: str, secret: str, json: bool) -> None:
    typer.echo(orjson.dumps({"name": name, "key": secret}).decode() if json else secret)


def _span(option: str, text: str) -> timedelta:
    from streammesh.durations import parse_duration

    try:
        span = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    assert isinstance(span, timedelta)
    return span
