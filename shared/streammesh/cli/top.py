"""`streammesh top`: the mesh as it works, until Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh.cli.api_call import Json, Key, Url, ask, print_json
from streammesh.cli.status import STYLES, finding_text
from streammesh.cli.terminal import plain

if TYPE_CHECKING:
    from rich.console import Group

    from streammesh.client import MeshClient

MOST_FINDINGS = 6


def top(
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many looks.")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show rates, what waits and what is wrong, service by service, until Ctrl-C. With --json a line a look."""
    ask(url, key, lambda mesh: _watch(mesh, every, count, json))


async def _watch(mesh: MeshClient, every: float, count: int | None, json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    looks, before, at = 0, None, 0.0
    with Live(console=Console(), auto_refresh=False, screen=False) as live:
        while count is None or looks < count:
            if looks:
                await asyncio.sleep(every)
            found = await mesh.get("/v1/status")
            now, looks = time.monotonic(), looks + 1
            rates = rates_of(before, found, now - at)
            before, at = found, now
            if json:
                print_json({"status": found["status"], "services": rates, "findings": found["findings"]})
            else:
                live.update(_shown(found, rates), refresh=True)


def rates_of(before: dict[str, Any] | None, found: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Each service with what it ended a second since the look before, and when its backlog will be gone at that rate."""
    earlier = {one["service"]: one for one in (before or {}).get("services", [])}
    rows = []
    for one in found["services"]:
        waiting = one["queued"] + one["lag"]
        last = earlier.get(one["service"])
        falls = (last["queued"] + last["lag"] - waiting) / seconds if last and seconds > 0 else None
        gone = waiting / falls if falls and falls > 0 else None
        rows.append(
            {
                **{
                    name: one[name]
                    for name in ("service", "workers", "queued", "lag", "held", "dead_letters")
                },
                "oldest_waiting_seconds": one["oldest_waiting_seconds"],
                "falls_per_second": None if falls is None else round(falls, 1),
                "gone_in_seconds": 0.0 if waiting == 0 else None if gone is None else round(gone, 1),
            }
        )
    return sorted(rows, key=lambda row: (-(row["oldest_waiting_seconds"] or 0), row["service"]))


def _shown(found: dict[str, Any], rates: list[dict[str, Any]]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    redis = found["redis"]
    head = Text(plain(found["status"]), style=STYLES.get(found["status"], ""))
    head.append(
        f"  {time.strftime('%H:%M:%S')}  Redis {redis['memory'] / 1e6:,.0f} MB  {found['apis']} API, "
        f"{found['dispatchers']} dispatcher, {found['beats']} Beat",
        style="not bold default",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service")
    for name in (
        "workers",
        "queued",
        "not handed over",
        "oldest",
        "backlog falls",
        "gone in",
        "set aside",
        "dead",
    ):
        table.add_column(name, justify="right")
    for row in rates:
        oldest, falls, gone = row["oldest_waiting_seconds"], row["falls_per_second"], row["gone_in_seconds"]
        table.add_row(
            Text(plain(row["service"])),
            Text(str(row["workers"]), style="" if row["workers"] else "yellow"),
            f"{row['queued']:,}",
            f"{row['lag']:,}",
            "" if oldest is None else f"{oldest:,.1f} s",
            "" if falls is None else f"{falls:,.1f}/s",
            "" if gone is None else f"{gone:,.0f} s",
            str(row["held"] or ""),
            str(row["dead_letters"] or ""),
        )
    return Group(head, table, *map(finding_text, found["findings"][:MOST_FINDINGS]))
