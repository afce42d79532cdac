"""`streammesh dead`: look at work that was given up, replay it, drop it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from streammesh.cli.api_call import WRONG_USE, Json, Key, Url, ask, fail, print_json
from streammesh.cli.pages import moment, read_pages
from streammesh.cli.rate import tasks_a_second
from streammesh.cli.terminal import console, facts, plain

if TYPE_CHECKING:
    from streammesh.client import MeshClient

app = typer.Typer(
    help="Dead letters: work that was given up, with its reason.", no_args_is_help=True, rich_markup_mode=None
)
PAGE = 500  # letters that one request replays or drops
REASON = 120  # characters of a reason in a list
Service = Annotated[str | None, typer.Option(help="Of this service.")]
Task = Annotated[str | None, typer.Option(help="Of handlers with this name; a glob.")]
Type = Annotated[str | None, typer.Option("--type", help="Of events of this type; a glob.")]
Kind = Annotated[str | None, typer.Option(help="With this class of error.")]
Reason = Annotated[str | None, typer.Option(help="With this in their reason.")]
Since = Annotated[str | None, typer.Option(help="Not older than this: 2h, or 2026-11-22T06:00.")]
Until = Annotated[str | None, typer.Option(help="Not younger than this.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Their ids; else a filter.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command("list")
def show_list(
    service: Service = None,
    task: Task = None,
    event_type: Type = None,
    kind: Kind = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Most letters.")] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List dead letters, newest first; with --json one document a line."""
    wanted = _filter(service, task, event_type, kind, reason, since, until)
    found, _ = ask(
        url, key, lambda mesh: read_pages(mesh, "/v1/dead-letters", wanted, "dead_letters", limit, PAGE)
    )
    if json:
        for letter in found:
            print_json(letter)
        return
    if not found:
        console().print("no dead letters")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("at", "task", "kind", "tries", "id", "reason"):
        table.add_column(name, no_wrap=True)
    for letter in found:
        table.add_row(
            *(letter["at"][:19], plain(letter["task"] or f"{letter['service']} ({letter['form']})")),
            *(Text(plain(letter["kind"]), style="red"), str(letter["attempts"]), plain(letter["id"])),
            plain(letter["reason"])[:REASON],
        )
    # As wide as it has to be, so that ids can be copied.
    Console(file=sys.stdout, highlight=False, width=_width(table)).print(table)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id.")],
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show one dead letter with its traceback and the whole event."""
    letter = ask(url, key, lambda mesh: mesh.get(f"/v1/dead-letters/{quote(letter_id, safe='')}"))
    if json:
        print_json(letter)
        return
    about = letter["event"] or {}
    out = console()
    for line in facts(
        [
            ("letter", letter["id"]),
            ("service", letter["service"]),
            ("task", letter["task"]),
            ("event", f"{about['type']}  {about['id']}  from {about['source']}" if about else ""),
            ("at", letter["at"]),
            ("attempts", letter["attempts"]),
            ("kind", letter["kind"]),
            ("reason", letter["reason"]),
            ("envelope", letter.get("envelope")),
            ("raw", letter.get("raw")),
        ]
    ):
        out.print(line)
    if letter["detail"]:
        out.print()
        for line in letter["detail"].splitlines():
            out.print(Text(plain(line), style="dim"))


@app.command()
def replay(
    ids: Ids = None,
    everything: All = False,
    service: Service = None,
    task: Task = None,
    event_type: Type = None,
    kind: Kind = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[
        str | None, typer.Option(help="How fast tasks start: 50/s, 600/m. All at once else.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Give dead letters another life: their tasks begin anew with the first attempt."""
    body = _choice(ids, everything, service, task, event_type, kind, reason, since, until)
    if rate:
        body["rate"] = tasks_a_second(rate)
    done = ask(url, key, lambda mesh: _act(mesh, "replay", body, dry_run, json))
    _tell(done, "replayed", "would be replayed" if dry_run else "replayed", json)


@app.command()
def drop(
    ids: Ids = None,
    everything: All = False,
    service: Service = None,
    task: Task = None,
    event_type: Type = None,
    kind: Kind = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Drop dead letters for good; their tasks stay failed."""
    body = _choice(ids, everything, service, task, event_type, kind, reason, since, until)
    if not (yes or dry_run or typer.confirm("They cannot be replayed any more. Drop them?", err=True)):
        raise typer.Exit(1)
    done = ask(url, key, lambda mesh: _act(mesh, "drop", body, dry_run, json))
    _tell(done, "dropped", "would be dropped" if dry_run else "dropped", json)


async def _act(
    mesh: MeshClient, action: str, body: dict[str, Any], dry_run: bool, quiet: bool
) -> dict[str, Any]:
    """Replay or drop page by page, with a bar; answers the sum."""
    path, key = f"/v1/dead-letters/{action}", {"replay": "replayed", "drop": "dropped"}[action]
    looked = await mesh.post(path, {**body, "dry_run": True, "limit": 10_000})
    if dry_run:
        return {**looked, key: looked["matched"]}
    total: dict[str, Any] = {"matched": 0, key: 0, "left": {}, "by": looked["by"], "more": False}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(file=sys.stderr), disable=quiet or not sys.stderr.isatty()
    ) as bar:
        shown = bar.add_task(action, total=None if looked["more"] else looked["matched"])
        while True:
            page = await mesh.post(path, {**body, "limit": PAGE})
            total["matched"] += page["matched"]
            total[key] += page[key]
            for why, count in page.get("left", {}).items():
                total["left"][why] = total["left"].get(why, 0) + count
            bar.advance(shown, page[key])
            if not page["more"] or not page[key]:
                return total
            await asyncio.sleep(page.get("seconds", 0))  # the next page starts when this one has started


def _tell(done: dict[str, Any], key: str, words: str, json: bool) -> None:
    if json:
        print_json(done)
        return
    out = console()
    for group in done["by"]:
        name = group["task"] or group["service"]
        out.print(Text(f"{group['count']:>7}  {plain(name)}  {plain(group['kind'])}"))
    more = " at least" if done.get("more") else ""
    out.print(Text(f"{done[key]}{more} {words}"))
    for why, count in done.get("left", {}).items():
        out.print(Text(f"{count} not: {plain(why)}", style="yellow"))


def _filter(*values: str | None) -> dict[str, str]:
    names = ("service", "task", "type", "kind", "reason", "since", "until")
    given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    for name in ("since", "until"):
        if name in given:
            given[name] = moment(given[name])
    return given


def _choice(ids: list[str] | None, everything: bool, *values: str | None) -> dict[str, Any]:
    wanted = _filter(*values)
    if sum((bool(ids), everything, bool(wanted))) != 1:
        fail("say which: ids, or a filter such as --service, or --all", WRONG_USE)
    if ids:
        return {"ids": ids}
    # What fails again meanwhile is not replayed again by the same command.
    wanted.setdefault("until", datetime.now(UTC).isoformat())
    return {"filter": wanted}


def _width(table: Table) -> int:
    widest = Console(width=10_000)
    return max(80, table.__rich_measure__(widest, widest.options).maximum)
