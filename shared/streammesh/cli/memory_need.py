"""`streammesh sizing`: what Redis needs for so many events a second, by what each kind of thing takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, NamedTuple

import typer
from pydantic import ValidationError

from streammesh.cli.api_call import REFUSED, Json, fail, print_json
from streammesh.cli.terminal import console
from streammesh.durations import parse_duration

KEY = 100  # bytes of a key in Redis's own tables, with its name and when it expires
# Bytes, measured by `make bench ARGS="--only bytes"` on 2026-11-28 with Valkey 9.1 and `hash-max-listpack-value 1024`,
# without which rows take half as much again; a test compares them with rows.
EVENT, EVENT_DATA = 348, 200  # an event with so much data, in its stream
EVENT_ROW, TASK_ROW, ENDED, NOTIFICATION, IDENTITY = 336, 592, 137, 350, 20
NOTIFICATIONS_KEPT = 200_000
PARTS_MORE = 1.5  # identities are forgotten by half a window at a time
MARK, SPARE = 0.85, 1.25  # where publishing is refused; room for what waits and for bursts
MOST = 10_000_000  # events a second: beyond what anybody means


class Need(NamedTuple):
    """How many of one kind there are at most, and what one takes."""

    kind: str
    number: float
    each: float

    @property
    def bytes(self) -> float:
        """All of them."""
        return self.number * self.each


def needs(rate: float, subscribers: int, data: int, hot: float, window: float) -> list[Need]:
    """What lies in Redis while `rate` events a second come, for `hot` and `window` seconds; the largest first."""
    events = rate * hot
    found = [
        Need("events in their streams", events, EVENT - EVENT_DATA + data),
        Need("what became of an event", events, EVENT_ROW + KEY),
        Need("records of tasks", events * subscribers, TASK_ROW + KEY),
        Need("the list of ended tasks", events * subscribers, ENDED),
        Need("identities", rate * window * PARTS_MORE, IDENTITY),
        Need("notifications", min(NOTIFICATIONS_KEPT, rate * window * (1 + 3 * subscribers)), NOTIFICATION),
    ]
    return sorted(found, key=lambda need: need.bytes, reverse=True)


def sizing(
    rate: Annotated[float, typer.Option(min=0.001, help="Events a second, on average over a day.")],
    subscribers: Annotated[
        int, typer.Option(min=0, help="Subscriptions that want an event, on average.")
    ] = 1,
    data: Annotated[int, typer.Option(min=0, help="Bytes of an event's data.")] = EVENT_DATA,
    hot: Annotated[str, typer.Option(help="MESH_HOT; without a history MESH_RETENTION.")] = "10m",
    window: Annotated[str, typer.Option(help="MESH_DEDUP_WINDOW.")] = "24h",
    json: Json = False,
) -> None:
    """Say what to buy: memory of Redis for so many events a second. With a history, when nothing waits for long."""
    if not rate <= MOST:  # nor is that so of nan
        fail(f"--rate: should be at most {MOST:,} events a second", REFUSED)
    found = needs(rate, subscribers, data, _seconds("--hot", hot), _seconds("--window", window))
    whole = sum(need.bytes for need in found)
    limit = whole * SPARE / MARK
    if json:
        print_json(
            {
                "bytes": round(whole),
                "maxmemory": round(limit),
                "kinds": [
                    {"kind": n.kind, "number": round(n.number), "bytes": round(n.bytes)} for n in found
                ],
            }
        )
        return
    for need in found:
        console().print(f"{shown(need.bytes):>9}  {need.kind}: {need.number:,.0f} of {need.each:,.0f} B")
    console().print(f"{shown(whole):>9}  together")
    console().print(
        f"buy Redis with maxmemory {shown(limit)}, and twice that of the machine: its file is written anew by a fork"
    )


def _seconds(option: str, text: str) -> float:
    try:
        span = parse_duration(text)
        if not isinstance(span, timedelta):
            raise ValueError("should be a duration such as 10m")
    except (ValueError, ValidationError) as error:
        fail(f"{option}: {error}", REFUSED)
    return span.total_seconds()


def shown(size: float) -> str:
    """A number of bytes as one would say it."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size:.0f} B"
