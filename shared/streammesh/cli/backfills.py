"""`streammesh backfill` and `streammesh backfills`: the past for a service that comes late."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from streammesh.cli.api_call import NOT_SUCCEEDED, Json, Key, Url, ask, print_json
from streammesh.cli.pages import moment
from streammesh.cli.rate import tasks_a_second
from streammesh.cli.terminal import console, facts, plain

if TYPE_CHECKING:
    from streammesh.client import MeshClient

app = typer.Typer(help="Backfills: list, show, stop.", no_args_is_help=True, rich_markup_mode=None)
LOOK_SECONDS = 1.0
Id = Annotated[str, typer.Argument(metavar="ID", help="The backfill's id.")]


def backfill(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Whose subscriptions are given them.")],
    event_type: Annotated[
        str, typer.Argument(metavar="[TYPE]", help="Of events of this type; a glob.")
    ] = "*",
    since: Annotated[str, typer.Option(help="From then on: 30d, or 2026-11-01T00:00.")] = "",
    until: Annotated[str | None, typer.Option(help="Up to then; up to now if not said.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="How many tasks are handed over: 50/s, 600/m. As there is room else.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show how far it is, to its end.")] = True,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Give a service its past. Ctrl-C ends the look at it, and not the backfill."""
    body = {"service": service, "type": event_type}
    _begin("backfills", body, since, until, rate, dry_run, wait, json, url, key)


def replay(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Whose tasks begin anew.")],
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Of handlers with this name; a glob.")] = "*",
    state: Annotated[
        list[str] | None,
        typer.Option(help="How they ended: failed, cancelled, expired (all three if not said), succeeded."),
    ] = None,
    event_type: Annotated[str, typer.Option("--type", help="Of events of this type; a glob.")] = "*",
    since: Annotated[str, typer.Option(help="Of events from then on: 2d, or 2026-11-21T00:00.")] = "",
    until: Annotated[str | None, typer.Option(help="Up to then; up to now if not said.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="How many begin: 50/s, 600/m. As there is room else.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show how far it is, to its end.")] = True,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run ended tasks of a service again. Ctrl-C ends the look at it, and not the replay."""
    body: dict[str, Any] = {"service": service, "task": task, "type": event_type}
    if state:
        body["states"] = state
    _begin("replays", body, since, until, rate, dry_run, wait, json, url, key)


def _begin(
    what: str,
    body: dict[str, Any],
    since: str,
    until: str | None,
    rate: str | None,
    dry_run: bool,
    wait: bool,
    json: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Begin either, and show how far it is."""
    if not since:
        raise typer.BadParameter("say from when on: --since 30d, or --since 2026-11-01T00:00")
    body |= {"since": moment(since), "dry_run": dry_run}
    if until:
        body["until"] = moment(until)
    if rate:
        body["rate"] = tasks_a_second(rate)

    async def work(mesh: MeshClient) -> dict[str, Any]:
        begun = await mesh.post(f"/v1/{what}", body)
        if dry_run or not wait:
            return begun
        if not json:
            console().print(f"backfill {begun['id']}; streammesh backfills stop ends it", markup=False)
        return await _followed(mesh, begun, json)

    found = ask(url, key, work)
    if json:
        print_json(found)
    elif dry_run:
        more = " at least" if found["more"] else ""
        console().print(
            f"{found['tasks']} tasks{more} of {found['events']} events; {found['known']} ran or wait already,"
            f" {found['left_out']} events are left out",
            markup=False,
        )
    else:
        _tell(found)
    if found.get("state") == "stopped":
        raise typer.Exit(NOT_SUCCEEDED)


@app.command("list")
def show_list(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List backfills, the newest first."""
    found = ask(url, key, lambda mesh: mesh.get("/v1/backfills"))["backfills"]
    if json:
        print_json(found)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "service", "type", "state", "done", "tasks", "waits"):
        table.add_column(name, no_wrap=name == "id")
    for one in found:
        done = f"{one['progress']:.0%}"
        waits = plain(one["waits"] or one["reason"])
        table.add_row(
            one["id"], one["service"], plain(one["type"]), one["state"], done, str(one["tasks"]), waits
        )
    console().print(table)


@app.command()
def show(backfill_id: Id, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show one backfill and how far it is."""
    found = ask(url, key, lambda mesh: mesh.get(_path(backfill_id)))
    print_json(found) if json else _tell(found)


@app.command()
def stop(backfill_id: Id, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Stop one. What it handed over stays."""
    found = ask(url, key, lambda mesh: mesh.delete(_path(backfill_id)))
    print_json(found) if json else _tell(found)


async def _followed(mesh: MeshClient, begun: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Show how far it is until it has ended; answers what it is then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown_on = Console(file=sys.stderr)
    with Progress(*columns, console=shown_on, disable=quiet or not sys.stderr.isatty()) as bar:
        shown = bar.add_task("backfill", total=1.0)
        found = begun
        while found["state"] == "running":
            await asyncio.sleep(LOOK_SECONDS)
            found = await mesh.get(_path(begun["id"]))
            words = f"{found['tasks']} tasks" + (
                f", waits: {plain(found['waits'])}" if found["waits"] else ""
            )
            bar.update(shown, completed=found["progress"], description=words)
    return found


def _path(backfill_id: str) -> str:
    return f"/v1/backfills/{quote(backfill_id, safe='')}"


def _tell(found: dict[str, Any]) -> None:
    out = console()
    said = [
        ("backfill", found["id"]),
        ("service", found["service"]),
        ("type", found["type"]),
        ("of", f"{found['since']} to {found['until']}"),
        ("state", found["state"]),
        ("done", f"{found['progress']:.1%}, up to {found['at']}"),
        ("waits", found["waits"]),
        ("reason", found["reason"]),
        ("events", str(found["events"])),
        ("tasks", str(found["tasks"])),
        ("known", str(found["known"])),
        ("live", str(found["live"])),
        ("left out", str(found["left_out"])),
    ]
    for line in facts([(name, value) for name, value in said if value]):
        out.print(line)
