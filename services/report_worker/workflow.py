"""The steps of a report, each a plain function of its inputs and the store; `handlers.py` makes them tasks.

    rows:        fetch_rows -> measure (one per chunk, in parallel) -> merge -> draw -> publish
    operations:  fetch_operations                                   -> draw -> publish

What steps hand to each other lies in the store under `work/<report_id>/<run>/`; only its name and the small partial
aggregates travel with the tasks. A run is one attempt of one delivery, so two attempts never share anything. Every
step may run twice: it writes the same objects again, and once the report is out it does nothing any more.
Steps raise SourceError when no report can be made of the request, ever; any other error is worth another try.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from services.report_worker import (
    aggregation,
    catalogue,
    figures,
    object_store,
    operations_report,
    rows_report,
    svg_chart,
)
from services.report_worker.cells import pick
from services.report_worker.csv_file import read_csv
from services.report_worker.json_rows import read_json, rows_table
from services.report_worker.object_store import ObjectMissing, ObjectTooLarge, Store
from services.report_worker.operations import EventSeen, Period, TaskSeen, summarise_operations
from services.report_worker.pdf import check_letters, typeset, with_letters_spelled_out
from services.report_worker.requests import ReportRequested, Source
from services.report_worker.settings import ReportSettings
from services.report_worker.source_table import Limits, SourceError, SourceTable, Wanted

OUTCOME = ("report_id", "title", "object", "size_bytes", "pages", "rows", "recipient", "download_path")
NOT_STATED = "not stated"
SWEPT_EVERY = timedelta(hours=1)  # by one process
MOST_SWEPT = 5_000  # objects at once, so that the report behind it need not wait


class WorkLost(RuntimeError):
    """A run's intermediate data is gone though its report is not out: the delivery has to be tried again."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which attempt of which delivery a report is made in, and when that began."""

    event_source: str
    event_id: str
    task_id: str
    attempt: int
    made: datetime


@dataclass(frozen=True, slots=True)
class _Job:
    """What later steps have to know of a run; kept as `job.json` in its folder."""

    work: str
    report_id: str
    event: list[str]  # source and id
    task_id: str
    made: datetime
    rows: int
    facts: list[list[str]]
    request: dict[str, Any]  # without where its rows came from


def fetch_rows(
    request: ReportRequested, origin: Origin, store: Store, settings: ReportSettings
) -> tuple[str, int, int]:
    """Read the source, keep the two columns that matter as chunks. (work folder, chunks, rows).

    Raises SourceError when no report can be made of it.
    """
    source = request.source
    assert source is not None and request.group_by is not None  # as the model has checked
    wanted = Wanted(request.group_by, request.measure)
    units, facts, table = _read_source(source, wanted, store, settings)
    unit = request.unit or units.get(request.measure or "")
    rows = pick(table, wanted, request.every, source.decimal)
    groups = len({group for group, _ in rows})
    if groups > settings.max_groups:
        raise SourceError(
            f"column {request.group_by!r} has {groups:,} different values, a report takes at most"
            f" {settings.max_groups:,}; group by another column, or dates with `every`"
        )
    work = _start(request, origin, store, settings, facts=facts, rows=len(rows), unit=unit)
    ranges = aggregation.split(len(rows), size=settings.rows_per_part, most=settings.max_parts)
    for index, (first, after) in enumerate(ranges):
        store.put_json(_chunk(work, index), rows[first:after])
    return work, len(ranges), len(rows)


def fetch_operations(
    request: ReportRequested,
    origin: Origin,
    store: Store,
    settings: ReportSettings,
    *,
    period: Period,
    tasks: Iterable[TaskSeen],
    events: Iterable[EventSeen],
    cut_short: bool = False,
) -> str:
    """Sum up the mesh's own operations as a document. Answers the work folder."""
    operations = summarise_operations(tasks, events, period, timezone=request.timezone)
    method = "Tasks count in the period in which they ended, or were queued if they have not ended"
    facts = [("Source", "This mesh: its event streams and its ledger"), ("Licence", "Internal")]
    facts.append(("Method", f"{method}. Percentiles are nearest-rank."))
    if cut_short:
        facts.append(("Limit", f"Only the newest {settings.max_operations:,} tasks and events were read."))
    made = figures.moment(origin.made, request.timezone)
    facts.append(("Made", f"{made}, for event {origin.event_id}"))
    document = operations_report.compose(
        operations,
        title=request.title,
        timezone=request.timezone,
        report_id=request.name(origin.event_source, origin.event_id),
        organisation=settings.organisation,
        made=made,
        facts=facts,
    )
    work = _start(request, origin, store, settings, facts=[], rows=operations.tasks + operations.events)
    # What others named their events and wrote in their errors never keeps the operations report from being made.
    store.put_json(f"{work}/document.json", with_letters_spelled_out(document))
    return work


def measure(work: str, index: int, store: Store) -> dict[str, Any]:
    """One chunk's partial aggregates: group to `Partial.to_json()`."""
    try:
        rows = store.get_json(_chunk(work, index))
    except ObjectMissing:
        _finished(work, store)
        return {}
    return {group: partial.to_json() for group, partial in aggregation.aggregate(rows).items()}


def merge(work: str, parts: Sequence[Mapping[str, Any]], store: Store, settings: ReportSettings) -> str:
    """All chunks' partial aggregates as the report's document. Answers the work folder."""
    if (job := _job(work, store)) is None:
        return work
    groups = aggregation.merged(
        {group: aggregation.Partial.from_json(partial) for group, partial in part.items()} for part in parts
    )
    counted = sum(partial.rows for partial in groups.values())
    if counted != job.rows:  # a part is missing: never send out a report with wrong numbers
        raise WorkLost(f"{counted:,} of {job.rows:,} rows were measured")
    request = ReportRequested.model_construct(**job.request)  # it was checked before it was stored
    made = figures.moment(job.made, request.timezone)
    document = rows_report.compose(
        request,
        groups,
        report_id=job.report_id,
        organisation=settings.organisation,
        made=made,
        facts=[(name, text) for name, text in job.facts],
    )
    check_letters(document)
    store.put_json(f"{work}/document.json", document)
    return work


def draw(work: str, store: Store) -> str:
    """The document's charts as SVG. Answers the work folder."""
    if _job(work, store) is None:
        return work
    sections = store.get_json(f"{work}/document.json")["sections"]
    charts = [svg_chart.draw(section["chart"]) if section["chart"] else None for section in sections]
    store.put_json(f"{work}/charts.json", charts)
    return work


def publish(work: str, store: Store) -> dict[str, Any]:
    """Typeset the PDF, store it and what it is, remove the intermediate data. The data of `report.generated`."""
    if (job := _job(work, store)) is None:
        clean(work, store)
        return outcome(store.get_json(object_store.metadata_object(_report_id(work))))
    try:
        document = store.get_json(f"{work}/document.json")
        charts = store.get_json(f"{work}/charts.json")
    except ObjectMissing:
        raise WorkLost(f"{work} is not complete") from None
    pdf, pages = typeset(document, charts, made=job.made)
    name = object_store.report_object(job.report_id)
    metadata = {
        "report_id": job.report_id,
        "title": job.request["title"],
        "object": name,
        "size_bytes": len(pdf),
        "pages": pages,
        "rows": job.rows,
        "recipient": job.request["recipient"],
        "download_path": f"/v1/reports/{job.report_id}.pdf",
        "kind": job.request["kind"],
        "made": job.made.isoformat(),
        "sha256": hashlib.sha256(pdf).hexdigest(),
        "event": job.event,
        "task_id": job.task_id,
    }
    _check_free(job.report_id, job.event, store)
    store.put_json(f"{object_store.owned_folder(job.event[0])}/{job.report_id}", name)
    store.put(name, pdf, "application/pdf")
    store.put_json(object_store.metadata_object(job.report_id), metadata)
    clean(work, store)
    return outcome(metadata)


def outcome(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The data of `report.generated` from what was written down beside the PDF."""
    return {name: metadata[name] for name in OUTCOME}


def clean(work: str, store: Store) -> None:
    """Remove what this run and earlier ones of its delivery left; `job.json`, which says "not out yet", first."""
    folder, _, run = work.rpartition("/")
    task_id, _, attempt = run.rpartition("-")
    left = []
    for name, _ in store.names(folder):
        owner, _, other = name.split("/")[2].rpartition("-")
        if owner == task_id and int(other) <= int(attempt):
            left.append(name)
    store.delete(sorted(left, key=lambda name: name != f"{work}/job.json"))


def sweep(store: Store, now: datetime, settings: ReportSettings) -> int:
    """Remove what is not kept any more; return how many objects.

    That is what runs that never ended have left; and, once an hour, reports and uploads whose time is over. Of a
    report what it is goes first: without that it is not ready, and a sweep that dies on the way goes on later.
    """
    swept = _sweep(store, "work", now, settings.work_kept)
    if not store.sweep_is_due(now, SWEPT_EVERY):
        return swept
    swept += _sweep(store, "reports", now, settings.kept)
    swept += _sweep(store, "owned", now, settings.kept)
    return swept + _sweep(store, "uploads", now, settings.uploads_kept)


def _sweep(store: Store, folder: str, now: datetime, kept: timedelta) -> int:
    if not kept:
        return 0
    left = [name for name, written in store.names(folder) if now - written > kept]
    left.sort(key=lambda name: name.endswith(".pdf"))
    store.delete(left[:MOST_SWEPT])
    return min(len(left), MOST_SWEPT)


def _chunk(work: str, index: int) -> str:
    return f"{work}/rows-{index:04}.json"


def _report_id(work: str) -> str:
    return work.split("/")[1]


def _start(
    request: ReportRequested,
    origin: Origin,
    store: Store,
    settings: ReportSettings,
    *,
    facts: Sequence[tuple[str, str]],
    rows: int,
    unit: str | None = None,
) -> str:
    report_id = request.name(origin.event_source, origin.event_id)
    event = [origin.event_source, origin.event_id]
    _check_free(report_id, event, store)
    _check_quota(origin.event_source, report_id, store, settings)
    made = figures.moment(origin.made, request.timezone)
    job = _Job(
        work=f"work/{report_id}/{origin.task_id}-{origin.attempt}",
        report_id=report_id,
        event=event,
        task_id=origin.task_id,
        made=origin.made,
        rows=rows,
        facts=[[name, text] for name, text in (*facts, ("Made", f"{made}, for event {origin.event_id}"))],
        request=request.model_dump(mode="json", exclude={"source", "period"}) | {"unit": unit},
    )
    store.put_json(f"{job.work}/job.json", asdict(job))
    return job.work


def _check_free(report_id: str, event: list[str], store: Store) -> None:
    """A report is never overwritten by another event's. Raises SourceError."""
    try:
        owner = store.get_json(object_store.metadata_object(report_id))["event"]
    except ObjectMissing:
        return
    if owner != event:
        raise SourceError(f"report_id {report_id!r} is taken; leave it out or choose another")


def _check_quota(source: str, report_id: str, store: Store, settings: ReportSettings) -> None:
    """Raises SourceError where as many reports of this source are kept as may be. This one may be among them."""
    owned = {name.rpartition("/")[2] for name, _ in store.names(object_store.owned_folder(source))}
    if len(owned - {report_id}) >= settings.quota:
        raise SourceError(
            f"{settings.quota:,} reports of {source!r} are kept, which is the most (REPORT_QUOTA);"
            " they are removed after REPORT_KEPT"
        )


def _job(work: str, store: Store) -> _Job | None:
    """The run's job; None when its report is out already. Raises WorkLost."""
    try:
        stored = store.get_json(f"{work}/job.json")
    except ObjectMissing:
        _finished(work, store)
        return None
    return _Job(**stored | {"made": datetime.fromisoformat(stored["made"])})


def _finished(work: str, store: Store) -> None:
    """Returns if this delivery's report is out. Raises WorkLost."""
    try:
        if store.get_json(object_store.metadata_object(_report_id(work)))["task_id"] in work:
            return
    except ObjectMissing:
        pass
    raise WorkLost(f"{work} is gone, but its report is not out")


def _read_source(
    source: Source, wanted: Wanted, store: Store, settings: ReportSettings
) -> tuple[dict[str, str], list[tuple[str, str]], SourceTable]:
    """Return (units by column, facts to print, the wanted cells) of a source. Raises SourceError."""
    limits = Limits(settings.max_source_bytes, settings.max_rows, settings.max_cells)
    licence = source.licence or NOT_STATED
    if source.rows is not None:
        table = rows_table(source.rows, wanted, limits)
        facts = [("Source", source.name or "Rows sent with the request"), ("Licence", licence)]
        return {}, [*facts, ("Data", f"{figures.counted(len(table), 'row')} of JSON")], table
    units: dict[str, str] = {}
    kind, encoding = "csv", source.encoding
    if source.csv is not None:
        named, body, encoding = source.name or "CSV sent with the request", source.csv.encode(), "utf-8"
    elif source.dataset is not None:
        dataset = catalogue.find(source.dataset)
        named, licence, units, body = dataset.source, dataset.licence, dataset.units, dataset.read()
        kind = dataset.file.rpartition(".")[2]
    else:
        name = source.object or ""
        kind = name.rpartition(".")[2]
        try:
            body = store.get(name, limits.bytes)
        except ObjectMissing:
            raise SourceError(f"there is no uploaded file {name}; upload it first") from None
        except ObjectTooLarge as error:
            raise SourceError(f"{error}; at most {limits.bytes:,} are read") from None
        named = source.name or f"Uploaded file {name.removeprefix('uploads/')}"
    if len(body) > limits.bytes:
        raise SourceError(f"the source has {len(body):,} bytes; at most {limits.bytes:,} are read")
    if kind == "csv":
        table = read_csv(body, wanted, limits, encoding=encoding, delimiter=source.delimiter)
    else:
        table = read_json(body, wanted, limits)
    digest = hashlib.sha256(body).hexdigest()
    data = f"{figures.counted(len(table), 'row')} of {kind.upper()}, {figures.size(len(body))}, SHA-256 {digest[:16]}…"
    return units, [("Source", named), ("Licence", licence), ("Data", "; ".join([data, *table.notes]))], table
