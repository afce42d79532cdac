"""`streammesh subscriptions`: what each service wants; paused and resumed."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.terminal import console, plain

app = typer.Typer(help="Subscriptions: list, pause, resume.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="TASK", help="Its task, such as email_worker.send_welcome.")]


@app.command("list")
def show_list(
    paused: Annotated[bool, typer.Option("--paused", help="Only those that are paused.")] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List subscriptions, and how many of their tasks wait where they are paused."""
    query = {"paused": "true"} if paused else None
    found = ask(url, key, lambda mesh: mesh.get("/v1/subscriptions", query))["subscriptions"]
    if json:
        print_json(found)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "type", "state", "waiting", "reason"):
        table.add_column(name, overflow="fold")
    for one in found:
        state = Text("paused", style="bold yellow") if one["paused"] else Text("on", style="green")
        reason = one["paused"]["reason"] if one["paused"] else ""
        table.add_row(plain(one["task"]), plain(one["type"]), state, str(one["held"] or ""), plain(reason))
    console().print(table)


@app.command()
def pause(
    task: Name,
    reason: Annotated[str, typer.Option(help="Why; shown to whoever wonders.")] = "paused by hand",
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Set a subscription's tasks aside from now on; what runs runs on."""
    path = f"/v1/subscriptions/{quote(task, safe='')}/pause"
    _tell(ask(url, key, lambda mesh: mesh.post(path, {"reason": reason})), json)


@app.command()
def resume(task: Name, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Go on, and queue what was set aside."""
    path = f"/v1/subscriptions/{quote(task, safe='')}/resume"
    _tell(ask(url, key, lambda mesh: mesh.post(path)), json)


def _tell(state: dict[str, Any], json: bool) -> None:
    if json:
        print_json(state)
        return
    now = f"paused: {state['paused']['reason']}" if state["paused"] else "on"
    waiting = f", {state['held']} tasks wait" if state["held"] else ""
    console().print(f"{plain(state['task'])} is {plain(now)}{waiting}", markup=False)
