"""`streammesh flow`: what of a subscription waits for its turn, and other limits without a deployment."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.terminal import console, plain

Name = Annotated[str, typer.Argument(metavar="TASK", help="Its task, such as report_worker.make.")]
BACK = "declared"  # takes a limit back


def flow(
    task: Name,
    concurrency: Annotated[
        str | None, typer.Option(help=f"So many of one key at once; {BACK!r}: as its manifest says.")
    ] = None,
    total: Annotated[str | None, typer.Option(help=f"So many of all keys at once, or {BACK!r}.")] = None,
    throttle: Annotated[str | None, typer.Option(help=f"Starts in a time, as 100/m, or {BACK!r}.")] = None,
    drop: Annotated[str | None, typer.Option(help=f"As 5/h: more are skipped; or {BACK!r}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many keys are shown.")] = 20,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what of a subscription waits for its turn, key by key; or set other limits."""
    path = f"/v1/subscriptions/{quote(task, safe='')}"
    said = {"concurrency": concurrency, "total": total, "throttle": throttle, "drop": drop}
    changes = {name: _value(name, value) for name, value in said.items() if value is not None}
    if changes:
        ask(url, key, lambda mesh: mesh.patch(path, changes))
    found = ask(url, key, lambda mesh: mesh.get(f"{path}/keys", {"limit": str(limit)}))
    if json:
        print_json(found)
        return
    _show(found)


def _value(name: str, value: str) -> int | str | None:
    if value == BACK:
        return None
    if name in ("throttle", "drop"):
        return value
    if not value.isascii() or not value.isdigit():
        raise typer.BadParameter(f"should be a whole number, or {BACK}", param_hint=f"--{name}")
    return int(value)


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    limits = {name: value for name, value in (found["limits"] or {}).items() if value}
    shown = ", ".join(f"{name}={value}" for name, value in limits.items()) or "none declared"
    by_hand = ", ".join(f"{name}={value}" for name, value in found["set"].items())
    out = console()
    out.print(f"{found['task']}: {shown}" + (f"; by hand: {by_hand}" if by_hand else ""), markup=False)
    out.print(
        f"{found['waiting']} wait, {found['running']} run, {found['skipped']} were skipped"
        + (f", {found['folded']} folded into runs" if found.get("folded") else ""),
        markup=False,
    )
    if not found["keys"]:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("key", "waiting", "running", "turn", "starts"):
        table.add_column(name, overflow="fold")
    for one in found["keys"]:
        turn = "" if one["turn"] is None else "next" if one["turn"] == 0 else str(one["turn"] + 1)
        name = plain(one["key"] or '""')
        table.add_row(name, str(one["waiting"]), str(one["running"]), turn, one["starts_at"] or "")
    out.print(table)
    if found["next"]:
        out.print("… and more", markup=False)
