"""Problem documents (RFC 9457) as models: what every one has, and what some kinds have besides."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from services.api.schemas import Answer, Part


class Wrong(Answer):
    """One thing that is wrong: `pointer` leads into the body (RFC 6901); else a `parameter` or `header` is named."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    in_: str | None = Field(
        None, alias="in", description="Where the parameter stands: query, path or header."
    )
    header: str | None = None


class ProblemDocument(Answer):
    """RFC 9457. `type` leads to an explanation; `request_id` is also in the header `x-request-id`.

    `errors` is there where single fields are wrong.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Wrong] = Field(default_factory=list)


class EventConflictProblem(ProblemDocument):
    """`index`: which event of the batch it is."""

    index: int


class AmbiguousEventProblem(ProblemDocument):
    """`sources`: who published an event with this id."""

    sources: list[str]


class TaskEndedProblem(ProblemDocument):
    """`state`: what the task came to; null where its record was dropped."""

    state: str | None


class StoredIdentity(Answer):
    """Which event."""

    id: str
    source: str


class UnavailableProblem(ProblemDocument):
    """`id` and `source`: which event it is not known of whether it was stored, where it was one.

    `stored`: which events of a batch were, where one of several shards did not take its part.
    """

    id: str | None = None
    source: str | None = None
    stored: list[StoredIdentity] | None = None


class NotReadyProblem(ProblemDocument):
    """`parts`: what works and what does not."""

    parts: dict[str, Part]


class ReportLinks(Answer):
    """Where to look at the report, and where its file is."""

    report: str
    pdf: str


class ReportProblem(ProblemDocument):
    """`state`: how far the report is."""

    state: str
    links: ReportLinks
