"""What may be asked of reports at the door: a tolerant view; the report worker has the last word."""

from __future__ import annotations

import re
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from streammesh.mail_text import link_in, one_line
from streammesh.tasks.records import EventRow, TaskRow

from services.api import problems, request_body
from services.api.addresses import MailAddress, rules_of
from services.api.problems import Problem
from services.api.report_documents import State
from services.api.settings import ApiSettings

REPORT_REQUESTED = "report.requested"
# The mesh's own operations are everybody's business at once: asking for them is a type, and so a scope, of its own.
OPERATIONS_REQUESTED = "operations.report_requested"
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
SOURCES = ("csv", "rows", "object", "dataset")
SUFFIXES = {"text/csv": "csv", "application/csv": "csv", "application/json": "json"}
_CHARSET = re.compile(r"""charset=["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
FORM_FIELDS = 24
FIELD_BYTES = 16_384
FORM_OVERHEAD = 65_536  # what a multipart body may have beside its file


OneLine = Annotated[str, AfterValidator(one_line)]


class ReportRequest(BaseModel):
    """A report: rows of a CSV or JSON grouped and summed up, or (`kind` operations) the mesh about itself.

    Further members travel with the event.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"title": "Sales by country", "csv": "country,total\nDE,3\nAT,4\n", "group_by": "country"},
                {"title": "Yesterday", "kind": "operations", "period": {"previous": "day"}},
            ]
        },
    )

    report_id: str | None = Field(None, pattern=ID_PATTERN, description="Names the report; made if missing.")
    title: OneLine = Field("Report", min_length=1, max_length=120)
    kind: str = Field("rows", pattern="^(rows|operations)$", description="rows or operations.")
    source: dict[str, Any] | None = Field(
        None,
        description="Where the rows are: one of `csv` (text), `rows` (objects), `object` (an upload), `dataset`."
        " Each may stand in the request itself instead.",
    )
    csv: str | None = Field(None, min_length=1)
    rows: list[dict[str, Any]] | None = Field(None, min_length=1)
    object: str | None = Field(None, max_length=200)
    dataset: str | None = Field(None, max_length=64)
    group_by: str | None = Field(None, min_length=1, max_length=200, description="The column to group by.")
    measure: str | None = Field(
        None, min_length=1, max_length=200, description="The column with the numbers."
    )
    aggregate: str | None = Field(None, pattern="^(count|sum|mean|min|max|stddev)$")
    every: str | None = Field(None, pattern="^(day|week|month|quarter|year)$")
    chart: str | None = Field(None, pattern="^(bar|line)$")
    unit: OneLine | None = Field(None, max_length=12)
    timezone: str | None = Field(None, max_length=64, description="IANA time zone.")
    period: dict[str, Any] | None = Field(None, description="For kind operations.")
    recipient: MailAddress | None = Field(
        None, max_length=320, description="Who is told by e-mail that the report is ready."
    )

    @model_validator(mode="after")
    def _belong_together(self) -> ReportRequest:
        if self.recipient is not None and (link := link_in(self.title)):
            raise ValueError(
                f"the title goes into a mail, where {link[:60]!r} would become a link; write it without"
            )
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if self.source is not None:
            given += [name for name in SOURCES if self.source.get(name) is not None]
        if self.kind == "operations":
            if given:
                raise ValueError(f"a report of kind operations takes no {' and '.join(given)}")
            return self
        if len(given) != 1:
            found = f"got {' and '.join(given)}" if given else "got none of them"
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}; {found}")
        if self.group_by is None:
            raise ValueError("group_by is missing: name the column to group the rows by")
        return self


class ReportUpload(BaseModel):
    """The form for an uploaded file: `file`, and the members of a report request as fields."""

    file: str = Field(json_schema_extra={"format": "binary"}, description="CSV or JSON.")
    group_by: str = Field(min_length=1, max_length=200)
    title: str = Field("Report", min_length=1, max_length=120)
    report_id: str | None = Field(None, pattern=ID_PATTERN)
    measure: str | None = None
    aggregate: str | None = None
    every: str | None = None
    chart: str | None = None
    unit: str | None = None
    timezone: str | None = None
    recipient: str | None = None
    encoding: str | None = Field(None, description="Of the CSV, such as shift_jis; found if missing.")
    delimiter: str | None = Field(None, description="Of the CSV; found if missing.")
    decimal: str | None = Field(None, description="`,` where numbers look like 1.234,5.")


def checked(raw: Any, api: ApiSettings) -> dict[str, Any]:
    """Return the data of the event that asks for a report. Raises Problem (422)."""
    try:
        wanted = ReportRequest.model_validate(raw, context=rules_of(api))
    except ValidationError as error:
        raise problems.of_validation(error) from None
    return wanted.model_dump(exclude_none=True, exclude_unset=True)


async def read_form(request: Request, limit: int) -> tuple[dict[str, Any], str, bytes]:
    """A multipart form: its fields, the file's suffix, its bytes. Raises Problem."""
    receive = request_body.limited(
        request.receive, request_body.headers_of(request.scope), limit + FORM_OVERHEAD, "an upload"
    )
    form_request = Request(request.scope, receive)
    try:
        async with form_request.form(max_files=1, max_fields=FORM_FIELDS, max_part_size=FIELD_BYTES) as form:
            return await _taken_apart(form, limit)
    except HTTPException as error:
        raise Problem("malformed-body", f"The form cannot be read: {error.detail}") from None


async def _taken_apart(form: FormData, limit: int) -> tuple[dict[str, Any], str, bytes]:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        wrong = [{"pointer": "/file", "detail": "is missing: attach the CSV or JSON as `file`"}]
        raise Problem("invalid-request", "/file: is missing", wrong)
    body = await file.read(limit + 1)
    if len(body) > limit:
        raise request_body.too_large(limit, "an upload")
    if not body:
        raise Problem("invalid-request", "/file: is empty", [{"pointer": "/file", "detail": "is empty"}])
    fields: dict[str, Any] = {
        name: value for name, value in form.items() if isinstance(value, str) and value and name != "file"
    }
    source = {"name": name} if (name := _shown(file.filename)) else {}
    source |= {name: fields.pop(name) for name in ("encoding", "delimiter", "decimal") if name in fields}
    if "encoding" not in source and (charset := _CHARSET.search(file.content_type or "")):
        source["encoding"] = charset[1]
    return {**fields, "source": source}, _suffix(file), body


def _suffix(file: UploadFile) -> str:
    media = (file.content_type or "").partition(";")[0].strip().lower()
    ending = (file.filename or "").rpartition(".")[2].lower()
    if ending in ("csv", "json"):
        return ending
    if media in SUFFIXES:
        return SUFFIXES[media]
    raise Problem(
        "unsupported-media-type",
        "The file should be CSV or JSON: name it .csv or .json, or give its content type.",
    )


def _shown(filename: str | None) -> str:
    name = (filename or "").replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in name if character.isprintable())[:120]


def state_of(row: EventRow, tasks: list[TaskRow]) -> tuple[State, str, TaskRow | None]:
    """How far a report is that is not in the store: (state, in words, its task). Pure."""
    task = next((t for t in tasks if t.event.get("type") in (REPORT_REQUESTED, OPERATIONS_REQUESTED)), None)
    if row.entry == "held":
        return "held", "It is held until it is due.", None
    if task is None:
        if row.wanted == 0:
            return "failed", "No service makes reports in this mesh.", None
        return "queued", "It waits for the dispatcher.", None
    match task.state:
        case "queued":
            return "queued", "It waits for a worker.", task
        case "held":
            return "queued", "The service that makes reports is paused; it waits.", task
        case "started":
            return "running", str((task.progress or {}).get("text") or "It is being made."), task
        case "waiting":
            return "queued", "Its handler waits.", task
        case "retrying":
            return "retrying", f"An attempt failed; the next is at {task.next_attempt_at}.", task
        case "succeeded":
            return "removed", "It was made, and has been removed from the store since.", task
    return "failed", str((task.error or {}).get("reason") or f"Its task {task.state}."), task


def owner_of(metadata: dict[str, Any]) -> str | None:
    """Return the source that asked for a finished report."""
    event = metadata.get("event")
    return str(event[0]) if isinstance(event, list) and event else None


def is_report_id(text: str) -> bool:
    """Whether it can name a report (and so an object in the store)."""
    return re.fullmatch(ID_PATTERN.strip("^$"), text) is not None


def size_of(data: dict[str, Any]) -> int:
    """About how many bytes an event with this data has."""
    return len(orjson.dumps(data)) + 512
