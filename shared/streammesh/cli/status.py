"""`streammesh status`: how the mesh is. `streammesh services`: each service in it; looked at, taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.terminal import console, plain

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

DEGRADED, FAILING = 4, 5  # exit codes
MOST_SHOWN = 8  # workers of a service, tasks of a worker
OVER = "1s"  # between two looks, from which rates are told
STYLES = {"ok": "bold green", "degraded": "bold yellow", "failing": "bold red"}
services = typer.Typer(
    help="Services: list them, look at one, take one away.", no_args_is_help=True, rich_markup_mode=None
)


def status(json: Json = False, url: Url = None, key: Key = None) -> None:
    """Say what is wrong in the mesh. Exit code 0: nothing, 4: warnings, 5: errors, 3: the API or Redis is away."""
    found = ask(url, key, lambda mesh: mesh.get("/v1/status"))
    if json:
        print_json(found)
    else:
        _show(found)
    code = {"degraded": DEGRADED, "failing": FAILING}.get(found["status"], 0)
    if code:
        raise typer.Exit(code)


def finding_text(one: Mapping[str, Any]) -> Text:
    """Return a finding as two lines: what is wrong, and what to do."""
    from rich.text import Text

    said = Text(f"{plain(one['severity']):<8} ", style="red" if one["severity"] == "error" else "yellow")
    said.append(plain(one["text"]), style="default")
    if one["do"]:
        said.append(f"\n         {plain(one['do'])}", style="dim")
    return said


def memory_text(redis: Mapping[str, Any]) -> str:
    """Return how near Redis is to where publishing is refused."""
    part, full = redis["memory"] / redis["refused_at"], redis["full_in_seconds"]
    when = "" if full is None else f"; at the rate of the last minute that is in {full:,.0f} s"
    return f"Redis has {part:.0%} of the memory from which on publishing is refused{when if part < 1 else ''}"


def _show(found: dict[str, Any]) -> None:
    from rich.text import Text

    out = console()
    line = Text(plain(found["status"]), style=STYLES.get(found["status"], ""))
    redis = found["redis"]
    line.append(
        f"  Redis {plain(redis['version'])}, {redis['memory'] / 1e6:,.0f} MB;"
        f" {found['apis']} API, {found['dispatchers']} dispatcher, {found['beats']} Beat",
        style="not bold default",
    )
    out.print(line)
    if redis["refused_at"]:
        out.print(memory_text(redis), markup=False)
    for one in found["findings"]:
        out.print(finding_text(one))
    if found["services"]:
        out.print(_table(found["services"]))
        _show_processes(found["services"])


@services.callback()
def _group() -> None:
    """Services: list them, look at one, take one away."""


@services.command("list")
def show_list(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List services with their workers and what waits for them."""
    found = ask(url, key, lambda mesh: mesh.get("/v1/services"))["services"]
    if json:
        print_json(found)
    else:
        console().print(_table(found))
        _show_processes(found)


@services.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service, such as email_worker.")],
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what waits for a service the longest, when its backlog will be gone, and what each worker holds."""
    path = f"/v1/services/{quote(name, safe='')}"
    found = ask(url, key, lambda mesh: mesh.get(path, {"over": OVER}))
    if json:
        print_json(found)
        return
    out = console()
    out.print(_table([found]))
    out.print(_backlog(found), markup=False)
    if oldest := found["oldest"]:
        about, where = oldest["event"], {"stream": "to be handed over", "queue": "in its queue"}
        told = f"{plain(about['type'])} {plain(about['id'])}" if about else "what cannot be read"
        waits = f"the oldest waits {where[oldest['where']]} since {plain(oldest['since'])}: {told}"
        out.print(waits, markup=False)
    for one in found["holding"]:
        taken = f"{one['taken']} of the queue, runs {len(one['running'])}"
        out.print(f"{plain(one['process'])} holds {taken}", markup=False)
        for task in one["running"][:MOST_SHOWN]:
            since = f"since {plain(task['started_at'])}" if task["started_at"] else ""
            out.print(f"  {plain(task['name'])} {plain(task['id'])} {since}".rstrip(), markup=False)


def _backlog(found: Mapping[str, Any]) -> str:
    falls, gone = found["falls_per_second"], found["gone_in_seconds"]
    if gone == 0:
        return "nothing waits"
    if gone is not None:
        return f"its backlog falls by {falls:,.1f}/s and will be gone in {gone:,.0f} s"
    if falls is None:
        return "it is not known how fast its backlog falls"
    return f"its backlog grows by {-falls:,.1f}/s" if falls < 0 else "its backlog does not fall"


@services.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service, such as old_worker.")],
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop what waits; else it becomes dead letters.")
    ] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Take a service out of the mesh; refused while its workers live. Its dead letters stay."""
    path, query = f"/v1/services/{quote(name, safe='')}", {"backlog": "drop" if drop else "dead-letter"}
    sums = dict.fromkeys(("events", "tasks", "calls"), 0)
    found: dict[str, Any] = {"removed": False}
    while not found["removed"]:
        found = ask(url, key, lambda mesh: mesh.delete(path, query))
        sums = {what: count + found[what] for what, count in sums.items()}
        if not json and not found["removed"]:
            console().print(
                f"{plain(name)}: {sums['events']} events, {sums['tasks']} tasks so far", markup=False
            )
    if json:
        print_json({**found, **sums})
        return
    did = "dropped" if drop else "made dead letters"
    told = f"{sums['events']} events, {sums['tasks']} tasks and {sums['calls']} calls that waited were {did}"
    console().print(f"{plain(name)} is removed; {told}", markup=False)


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service", overflow="fold")
    for name in ("workers", "queued", "not handed over", "oldest waits", "set aside", "dead letters"):
        table.add_column(name, justify="right")
    for one in found:
        oldest = one["oldest_waiting_seconds"]
        lag = str(one["lag"]) if one["lag_exact"] else f"{one['lag']} or more"
        workers = str(one["workers"]) if one["registered"] else "left"
        style = "" if one["workers"] else "yellow"
        cells = (str(one["queued"]), lag, "" if oldest is None else f"{oldest:,.1f} s")
        more = (str(one["held"] or ""), str(one["dead_letters"] or ""))
        table.add_row(Text(plain(one["service"])), Text(workers, style=style), *cells, *more)
    return table


def _show_processes(found: list[dict[str, Any]]) -> None:
    """Say which processes the workers are: the machine, the number within their group, the process id."""
    from rich.text import Text

    for one in found:
        named = one.get("processes", [])[:MOST_SHOWN]
        if not named:
            continue
        more = one["workers"] - len(named)
        told = ", ".join(map(plain, named)) + (f" and {more} more" if more > 0 else "")
        console().print(Text(f"{plain(one['service'])}: {told}", style="dim"))
