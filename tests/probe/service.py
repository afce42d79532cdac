"""Async handlers, one per way in which a delivery can end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from typing import Any

from pydantic import BaseModel
from streammesh import Context, Event, Fail, Reject, Retry, Service

from tests.probe.record import is_on, record

service = Service("probe")
celery_app = service.celery_app


class Numbered(BaseModel):
    """A payload that has to have a number."""

    n: int


@service.on("probe.noop")
async def noop() -> None:
    """Do nothing."""


@service.on("probe.recorded", backoff=0.1)
async def recorded(event: Event, ctx: Context) -> dict[str, Any]:
    """Leave a line outside Redis."""
    record(f"recorded {event.id}")
    return {"attempt": ctx.attempt}


@service.on("probe.echo", retries=0)
async def echo(data: Any) -> Any:
    """Answer with the data, if it is what this process would send itself."""
    return data


@service.on("probe.large", retries=1, backoff=0.05)
async def large(data: dict[str, Any], ctx: Context) -> Any:
    """Answer with more than is stored, or tell or publish more."""
    record(f"large {ctx.event.id}")
    await ctx.progress(0.5, "half \udce4 " + "x" * int(data.get("words", 0)))
    for n in range(int(data.get("events", 0))):
        ctx.publish("probe.noop", {"n": n})
    return "x" * int(data.get("bytes", 0)) or [[]] * int(data.get("lists", 0))


HOARD: list[bytes] = []


@service.on("probe.hoarding", retries=0)
async def hoarding(data: dict[str, Any]) -> None:
    """Keep memory for good."""
    HOARD.append(b"x" * (int(data["mib"]) << 20))


@service.on("probe.slow", backoff=0.1)
async def slow(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Take a while, and say so."""
    record(f"slow {ctx.event.id}")
    await ctx.progress(0.5, "half way")
    await asyncio.sleep(float(data["seconds"]))
    record(f"slow-done {ctx.event.id}")
    return {"attempt": ctx.attempt}


@service.on("probe.perishable", expires=0.3)
async def perishable(ctx: Context) -> None:
    """Worth starting for a moment only."""
    record(f"perishable {ctx.event.id}")


@service.on("probe.hopeless", retries=9, backoff=1.0)
async def hopeless() -> None:
    """Fail, and try again later than a second."""
    raise Retry("no luck", after=1.0)


@service.on("probe.threaded", timeout=10)
def threaded(ctx: Context) -> str:
    """A `def` handler among async ones."""
    ctx.progress(0.5, "half way")
    return threading.current_thread().name


@service.on("probe.unstoppable")
def unstoppable(data: dict[str, Any], ctx: Context) -> str:
    """A `def` handler among async ones that takes a while."""
    record(f"unstoppable {ctx.event.id}")
    time.sleep(float(data["seconds"]))
    record(f"unstoppable-done {ctx.event.id}")
    return "done"


@service.on("probe.gripping")
def gripping(data: dict[str, Any], ctx: Context) -> str:
    """A `def` handler among async ones in native code that does not let go of the interpreter."""
    record(f"gripping {ctx.event.id}")
    ctypes.PyDLL(None).usleep(round(float(data["seconds"]) * 1e6))
    return "done"


@service.on("probe.gripped")
async def gripped(data: dict[str, Any], ctx: Context) -> str:
    """The same on the loop, at the first attempt."""
    record(f"gripping {ctx.event.id}")
    if ctx.attempt == 1:
        ctypes.PyDLL(None).usleep(round(float(data["seconds"]) * 1e6))
    return "done"


@service.on("probe.astray", retries=1, backoff=0.05)
async def astray(ctx: Context) -> None:
    """Wait for something that was cancelled, though nobody stopped this handler."""
    record(f"astray {ctx.event.id}")
    helper = asyncio.ensure_future(asyncio.sleep(60))
    helper.cancel()
    await helper


@service.on("probe.quitting", retries=1, backoff=0.05)
async def quitting(data: dict[str, Any]) -> None:
    """Raise what Python does not count among errors."""
    raise SystemExit(3) if data["what"] == "exit" else BaseException("neither error nor end")


@service.on("probe.crowded", timeout=4, retries=0)
def crowded() -> None:
    """A `def` handler that waits, within its time."""
    time.sleep(1)


@service.on("probe.stopped_short", retries=0)
def stopped_short() -> None:
    """Let the end of an iteration through."""
    next(iter([]))


@service.on("probe.flaky", retries=3, backoff=0.05)
async def flaky(data: dict[str, Any], ctx: Context) -> int:
    """Fail until the attempt that the event names."""
    record(f"flaky {ctx.event.id}")
    if ctx.attempt < int(data["succeeds_at"]):
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


@service.on("probe.rejected")
async def rejected(ctx: Context) -> None:
    """Give up at once."""
    record(f"rejected {ctx.event.id}")
    raise Reject("it can never succeed")


@service.on("probe.switched", retries=0)
async def switched(ctx: Context) -> str:
    """Fail until the switch that the event's subject names is on."""
    record(f"switched {ctx.event.id}")
    if not is_on(str(ctx.event.subject)):
        raise RuntimeError(f"{ctx.event.subject} is off")
    return "on"


@service.on("probe.failing_or_refusing", retries=3)
async def failing_or_refusing(data: dict[str, Any]) -> None:
    """Say at once that it is of no use, or that the event is at fault."""
    raise Reject("a bad event") if data["refuse"] else Fail("the service is broken")


@service.on("probe.unbreakable", retries=0, breaker=False)
async def unbreakable() -> None:
    """Fail, however often."""
    raise RuntimeError("no luck")


@service.on("probe.stubborn", backoff=0.1)
async def stubborn() -> None:
    """Fail when it is stopped."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise RuntimeError("somebody stopped me") from None


@service.on("probe.patient", backoff=300)
async def patient() -> None:
    """Fail, and wait for long."""
    raise RuntimeError("not now")


@service.on("probe.postponed")
async def postponed(ctx: Context) -> int:
    """Ask for a certain wait, once."""
    if ctx.attempt == 1:
        raise Retry("not yet", after=0.3)
    return ctx.attempt


@service.on("probe.typed", retries=0)
async def typed(data: Numbered) -> int:
    """Take a model."""
    return data.n


@service.on("probe.followed")
async def followed(data: dict[str, Any], ctx: Context) -> str:
    """Publish what follows from it."""
    return ctx.publish("probe.recorded", {"from": ctx.event.id}).id


@service.on("probe.timed", timeout=0.3, retries=0)
async def timed() -> None:
    """Overrun."""
    await asyncio.sleep(30)


@service.on("probe.not_json", retries=0)
async def not_json() -> Any:
    """Return what cannot be told."""
    return object()


@service.on("probe.filtered", where={"data.wanted": True})
async def filtered() -> str:
    """Run for some."""
    return "wanted"


if os.environ.get("PROBE_NEW"):  # the next version of this service

    @service.on("probe.future")
    async def future(ctx: Context) -> str:
        """What the version before does not know."""
        record(f"future {ctx.event.id}")
        return "from the future"


@service.on("probe.odd_words", retries=1, backoff=0.05)
async def odd_words() -> None:
    """Fail with words that no JSON can hold: half a surrogate pair, as names of files have."""
    raise RuntimeError("no such file: b\udce4r.txt")
