"""`streammesh schedules`: what is due when; switched, run now, deleted."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.pages import column_lines
from streammesh.cli.terminal import console, plain

app = typer.Typer(
    help="Schedules: list, enable, disable, run now, delete.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule, such as daily-operations-report.")]


@app.command("list")
def show_list(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List schedules with their next tick."""
    found = ask(url, key, lambda mesh: mesh.get("/v1/schedules"))["schedules"]
    if json:
        print_json(found)
        return
    rows = [tuple(plain(cell) for cell in _cells(one)) for one in found]
    heads = ("schedule", "when", "publishes", "next", "of")
    out = console()
    for line in column_lines(heads, rows) if rows else ["no schedule is stored"]:
        out.print(line)


@app.command()
def enable(name: Name, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Let a schedule tick from now on."""
    _act(name, "enable", json, url, key)


@app.command()
def disable(name: Name, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Let a schedule rest until it is enabled."""
    _act(name, "disable", json, url, key)


@app.command()
def trigger(name: Name, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Publish a schedule's event now, beside its ticks."""
    found = ask(url, key, lambda mesh: mesh.post(f"{_path(name)}/trigger"))
    if json:
        print_json(found)
    else:
        console().print(f"published {plain(found['type'])} {plain(found['id'])}", markup=False)


@app.command()
def delete(name: Name, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Delete a schedule; one of the scheduler's file comes back with the file."""
    ask(url, key, lambda mesh: mesh.delete(_path(name)))
    if json:
        print_json({"deleted": name})
    else:
        console().print(f"{plain(name)} is deleted", markup=False)


def _act(name: str, action: str, json: bool, url: str | None, key: str | None) -> None:
    found = ask(url, key, lambda mesh: mesh.post(f"{_path(name)}/{action}"))
    if json:
        print_json(found)
        return
    ticks = f", next at {plain(found['next'][0])}" if found["next"] else ""
    console().print(f"{plain(name)} is {'on' if found['enabled'] else 'off'}{ticks}", markup=False)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    if one["broken"]:
        return (one["name"], "broken", one["broken"], "", "")
    when = f"{one['cron']} {one['timezone']}" if one["cron"] else f"every {one['every_seconds']:g} s"
    upcoming = one["next"][0] if one["next"] else "off"
    return (one["name"], when, one["event"]["type"], upcoming, one["origin"] or "")


def _path(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"
