"""Sync handlers, and handlers that answer with a workflow."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from typing import Any

from celery import chain, chord, group
from streammesh import Context, Fail, Reject, Service

from tests.probe.record import is_on, record

service = Service(
    "probe_sync",
    pool=os.environ.get("PROBE_POOL"),  # type: ignore[arg-type]
    prefetch=int(os.environ.get("PROBE_PREFETCH", "1")),
)


@service.on("sync.noop")
def noop() -> None:
    """Do nothing."""


@service.on("sync.recorded", backoff=0.1)
def recorded(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Leave a line, and take as long as it is told."""
    record(f"sync {ctx.event.id}")
    ctx.progress(0.5, "half way")
    time.sleep(float(data.get("seconds", 0)))
    return {"pid": os.getpid(), "attempt": ctx.attempt}


@service.on("sync.echo", retries=0)
def echo(data: Any) -> Any:
    """Answer with the data."""
    return data


@service.on("sync.echo_part", retries=0)
def echo_in_part(data: Any) -> Any:
    """Have a part of a workflow answer with the data, and another one after it."""
    return chain(echoed.s(data), echoed.s())


@service.on("sync.untold_part", retries=0)
def untold_in_part(data: dict[str, Any]) -> Any:
    """Have the last part of a workflow answer with what cannot be told."""
    return chain(echoed.s(1), untold.si(data["what"]))


@service.part
def untold(what: str) -> Any:
    """A part whose result is no JSON, nested too deeply, or too large."""
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    return {"nan": float("nan"), "deep": deep, "large": "x" * 2_000_000}[what]


@service.on("sync.refused_part", retries=0)
def refused_in_part(data: dict[str, Any]) -> Any:
    """Have a part of a workflow say that the event is at fault, or the service."""
    part = refusing.si(data["refuse"])
    return chord([part, echoed.s(1)], total.s()) if data["chord"] else chain(echoed.s(1), part, echoed.s())


@service.part
def refusing(refuse: bool) -> None:
    """A part that gives up."""
    raise Reject("a bad event") if refuse else Fail("the service is broken")


@service.part
def echoed(value: Any) -> Any:
    """A part that answers with what it is given."""
    return value


@service.on("sync.flaky", retries=3, backoff=0.05)
def flaky(data: dict[str, Any], ctx: Context) -> int:
    """Fail until the attempt that the event names."""
    if ctx.attempt < int(data["succeeds_at"]):
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


HOARD: list[bytes] = []


@service.on("sync.hoarding", retries=0)
def hoarding(data: dict[str, Any]) -> None:
    """Keep memory for good."""
    HOARD.append(b"x" * (int(data["mib"]) << 20))


@service.on("sync.slow", backoff=0.1)
def slow(data: dict[str, Any], ctx: Context) -> None:
    """Take a while, and say so."""
    record(f"sync-slow {ctx.event.id}")
    time.sleep(float(data["seconds"]))
    record(f"sync-slow-done {ctx.event.id}")


@service.on("sync.hogging")
def hogging(data: dict[str, Any], ctx: Context) -> str:
    """Hold the interpreter without a pause."""
    record(f"hogging {ctx.event.id}")
    until = time.monotonic() + float(data["seconds"])
    while time.monotonic() < until:
        sum(range(10_000))
    return "done"


@service.on("sync.gripping")
def gripping(data: dict[str, Any], ctx: Context) -> str:
    """Native code that does not let go of the interpreter."""
    record(f"gripping {ctx.event.id}")
    ctypes.PyDLL(None).usleep(round(float(data["seconds"]) * 1e6))
    return "done"


@service.on("sync.killer", retries=1, backoff=0.05)
def killer(ctx: Context) -> None:
    """Take the process down with it."""
    record(f"killer {ctx.event.id}")
    os.kill(os.getpid(), signal.SIGKILL)


@service.on("sync.stuck", timeout=0.5, retries=0)
def stuck() -> None:
    """Overrun, and swallow the soft limit."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            time.sleep(0.1)
        except BaseException:
            continue


@service.on("sync.workflow", retries=0)
def workflow(data: dict[str, Any], ctx: Context) -> Any:
    """A chord over numbers, then one more step."""
    ctx.publish("sync.seen", {"by": "handler"})
    return chain(
        chord([square.s(n) for n in data["numbers"]], total.s()),
        report.s(),
    )


@service.on("sync.switched", retries=0)
def switched_workflow(data: dict[str, Any], ctx: Context) -> Any:
    """A workflow whose parts fail until a switch is on."""
    ctx.publish("sync.seen", {"by": "handler"})
    return chain(switched_part.s(data["switch"]), report.s())


@service.part
def switched_part(switch: str) -> int:
    """A part that can fail."""
    record(f"part {switch}")
    if not is_on(switch):
        raise RuntimeError(f"{switch} is off")
    return 1


@service.on("sync.long_workflow", retries=0)
def long_workflow(data: dict[str, Any]) -> Any:
    """Two parts, one after the other, of which the first takes long."""
    return chain(long_part.si(data["name"], 1, 60), long_part.si(data["name"], 2, 0))


@service.part
def long_part(name: str, number: int, seconds: float) -> None:
    """Take a while."""
    record(f"long {name} {number}")
    time.sleep(seconds)


@service.on("sync.grouped", retries=0)
def grouped(data: dict[str, Any]) -> Any:
    """A plain group: the result is the list."""
    return group([square.s(n) for n in data["numbers"]])


@service.part
def square(n: int) -> int:
    """One part."""
    record(f"square {n}")
    if n < 0:
        raise ValueError(f"{n} is negative")
    return n * n


@service.part
def total(parts: list[int], ctx: Context) -> int:
    """Merge."""
    ctx.progress(0.9, "merged")
    return sum(parts)


@service.part
def report(value: int, ctx: Context) -> dict[str, int]:
    """The last part publishes."""
    ctx.publish("sync.totalled", {"total": value})
    return {"total": value}


@service.on("sync.bad_workflow", retries=0)
def bad_workflow() -> Any:
    """A workflow that cannot be written down."""
    return square.s(object())


@service.on("sync.quitting", retries=1, backoff=0.05)
def quitting(data: dict[str, Any]) -> None:
    """Raise what Python does not count among errors."""
    if data["what"] == "memory":
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, limit[1]))
        try:
            bytearray(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limit)
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "other": BaseException("odd")}.get(
        data["what"], StopIteration()
    )


@service.celery_app.task(name="probe_sync.die")
def die() -> None:
    """A plain task that takes its process down."""
    os.kill(os.getpid(), signal.SIGKILL)


@service.on("sync.deadly_workflow", retries=0)
def deadly_workflow(data: dict[str, Any]) -> Any:
    """A workflow of which a part never comes to its end."""
    return chain(square.si(1), deadly_part.si(data["how"]), square.si(2))


@service.part
def deadly_part(how: str) -> None:
    """Take the process down, each time."""
    record(f"deadly {how}")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(3) if how == "exit" else BaseException("odd")
