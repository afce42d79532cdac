"""What a `report.requested` event may ask for: this worker's own view of the event's data."""

from __future__ import annotations

import difflib
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from streammesh.mail_text import link_in, one_line
from streammesh.setting_kinds import Duration

from services.report_worker.source_table import SourceError
from services.report_worker.text_encoding import known

Aggregate = Literal["count", "sum", "mean", "min", "max", "stddev"]
Every = Literal["day", "week", "month", "quarter", "year"]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
UPLOAD_PATTERN = r"^uploads/[a-z0-9][a-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(csv|json)$"
ADDRESS_PATTERN = (
    r"^\s*[^\x00-\x1f\x7f]{1,130}@[^@\s\x00-\x1f\x7f,;<>\"]{1,189}\s*$"  # the email worker looks closer
)
LONGEST_PERIOD = timedelta(days=366)

SOURCES = ("csv", "rows", "object", "dataset")


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("should be an IANA time zone such as Europe/Berlin or Asia/Tokyo") from None
    return value


OneLine = Annotated[str, AfterValidator(one_line)]
Encoding = Annotated[str, Field(max_length=40), AfterValidator(known)]
TimeZoneName = Annotated[str, Field(max_length=64), AfterValidator(_timezone)]


class Source(BaseModel):
    """Where the rows are: exactly one of `csv`, `rows`, `object`, `dataset`."""

    model_config = ConfigDict(extra="forbid")

    csv: str | None = Field(None, min_length=1, description="CSV text; its first line names the columns.")
    rows: list[dict[str, Any]] | None = Field(
        None, min_length=1, description="Rows as flat objects: column name to text, number, true/false, null."
    )
    object: str | None = Field(
        None,
        pattern=UPLOAD_PATTERN,
        description="An uploaded file, `uploads/<key>/<id>.csv` (or `.json`): one's own, the key is the event's source.",
    )
    dataset: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="A data set that ships with the worker."
    )
    encoding: Encoding | None = Field(
        None,
        description="The encoding of an uploaded CSV, such as shift_jis, cp1252 or utf-16; found if missing.",
    )
    delimiter: Literal[",", ";", "\t", "|", " "] | None = Field(
        None, description="What separates the fields of a CSV; found if missing."
    )
    decimal: Literal[".", ","] = Field(".", description="Write `,` where numbers look like 1.234,5.")
    name: OneLine | None = Field(None, max_length=120, description="What the report calls the source.")
    licence: OneLine | None = Field(
        None, max_length=120, description="The data's licence, printed in the report."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"got {' and '.join(given)}" if given else "got none of them"
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}; {found}")
        return self


class Period(BaseModel):
    """The stretch of time that a report about the mesh's operations covers.

    One of: `{"last": "24h"}`, `{"previous": "day" | "week" | "month"}` (calendar, in the report's time zone),
    `{"from": ..., "to": ...}` (RFC 3339 with an offset).
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    last: Duration | None = Field(None, description="The time up to the event, such as 24h or 7d.")
    previous: Literal["day", "week", "month"] | None = Field(
        None, description="The last whole calendar day, week (from Monday) or month before the event."
    )
    start: AwareDatetime | None = Field(None, alias="from", description="First moment, with an offset.")
    end: AwareDatetime | None = Field(None, alias="to", description="First moment after, with an offset.")

    @model_validator(mode="after")
    def _one_way(self) -> Period:
        ways = [self.last is not None, self.previous is not None, bool(self.start or self.end)]
        if sum(ways) != 1:
            raise ValueError('give one of {"last": "24h"}, {"previous": "month"} or {"from": ..., "to": ...}')
        if (self.start is None) != (self.end is None):
            raise ValueError("from and to belong together; one of them is missing")
        if self.start and self.end and not timedelta(0) < self.end - self.start <= LONGEST_PERIOD:
            raise ValueError("to should be after from, by at most 366 days")
        if self.last is not None and not timedelta(0) < self.last <= LONGEST_PERIOD:
            raise ValueError("last should be more than nothing and at most 366d")
        return self

    def bounds(self, at: datetime, timezone: str) -> tuple[datetime, datetime]:
        """(first moment, first moment after), aware, UTC, for an event that happened `at`."""
        if self.start and self.end:
            return self.start.astimezone(UTC), self.end.astimezone(UTC)
        if self.last is not None:
            return at.astimezone(UTC) - self.last, at.astimezone(UTC)
        today = at.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.previous == "day":
            first, after = today - timedelta(days=1), today
        elif self.previous == "week":
            after = today - timedelta(days=today.weekday())
            first = after - timedelta(days=7)
        else:
            after = today.replace(day=1)
            first = (after - timedelta(days=1)).replace(day=1)
        return first.astimezone(UTC), after.astimezone(UTC)


class ReportRequested(BaseModel):
    """The data of `report.requested`.

    Raises pydantic's ValidationError whose messages say what to do; unknown fields are left alone, since the
    publisher may know more than this worker, unless one looks like a slip of a known field.
    """

    model_config = ConfigDict(extra="ignore")

    report_id: str | None = Field(
        None, pattern=ID_PATTERN, description="Names the PDF. The event's id when it is not given."
    )
    title: OneLine = Field("Report", min_length=1, max_length=120)
    kind: Literal["rows", "operations"] = Field(
        "rows", description="rows: a table is grouped and aggregated. operations: the mesh reports on itself."
    )
    source: Source | None = Field(None, description="Where the rows are; for kind rows.")
    group_by: str | None = Field(None, min_length=1, max_length=200, description="The column to group by.")
    every: Every | None = Field(
        None, description="Group the dates in `group_by` by day, week, month, quarter or year."
    )
    measure: str | None = Field(
        None, min_length=1, max_length=200, description="The column with the numbers."
    )
    aggregate: Aggregate | None = Field(
        None, description="What is charted and ranked. sum when there is a measure, else count."
    )
    unit: OneLine | None = Field(
        None, max_length=12, description="Unit of the measure, such as USD, kg or ms."
    )
    chart: Literal["bar", "line"] = "bar"
    period: Period | None = Field(None, description="For kind operations; the last 24 hours if not given.")
    timezone: TimeZoneName = Field("UTC", description="IANA time zone of the dates in the report.")
    recipient: str | None = Field(
        None, pattern=ADDRESS_PATTERN, description="Who is told by e-mail that the report is ready."
    )

    @model_validator(mode="before")
    @classmethod
    def _shape(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        short = {name: data.pop(name) for name in SOURCES if name in data}
        if short:
            if data.get("source") is not None:
                raise ValueError(f"give {', '.join(sorted(short))} inside source or instead of it, not both")
            data["source"] = short
        known = list(cls.model_fields)
        for name in data:
            if name not in known and (like := difflib.get_close_matches(str(name), known, 1, 0.8)):
                raise ValueError(f"there is no field {str(name)[:40]!r}; did you mean {like[0]!r}?")
        return data

    @model_validator(mode="after")
    def _belong_together(self) -> ReportRequested:
        if self.recipient is not None and (link := link_in(self.title)):
            raise ValueError(
                f"the title goes into a mail, where {link[:60]!r} would become a link; write it without"
            )
        if self.kind == "operations":
            extra = [n for n in ("source", "group_by", "measure", "every") if getattr(self, n) is not None]
            if extra:
                raise ValueError(f"a report of kind operations takes no {', '.join(extra)}")
            self.period = self.period or Period(last=timedelta(hours=24))
            return self
        if self.period is not None:
            raise ValueError("period is for kind operations; a report of kind rows takes all rows")
        if self.source is None:
            raise ValueError(f"source is missing: say where the rows are, with one of {', '.join(SOURCES)}")
        if self.group_by is None:
            raise ValueError("group_by is missing: name the column to group the rows by")
        if self.measure is None and self.aggregate not in (None, "count"):
            raise ValueError(f"measure is missing: {self.aggregate} needs a column with numbers")
        self.aggregate = self.aggregate or ("sum" if self.measure else "count")
        return self

    def check_owner(self, event_source: str) -> None:
        """Raises SourceError where the rows are somebody else's upload."""
        path = self.source.object if self.source else None
        if path is not None and path.split("/")[1] != event_source:
            raise SourceError(f"there is no uploaded file {path} of {event_source!r}; upload it first")

    def name(self, event_source: str, event_id: str) -> str:
        """The report's id: the one asked for, else the event's, else (where that is no safe name) its digest."""
        if self.report_id is not None:
            return self.report_id
        if re.match(ID_PATTERN, event_id):
            return event_id
        return hashlib.sha256(f"{event_source}\n{event_id}".encode()).hexdigest()[:32]


class OperationsReportRequested(ReportRequested):
    """The data of `operations.report_requested`: what the mesh says of itself, to whoever has that scope."""

    kind: Literal["operations"] = "operations"
