"""`streammesh shards`: where each shard lies and what is noted there. `streammesh reshard`: into more shards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh.cli.api_call import REFUSED, Json, fail, print_json
from streammesh.cli.terminal import console

if TYPE_CHECKING:
    from streammesh.redisio.shard_marks import ShardMark
    from streammesh.reshard import MoveProgress
    from streammesh.settings import MeshSettings

AWAY = 3  # exit code


def shards(
    json: Json = False,
    accept_empty: Annotated[
        bool,
        typer.Option("--accept-empty", help="Go on though shards have lost what they held: mark them anew."),
    ] = False,
) -> None:
    """Show where each shard lies and what it says of itself. Exit code 3: one is away, 5: one does not fit."""
    from redis.exceptions import RedisError

    from streammesh.redisio.inspector import ask_server
    from streammesh.redisio.shard_marks import ShardMarks
    from streammesh.settings import MeshSettings, load_settings

    whole = load_settings(MeshSettings, whole=True)
    marks = ShardMarks(whole, ask_server)
    try:
        accepted = marks.accept() if accept_empty else []
    except ValueError as error:
        fail(str(error), REFUSED)
    except (RedisError, OSError) as error:
        fail(f"a shard is away: {error}", AWAY)
    rows = [_row(whole.of_shard(number), number, mark) for number, mark in enumerate(marks.all())]
    for number, row in enumerate(rows):
        found = _wrong(whole, number) if row["there"] else []
        row["wrong"] = [one.text for one in found]
    if json:
        print_json({"shards": rows, "accepted": accepted})
    else:
        _show(rows)
        for number in accepted:
            console().print(f"shard {number} is marked anew; what it held is gone")
    if any(row["wrong"] for row in rows):
        raise typer.Exit(5)
    if not all(row["there"] for row in rows):
        raise typer.Exit(AWAY)


def _row(settings: MeshSettings, number: int, mark: ShardMark | None) -> dict[str, Any]:
    from redis.crc import key_slot

    from streammesh.keys import Keys
    from streammesh.redis_url import parse_redis_url
    from streammesh.redisio.address import address_of
    from streammesh.redisio.client import tls_options

    url = parse_redis_url(settings.redis_url)
    server, slot = str(url), None
    if url.kind in ("cluster", "sentinel"):
        try:
            server = "{}:{}".format(*address_of(url, settings.namespace, tls_options(settings)).find())
        except OSError:
            server = ""
        if url.kind == "cluster":
            slot = int(key_slot(Keys(settings.namespace).prefix.encode()))
    said = "is away"
    if mark is not None:
        said = "is not marked" if not mark.is_there else "whole" if mark.is_whole else "begun"
        said = (
            f"moved to {mark.moved}"
            if mark.moved
            else f"is being filled with {mark.filling}"
            if mark.filling
            else said
        )
    return {
        "shard": number,
        "namespace": settings.namespace,
        "server": server,
        "slot": slot,
        "says": said,
        "there": mark is not None,
    }


def _wrong(whole: MeshSettings, number: int) -> list[Any]:
    from redis.exceptions import RedisError

    from streammesh.redisio.inspector import ask_server
    from streammesh.redisio.shard_marks import ShardMarks

    try:
        return ShardMarks(whole.of_shard(number), ask_server).findings(mark=False)
    except (RedisError, OSError):
        return []


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("shard", "namespace", "server", "slot", "says"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(
                "" if row[name] is None else str(row[name])
                for name in ("shard", "namespace", "server", "slot", "says")
            )
        )
    out = console()
    out.print(table)
    for row in rows:
        for text in row["wrong"]:
            out.print(f"shard {row['shard']}: {text}", style="red", markup=False)
    for text in _together(rows):
        out.print(text, style="yellow", markup=False)


def _together(rows: list[dict[str, Any]]) -> list[str]:
    """Which shards of a cluster lie on one primary, though they could lie apart."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["slot"] is not None and row["server"]:
            found.setdefault(row["server"], []).append(f"{row['shard']} (slot {row['slot']})")
    return [
        f"shards {' and '.join(held)} lie on one primary, {server}: where the cluster has more, move a slot to another"
        for server, held in found.items()
        if len(held) > 1
    ]


def reshard(
    to_shards: Annotated[int, typer.Option(min=2, max=64, help="How many the new mesh has.")],
    to_namespace: Annotated[str, typer.Option(help="MESH_NAMESPACE of the new mesh.")],
    to_redis: Annotated[
        str | None, typer.Option(help="MESH_REDIS_URL of the new mesh; else that of this one, where it fits.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be moved, and what is in the way.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Though something waits that would not be found by what it waits for."),
    ] = False,
    json: Json = False,
) -> None:
    """Copy the mesh, which stands still, into more shards under another namespace. Exit code 1: it cannot be, 3: a shard is away."""
    from pydantic import ValidationError
    from redis.exceptions import RedisError

    from streammesh.redisio.client import open_sync
    from streammesh.reshard import Reshard, survey
    from streammesh.reshard.move import CannotMove
    from streammesh.settings import MeshSettings, load_settings

    source = load_settings(MeshSettings, whole=True)
    changes = {"shards": to_shards, "namespace": to_namespace, "redis_url": to_redis or source.redis_url}
    try:
        target = MeshSettings.model_validate(
            {**source.model_dump(), **changes, "shard": None, "history_url": None}
        )
    except ValidationError as error:
        fail("; ".join(str(one["msg"]) for one in error.errors()), REFUSED)

    def connect(settings: MeshSettings) -> Any:
        return open_sync(settings, "reshard")

    try:
        found = survey(source, target, connect)
        why_not = found.why_not(anyway=anyway)
        if json and (dry_run or why_not):
            print_json({"keys": found.keys, "memory": found.memory, "refused": why_not})
        elif dry_run or why_not:
            for number, (keys, memory) in enumerate(zip(found.keys, found.memory, strict=True)):
                console().print(f"shard {number}: {keys:,} keys, its server uses {memory / 2**20:,.0f} MiB")
        if why_not:
            fail("; ".join(why_not), REFUSED)
        if dry_run:
            return
        copied = Reshard(source, target, connect, _progress).run()
    except CannotMove as error:
        fail(str(error), REFUSED)
    except (RedisError, OSError) as error:
        fail(f"a shard is away: {error}; run it again", AWAY)
    if json:
        print_json({"copied": copied, "namespace": to_namespace, "shards": to_shards})
    else:
        console().print(
            f"moved: {copied:,} keys. Start everything with MESH_NAMESPACE={to_namespace} MESH_SHARDS={to_shards}"
        )


def _progress(at: MoveProgress) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"shard {at.shard}: {at.step} {at.done:,}{end}")
