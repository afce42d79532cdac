"""`/v1/reports`: ask for a report, see how far it is, fetch the PDF."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from starlette.responses import Response, StreamingResponse
from streammesh import names
from streammesh.api_keys import ApiKey
from streammesh.events.encoded import seal
from streammesh.events.envelope import build
from streammesh.tasks.records import EventRow, TaskRow

from services.api import ranges, request_body
from services.api.auth import must_publish
from services.api.caller import Caller
from services.api.documents import Progress, TaskError, event_links
from services.api.lookup import LOOKED_AT
from services.api.openapi import READ, WRITTEN, answers, body, schema_of, told
from services.api.problem_documents import ReportLinks
from services.api.problems import Problem
from services.api.publish_endpoint import plain_id
from services.api.report_documents import (
    FinishedReport,
    ReportAccepted,
    ReportEventLinks,
    ReportState,
    ReportStateLinks,
)
from services.api.report_store import upload_path
from services.api.reports import (
    OPERATIONS_REQUESTED,
    REPORT_REQUESTED,
    ReportRequest,
    ReportUpload,
    checked,
    is_report_id,
    owner_of,
    read_form,
    size_of,
    state_of,
)
from services.api.schemas import EXAMPLE_ACCEPTED, EXAMPLE_ID, readable
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["reports"])

ReportId = Annotated[str, Path(examples=[EXAMPLE_ID])]
_EXAMPLE = {
    "report_id": EXAMPLE_ID,
    "state": "running",
    "detail": "part 3 of 5 measured",
    "progress": {"progress": 0.45, "text": "part 3 of 5 measured"},
    "error": None,
    "report": None,
    "links": {
        "report": f"/v1/reports/{EXAMPLE_ID}",
        "pdf": f"/v1/reports/{EXAMPLE_ID}.pdf",
        "event": f"/v1/events/{EXAMPLE_ID}?source=shop",
    },
}
_EXAMPLE_LINKS = {"report": f"/v1/reports/{EXAMPLE_ID}", "pdf": f"/v1/reports/{EXAMPLE_ID}.pdf"}
_BINARY = {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "/v1/reports",
    summary="Ask for a report",
    status_code=202,
    responses=answers(
        *("upload-conflict", "quota-exceeded", *WRITTEN),
        _202=told(
            "Asked for; follow `links`.",
            {
                **EXAMPLE_ACCEPTED,
                **{"type": REPORT_REQUESTED, "report_id": EXAMPLE_ID},
                "links": {**EXAMPLE_ACCEPTED["links"], **_EXAMPLE_LINKS},
            },
        ),
    ),
    openapi_extra=body(
        "What the report is about: JSON, or a form with the data as a file.",
        {
            "application/json": {
                "schema": schema_of(ReportRequest),
                "examples": {
                    "rows": {
                        "value": {
                            "title": "Sales by country",
                            "csv": "country,total\nDE,3\nAT,4\n",
                            "group_by": "country",
                            "measure": "total",
                        }
                    },
                    "operations": {"value": {"kind": "operations", "period": {"last": "24h"}}},
                },
            },
            "multipart/form-data": {"schema": schema_of(ReportUpload)},
        },
    ),
)
async def ask(request: Request, key: Caller) -> ReportAccepted:
    """Publishes `report.requested`, or `operations.report_requested` for kind operations, which is a scope of its own.

    The report's id is the event's id.
    """
    wiring = wiring_of(request)
    # Before anything is uploaded; which of the two it is stands in the body.
    admitted = REPORT_REQUESTED if key.may_publish(REPORT_REQUESTED) else OPERATIONS_REQUESTED
    await wiring.publishing.admit(key, {admitted}, {key.name}, 1)
    headers = request_body.headers_of(request.scope)
    request_body.refuse_encoding(headers)
    if request_body.media_type(headers) == "multipart/form-data":
        fields, suffix, file = await read_form(request, wiring.api.max_upload_bytes)
        report_id = _report_id(fields, request, key)
        path = upload_path(key.name, report_id, suffix)
        fields["source"] = {**fields["source"], "object": path}
        data = checked({**fields, "report_id": report_id}, wiring.api)
        event_type = REPORT_REQUESTED
        must_publish(key, event_type)
        await wiring.reports.upload(
            key.name,
            report_id,
            suffix,
            file,
            most_bytes=wiring.api.upload_quota_bytes,
            most_files=wiring.api.upload_quota_files,
        )
    else:
        limit = wiring.mesh.max_event_bytes
        raw = await request_body.read_json(request.scope, request.receive, limit)
        data = checked(raw, wiring.api)
        report_id = data["report_id"] = _report_id(data, request, key)
        event_type = OPERATIONS_REQUESTED if data.get("kind") == "operations" else REPORT_REQUESTED
        must_publish(key, event_type)
    event = build(key.name, event_type, data, id=report_id, subject=f"report/{report_id}")
    published = (await wiring.publishing.store([seal(event)], size_of(data)))[0]
    event_at, report_at = event_links(report_id, key.name), _links(report_id)
    return ReportAccepted(
        id=published.id,
        source=published.source,
        type=published.type,
        duplicate=published.duplicate,
        report_id=report_id,
        links=ReportEventLinks(
            self=event_at.self,
            notifications=event_at.notifications,
            report=report_at.report,
            pdf=report_at.pdf,
        ),
    )


@router.get(
    "/v1/reports/{report_id}.pdf",
    summary="The finished report",
    response_class=Response,
    responses=answers(
        *("report-not-ready", "report-failed", "report-removed", "range-not-satisfiable", *READ),
        _200={"description": "The whole file.", "content": _BINARY},
        _206={"description": "The part asked for with `Range`.", "content": _BINARY},
        _304={"description": "Unchanged since `If-None-Match` or `If-Modified-Since`."},
    ),
)
async def pdf(request: Request, key: Caller, report_id: ReportId) -> Response:
    """Takes `Range`, `If-Range`, `If-None-Match`, `If-Modified-Since`."""
    wiring = wiring_of(request)
    _must_read(key, report_id)
    file = await wiring.reports.pdf(report_id)
    # What a report is, and whose, is written after its PDF: until then it is not ready.
    metadata = await wiring.reports.metadata(report_id) if file else None
    if metadata is not None and not _may_read(key, owner_of(metadata)):
        raise _no_report(report_id)
    if metadata is None:
        row, tasks = await _asked_for(wiring, report_id, key)
        state, detail, _ = state_of(row, tasks)
        # It may have become ready between the look into the store and the look at its task.
        file = await wiring.reports.pdf(report_id) if state == "removed" else None
    if file is None:
        kind = {"failed": "report-failed", "removed": "report-removed"}.get(state, "report-not-ready")
        retry = {"retry-after": "2"} if kind == "report-not-ready" else {}
        raise Problem(kind, detail, headers=retry, members={"state": state, "links": _links(report_id)})
    headers = {
        "etag": file.etag,
        "last-modified": ranges.http_date(file.modified),
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
    }
    chosen = ranges.choose(dict(request.headers), file.size, file.etag, file.modified)
    if chosen.kind == "unchanged":
        return Response(status_code=304, headers=headers)
    if chosen.kind == "outside":
        raise Problem(
            "range-not-satisfiable",
            f"The file has {file.size:,} bytes.",
            headers={"content-range": f"bytes */{file.size}"},
        )
    headers["content-disposition"] = f'attachment; filename="report-{report_id}.pdf"'
    headers["content-length"] = str(chosen.after - chosen.first)
    if chosen.kind == "part":
        headers["content-range"] = f"bytes {chosen.first}-{chosen.after - 1}/{file.size}"
    return StreamingResponse(
        wiring.reports.content(file, chosen.first, chosen.after),
        206 if chosen.kind == "part" else 200,
        headers,
        media_type="application/pdf",
    )


@router.get(
    "/v1/reports/{report_id}",
    summary="How far a report is",
    responses=answers(*READ, _200=told("The state.", _EXAMPLE)),
)
async def state(request: Request, key: Caller, report_id: ReportId) -> ReportState:
    """`ready` once the PDF can be fetched."""
    wiring = wiring_of(request)
    _must_read(key, report_id)
    metadata = await wiring.reports.metadata(report_id)
    if metadata is None:
        row, tasks = await _asked_for(wiring, report_id, key)
        name, detail, task = state_of(row, tasks)
        # It may have become ready between the look into the store and the look at its task.
        metadata = await wiring.reports.metadata(report_id) if name == "removed" else None
    if metadata is not None:
        if not _may_read(key, owner_of(metadata)):
            raise _no_report(report_id)
        return ReportState(
            report_id=report_id,
            state="ready",
            detail="The PDF can be fetched.",
            progress=None,
            error=None,
            report=readable(FinishedReport, metadata),
            links=_state_links(report_id, None),
        )
    return ReportState(
        report_id=report_id,
        state=name,
        detail=detail,
        progress=readable(Progress, task.progress) if task else None,
        error=readable(TaskError, task.error) if task else None,
        report=None,
        links=_state_links(report_id, event_links(row.id, row.source).self),
    )


def _report_id(data: dict[str, object], request: Request, key: ApiKey) -> str:
    given = data.get("report_id")
    return str(given) if given else plain_id(request.scope, key) or names.new_id()


def _links(report_id: str) -> ReportLinks:
    path = f"/v1/reports/{quote(report_id, safe='')}"
    return ReportLinks(report=path, pdf=f"{path}.pdf")


def _state_links(report_id: str, event: str | None) -> ReportStateLinks:
    links = _links(report_id)
    return ReportStateLinks(report=links.report, pdf=links.pdf, event=event)


def _must_read(key: ApiKey, report_id: str) -> None:
    if not is_report_id(report_id) or not any(
        map(key.may_subscribe, (REPORT_REQUESTED, OPERATIONS_REQUESTED))
    ):
        raise _no_report(report_id)


def _may_read(key: ApiKey, owner: str | None) -> bool:
    """Whether a report is the key's own, or the key may read everything there is."""
    return key.may_subscribe_to_all or (owner is not None and key.may_publish_as(owner))


async def _asked_for(wiring: Wiring, report_id: str, key: ApiKey) -> tuple[EventRow, list[TaskRow]]:
    """The event of this key that asked for a report, which has its id. Raises Problem (404)."""
    async with wiring.reading():
        for row in (await wiring.rows.events(report_id))[:LOOKED_AT]:
            tasks = await wiring.rows.tasks(row.task_ids)
            event = await wiring.rows.envelope(row)
            types = {str(task.event.get("type")) for task in tasks} | ({event.type} if event else set())
            if types & {REPORT_REQUESTED, OPERATIONS_REQUESTED} and _may_read(key, row.source):
                return row, tasks
    raise _no_report(report_id)


def _no_report(report_id: str) -> Problem:
    return Problem(
        "not-found", f"There is no report {report_id[:64]!r}; it was never asked for, or was dropped."
    )
