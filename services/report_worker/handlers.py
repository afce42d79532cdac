"""What the report worker subscribes to, and the parts of the workflow that a request becomes.

`make_report` reads the source and answers with a workflow; the delivery ends when that ends, with the data of
`report.generated`. The parts are thin: what they do is in `workflow.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from typing import Any

import structlog
from celery import group
from streammesh import Context, Keys, LeaseLost, Reject, Service
from streammesh.clock import SystemClock
from streammesh.redisio.client import open_sync
from streammesh.settings import load_settings
from streammesh.shards import each_shard

from services.report_worker import workflow
from services.report_worker.object_store import Store, open_store
from services.report_worker.operations_source import read_all_operations
from services.report_worker.requests import OperationsReportRequested, ReportRequested
from services.report_worker.settings import ReportSettings
from services.report_worker.source_table import SourceError
from services.report_worker.workflow import Origin, WorkLost

log = structlog.get_logger()
# Drawing and typesetting are work for a processor, and processes keep a crash in native code to one task.
service = Service("report_worker", pool="prefork")

TIMEOUT = 120  # seconds, of one part; two hundred thousand rows take a few
# A part that met a passing fault (the store was away) is tried again; the rest of its report waits for it.
part = service.part(
    soft_time_limit=TIMEOUT,
    time_limit=TIMEOUT + 10,
    autoretry_for=(Exception,),
    dont_autoretry_for=(Reject, LeaseLost, WorkLost),
    max_retries=4,
    retry_backoff=1,
    retry_backoff_max=30,
)
# How far a report is when a step has ended.
FETCHED, MEASURED, MERGED, DRAWN = 0.15, 0.65, 0.7, 0.8


@cache
def settings() -> ReportSettings:
    """The process's settings. Raises SystemExit(2) for a wrong one."""
    return load_settings(ReportSettings)


@cache
def store() -> Store:
    """The process's store, opened by its first task: it has threads, so it must not be there before a fork."""
    return open_store(settings().store_url)


@service.on("report.requested", retries=3, timeout=TIMEOUT)
def make_report(request: ReportRequested, ctx: Context) -> Any:
    """Fetch what the report is about and answer with the workflow that makes it."""
    if request.kind == "operations":
        raise Reject("a report of kind operations is asked for with the event operations.report_requested")
    _refusing(request.check_owner, ctx.event.source)
    origin = _begin(ctx)
    ctx.progress(0.02, "reading the source")
    work, parts, rows = _refusing(workflow.fetch_rows, request, origin, store(), settings())
    ctx.progress(FETCHED, f"{rows:,} rows read, {parts} {'part' if parts == 1 else 'parts'} to measure")
    log.info("report.fetched", rows=rows, parts=parts)
    measured = group([measure.s(work, index, parts) for index in range(parts)])
    return measured | merge.s(work) | draw.s() | publish.s()


@service.on("operations.report_requested", retries=3, timeout=TIMEOUT)
def make_operations_report(request: OperationsReportRequested, ctx: Context) -> Any:
    """Sum up what the mesh did and answer with the workflow that makes a report of it."""
    origin = _begin(ctx)
    ctx.progress(0.02, "reading the mesh's own events and tasks")
    assert request.period is not None  # as the model has checked
    period = request.period.bounds(datetime.fromisoformat(ctx.event.time), request.timezone)
    with ExitStack() as stack:
        shards = []
        for shard in each_shard(service.settings.whole):
            client = open_sync(shard, "report-worker-operations")
            stack.callback(client.close)
            shards.append((client, Keys(shard.namespace), shard.history_url))
        tasks, events, cut_short = read_all_operations(shards, period, settings().max_operations)
    work = _refusing(
        workflow.fetch_operations,
        request,
        origin,
        store(),
        settings(),
        period=period,
        tasks=tasks,
        events=events,
        cut_short=cut_short,
    )
    ctx.progress(MERGED, f"{len(events):,} events and {len(tasks):,} tasks summed up")
    log.info("report.fetched", rows=len(events) + len(tasks), parts=0)
    return draw.s(work) | publish.s()


def _begin(ctx: Context) -> Origin:
    """Remove what is not kept any more, before something new is begun."""
    now = SystemClock().now()
    if swept := workflow.sweep(store(), now, settings()):
        log.info("report.swept", objects=swept)
    return Origin(ctx.event.source, ctx.event.id, ctx.task_id, ctx.attempt, now)


@part
def measure(work: str, index: int, parts: int, ctx: Context) -> dict[str, Any]:
    """Aggregate one chunk of the rows."""
    partial = workflow.measure(work, index, store())
    done = FETCHED + (MEASURED - FETCHED) * (index + 1) / parts
    ctx.progress(done, f"part {index + 1} of {parts} measured")
    return partial


@part
def merge(measured: list[dict[str, Any]] | dict[str, Any], work: str, ctx: Context) -> str:
    """Put the chunks' aggregates together and say what they mean."""
    several = measured if isinstance(measured, list) else [measured]  # a group of one may come as it is
    work = _refusing(workflow.merge, work, several, store(), settings())
    ctx.progress(MERGED, "all parts merged")
    return work


@part
def draw(work: str, ctx: Context) -> str:
    """Draw the charts."""
    work = workflow.draw(work, store())
    ctx.progress(DRAWN, "charts drawn")
    return work


@part
def publish(work: str, ctx: Context) -> dict[str, Any]:
    """Typeset the PDF, store it, and say so: `report.generated` leaves together with the delivery's end."""
    outcome: dict[str, Any] = _refusing(workflow.publish, work, store())
    ctx.progress(0.98, f"{outcome['pages']} {'page' if outcome['pages'] == 1 else 'pages'} stored")
    ctx.publish("report.generated", outcome, subject=f"report/{outcome['report_id']}")
    log.info("report.stored", pages=outcome["pages"], size_bytes=outcome["size_bytes"])
    return outcome


def _refusing(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a step; what no report can be made of is dead-lettered now, with the reason."""
    try:
        return step(*args, **kwargs)
    except SourceError as error:
        raise Reject(str(error)) from None
