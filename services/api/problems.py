"""What goes wrong, as problem documents (RFC 9457): one closed catalogue, one way from an error to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from streammesh.errors import (
    EventConflict,
    EventTooLarge,
    FieldError,
    InvalidEvent,
    MeshFull,
    MeshUnavailable,
)
from streammesh.shards import PartlyStored

from services.api.problem_documents import (
    AmbiguousEventProblem,
    EventConflictProblem,
    NotReadyProblem,
    ProblemDocument,
    ReportProblem,
    TaskEndedProblem,
    UnavailableProblem,
)
from services.api.validation_words import joined, place, words

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1  # Redis restarts and failovers take about this long
FULL_SECONDS = 5  # making room takes longer


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can go wrong: its name is the last part of the problem's `type`."""

    name: str
    status: int
    title: str
    advice: str
    document: type[ProblemDocument] = ProblemDocument


_KINDS = (
    Kind("malformed-body", 400, "The body cannot be read", "Send what the content type says, as UTF-8."),
    Kind("malformed-request", 400, "The request cannot be read", "Correct the header or parameter named."),
    Kind(
        "unauthenticated", 401, "An API key is needed", "Send `Authorization: Bearer <key>` with a valid key."
    ),
    Kind(
        "forbidden",
        403,
        "The API key does not allow this",
        "Use a key whose scopes cover the type and the source.",
    ),
    Kind(
        "not-found", 404, "There is no such thing", "Check the id; records are dropped after their retention."
    ),
    Kind("method-not-allowed", 405, "The method is not for this resource", "Use a method named in `Allow`."),
    Kind("too-slow", 408, "The request took too long to arrive", "Send it in one go."),
    Kind(
        "event-conflict",
        409,
        "Another event has this identity",
        "Publish new facts under a new id.",
        EventConflictProblem,
    ),
    Kind(
        "ambiguous-event",
        409,
        "Several events have this id",
        "Name the one you mean with `?source=`.",
        AmbiguousEventProblem,
    ),
    Kind(
        "task-ended",
        409,
        "The task has ended",
        "Look at the task: what it came to stands.",
        TaskEndedProblem,
    ),
    Kind(
        "backfill-running",
        409,
        "The service has a backfill that runs",
        "Wait for its end, or stop it.",
    ),
    Kind("service-alive", 409, "The service is at work", "Stop its workers, then remove it."),
    Kind(
        "schedule-of-file",
        409,
        "The schedule comes from the scheduler's file",
        "Take it out of the file, or switch it off.",
    ),
    Kind("schedule-changed", 409, "The schedule is being changed", "Look at it, then send the change again."),
    Kind("webhook-changed", 409, "The webhook is being changed", "Look at it, then send the change again."),
    Kind("schedule-broken", 409, "What is stored is no schedule", "Store it anew, or delete it."),
    Kind("upload-conflict", 409, "Another file was uploaded for this report", "Choose another `report_id`."),
    Kind(
        "report-not-ready",
        409,
        "The report is not ready",
        "Ask again, or follow its notifications.",
        ReportProblem,
    ),
    Kind(
        "report-failed",
        409,
        "The report could not be made",
        "Correct the request and ask for a new report.",
        ReportProblem,
    ),
    Kind("report-removed", 410, "The report is not kept any more", "Ask for a new one.", ReportProblem),
    Kind("body-too-large", 413, "The body is too large", "Send less at once, or upload the data as a file."),
    Kind(
        "unsupported-media-type",
        415,
        "The body is of a type that is not understood",
        "Use a type named here.",
    ),
    Kind("range-not-satisfiable", 416, "The range lies outside the file", "Ask for bytes that the file has."),
    Kind("invalid-event", 422, "The event is not valid", "Correct the fields in `errors`."),
    Kind("invalid-request", 422, "The request is not valid", "Correct the fields in `errors`."),
    Kind("quota-exceeded", 429, "The quota of this key is used up", "Wait until old uploads are removed."),
    Kind("too-many-requests", 429, "Too much at once for this key", "Wait as `Retry-After` says."),
    Kind("headers-too-large", 431, "The request's head is too large", "Send fewer or shorter headers."),
    Kind("internal", 500, "Something broke here", "Report it with the request id."),
    Kind(
        "unavailable",
        503,
        "The mesh cannot be reached",
        "Send the same request again as `Retry-After` says.",
        UnavailableProblem,
    ),
    Kind("full", 503, "The mesh is full", "Send the same request again as `Retry-After` says."),
    Kind("overloaded", 503, "This replica is full", "Try again, or another replica, as `Retry-After` says."),
    Kind("not-ready", 503, "Not ready", "See `parts` for what is missing.", NotReadyProblem),
)
CATALOGUE: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}
_BY_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}


@dataclass(slots=True)
class Problem(Exception):
    """Raised anywhere below the door; it becomes the answer. `members` are extension members of the document."""

    kind: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None  # only where the kind's own is not exact

    def document(self, instance: str, request_id: str) -> ProblemDocument:
        """The document as its kind's model has it."""
        kind = CATALOGUE[self.kind]
        errors = {"errors": list(self.errors)} if self.errors else {}
        return kind.document.model_validate(
            {
                "type": f"/problems/{kind.name}",
                "title": kind.title,
                "status": self.status or kind.status,
                "detail": self.detail,
                "instance": instance,
                "request_id": request_id,
                **errors,
                **self.members,
            }
        )

    def response(self, instance: str, request_id: str) -> Response:
        """The whole answer."""
        document = self.document(instance, request_id)
        content = document.model_dump_json(exclude_unset=True)
        return Response(content, document.status, headers=dict(self.headers), media_type=MEDIA_TYPE)


def pointers(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    """The `errors[]` member from what the kit found, with JSON Pointers into what was sent."""
    return [{"pointer": error.pointer, "detail": error.detail} for error in errors]


def escape(part: object) -> str:
    """One part of a JSON Pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def of_validation(error: ValidationError, kind: str = "invalid-request", *, tagged: bool = False) -> Problem:
    """A body that does not fit a model; `tagged`, one of several models, of which its `type` says which."""
    errors = joined(
        {
            "pointer": "".join(f"/{escape(part)}" for part in place(found["loc"][tagged:], found["type"])),
            "detail": words(found),
        }
        for found in error.errors(include_url=False, include_input=False)
    )
    return Problem(kind, _summary(errors, "pointer"), errors)


def of(error: Exception) -> Problem | None:
    """The problem that an error stands for; None when it is a fault of ours."""
    match error:
        case Problem():
            return error
        case MeshFull():
            detail = f"{error}. Nothing was stored; the mesh works off what it has, and then takes more."
            return Problem("full", detail, headers={"retry-after": str(FULL_SECONDS)})
        case PartlyStored():
            return unavailable(
                f"A part of the mesh did not answer: {error}. Send all of them again with the same ids: each is stored once.",
                stored=[{"id": one.id, "source": one.source} for one in error.stored],
            )
        case MeshUnavailable():
            return unavailable(
                "Redis is away, or refuses writes. Nothing was changed; send the same request again."
            )
        case InvalidEvent(errors=found):
            errors = pointers(found)
            return Problem("invalid-event", _summary(errors, "pointer"), errors)
        case EventTooLarge():
            return Problem("body-too-large", f"The event has {error}.")
        case EventConflict(index=index):
            return Problem("event-conflict", f"At position {index}: {error}.", members={"index": index})
        case RequestValidationError():
            return _of_parameters(error)
        case HTTPException():
            return _of_http(error)
    return None


def unavailable(detail: str, **members: Any) -> Problem:
    """503 with `Retry-After`."""
    return Problem("unavailable", detail, headers={"retry-after": str(RETRY_AFTER_SECONDS)}, members=members)


def _of_parameters(error: RequestValidationError) -> Problem:
    errors = []
    for found in error.errors():
        where, *path = found["loc"]
        parts, detail = place(path, found["type"]), words(found)
        if where == "body":
            errors.append({"pointer": "".join(f"/{escape(part)}" for part in parts), "detail": detail})
        else:  # of a list, its name alone: `type` of `?type=a&type=`
            errors.append({"parameter": str(parts[0]), "in": str(where), "detail": detail})
    errors = joined(errors)
    return Problem("invalid-request", _summary(errors, "parameter"), errors)


def _of_http(error: HTTPException) -> Problem:
    name = _BY_STATUS.get(error.status_code, "malformed-request" if error.status_code < 500 else "internal")
    phrase = HTTPStatus(error.status_code).phrase
    detail = str(error.detail or phrase)
    if error.status_code == 404 and detail == phrase:
        detail = "There is nothing at this address; /docs lists what there is."
    exact = error.status_code if CATALOGUE[name].status != error.status_code else None
    return Problem(name, detail, headers=dict(error.headers or {}), status=exact)


def _summary(errors: Sequence[Mapping[str, str]], named: str) -> str:
    first = errors[0]
    where = first.get(named) or first.get("pointer") or "the body"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {first['detail']}{more}"
