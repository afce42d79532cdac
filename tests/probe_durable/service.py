"""Durable handlers: `async def` and `def` ones, that fail, sleep, wait and are killed in their midst."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from streammesh import Context, Service
from streammesh.worker.config import PoolKind

from tests.probe.record import record, switch

POOL = os.environ.get("PROBE_POOL", "async")
assert POOL in get_args(PoolKind)
service = Service("probe_durable", pool=POOL)  # type: ignore[arg-type]


class Charge(BaseModel):
    """What a step returns that has a model."""

    id: str
    cents: int


def _once(task_id: str, what: str) -> bool:
    """Whether this is the first time for a task."""
    path = switch(_record_path(), f"{what}-{task_id}")
    if path.exists():
        return False
    path.touch()
    return True


def _record_path() -> Path:
    return Path(os.environ["PROBE_RECORD"])


async def charge(task_id: str, cents: int) -> Charge:
    """A step that must not be made again."""
    record(f"charge {task_id}")
    return Charge(id=f"c-{task_id[:8]}", cents=cents)


def pack(task_id: str) -> dict[str, Any]:
    """A step that blocks, in a thread of its own."""
    record(f"pack {task_id}")
    return {"packed": True}


async def kill(task_id: str, at: str) -> str:
    """A step whose process is killed the first time."""
    record(f"kill {task_id}")
    if _once(task_id, at):
        os.kill(os.getpid(), signal.SIGKILL)
    return at


async def flaky(task_id: str) -> int:
    """A step that fails the first two times."""
    record(f"flaky {task_id}")
    if _once(task_id, "flaky-1") or _once(task_id, "flaky-2"):
        raise ConnectionError("not yet")
    return 3


@service.on("durable.ordered", backoff=0.05, retries=3)
async def ordered(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Three steps; the attempt fails after the second, or its worker is killed in the third, the first time."""
    charged = await ctx.step("charge", charge, ctx.task_id, 250)
    packed = await ctx.step("pack", pack, ctx.task_id)
    if data.get("fails") and _once(ctx.task_id, "fails"):
        raise RuntimeError("between two steps")
    if data.get("killed"):
        await ctx.step("kill", kill, ctx.task_id, "killed")
    return {"charge": charged.cents, "id": charged.id, **packed, "attempt": ctx.attempt}


@service.on("durable.flaky", retries=0)
async def tries(ctx: Context) -> int:
    """One step that is tried again where it stands."""
    value: int = await ctx.step("flaky", flaky, ctx.task_id, retries=2)
    return value


@service.on("durable.sleepy", retries=0)
async def sleepy(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Sleep between two steps."""
    await ctx.step("charge", charge, ctx.task_id, 1)
    await ctx.sleep(data["seconds"])
    await ctx.step("pack", pack, ctx.task_id)
    return {"attempt": ctx.attempt}


@service.on("durable.plain", retries=0)
def plain(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The same in a `def` handler, without `await`."""
    packed = ctx.step("pack", pack, ctx.task_id)
    ctx.sleep(data["seconds"])
    return {**packed, "attempt": ctx.attempt}


@service.on("durable.placed", retries=0, waits={"durable.paid": "data.order"})
async def placed(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Wait for the payment of this order."""
    paid = await ctx.wait_for(
        "durable.paid", match={"data.order": data["order"]}, timeout=data.get("timeout")
    )
    again = None
    if data.get("twice"):
        again = await ctx.wait_for("durable.paid", match={"data.order": data["order"]}, timeout=data["twice"])
    return {"paid": paid and paid.data, "again": again and again.data, "attempt": ctx.attempt}


@service.on("durable.asking", retries=0)
async def asking(data: dict[str, Any], ctx: Context) -> Any:
    """Ask people."""
    return await ctx.approval("ship 3 t of steel?", to="ops", timeout=data.get("timeout"))


@service.on("durable.twice", retries=0)
async def twice(ctx: Context) -> None:
    """Two steps of one name."""
    await ctx.step("charge", charge, ctx.task_id, 1)
    await ctx.step("charge", charge, ctx.task_id, 2)


@service.on("durable.huge", retries=0)
async def huge(data: dict[str, Any], ctx: Context) -> None:
    """A step with more than can be recorded, or with what is not JSON."""
    await ctx.step("huge", lambda: "x" * 70_000 if data.get("large") else object())


@service.on("durable.undeclared", retries=0)
async def undeclared(ctx: Context) -> None:
    """Wait for what no subscription names."""
    await ctx.wait_for("durable.paid", match={"data.other": 1})


@service.expects(
    "durable.shipped",
    after="durable.bought",
    within=0.4,
    key={"durable.bought": "data.order", "durable.shipped": "data.for"},
    retries=0,
)
async def not_shipped(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """A step, when no parcel was shipped in time."""
    record(f"absent {data['order']}")
    return {"missed": data["order"], "attempt": ctx.attempt}


@service.expects("durable.beat", after="durable.beat", within=0.4, key="data.device", retries=0)
def silent(data: dict[str, Any]) -> str:
    """A `def` handler without a Context: a device fell silent."""
    return f"{data['device']} fell silent"


@service.on("durable.told", retries=2, backoff=0.05)
async def told(data: dict[str, Any], ctx: Context) -> None:
    """Stream to clients; the first attempt fails in the midst of it, and is cut off there."""
    stream = ctx.stream("tokens")
    for n in range(data["chunks"]):
        await stream.send(f"{ctx.attempt}.{n}")
    await stream.send(b"raw", {"n": 1})
    if data.get("fails") and _once(ctx.task_id, "told"):
        raise RuntimeError("in the midst of it")


@service.on("durable.told_plainly", retries=0)
def told_plainly(data: dict[str, Any], ctx: Context) -> None:
    """The same in a `def` handler; beyond its bounds where the event says so."""
    stream = ctx.stream("tokens")
    stream.send("a", "b")
    stream.send("x" * data.get("large", 1))


@service.on("durable.build", retries=3, backoff=600, cancel_on={"durable.scrapped": "data.order"})
async def build(data: dict[str, Any], ctx: Context) -> None:
    """Take long, fail or wait, until it is cancelled."""
    record(f"build {data['name']}")
    if data["does"] == "fail":
        raise ConnectionError("later")
    if data["does"] == "wait":
        await ctx.sleep(600)
    await asyncio.sleep(600)
