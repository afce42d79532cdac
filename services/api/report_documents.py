"""What `/v1/reports` answers."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from services.api.documents import Progress, TaskError
from services.api.problem_documents import ReportLinks
from services.api.schemas import Answer, EventLinks

State = Literal["held", "queued", "running", "retrying", "ready", "failed", "removed"]


class ReportEventLinks(EventLinks):
    """The event's links, the report's, and its file's."""

    report: str
    pdf: str


class ReportAccepted(Answer):
    """The report is asked for; its id is the event's id."""

    id: str
    source: str
    type: str
    duplicate: bool
    report_id: str
    links: ReportEventLinks


class FinishedReport(Answer):
    """What a finished report says about itself; who it was sent to is not everybody's business."""

    model_config = ConfigDict(extra="ignore")

    title: str | None = None
    kind: str | None = None
    pages: int | None = None
    rows: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    made: str | None = None
    task_id: str | None = None


class ReportStateLinks(ReportLinks):
    """`event`: what asked for it; null once it is ready."""

    event: str | None


class ReportState(Answer):
    """How far a report is."""

    report_id: str
    state: State
    detail: str
    progress: Progress | None
    error: TaskError | None
    report: FinishedReport | None = Field(description="What the finished report says about itself.")
    links: ReportStateLinks
