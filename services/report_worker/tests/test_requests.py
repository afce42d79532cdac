"""What a report.requested event may ask for, and how it is told what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from services.report_worker.requests import ReportRequested

SOURCE = {"csv": "a,b\nx,1\n"}
ROWS = {"source": SOURCE, "group_by": "a"}


def words(data: object) -> str:
    with pytest.raises(ValidationError) as caught:
        ReportRequested.model_validate(data)
    return str(caught.value)


def test_a_measure_is_summed_and_without_one_rows_are_counted() -> None:
    assert ReportRequested(**ROWS, measure="b").aggregate == "sum"
    assert ReportRequested(**ROWS).aggregate == "count"


def test_the_rows_may_stand_beside_the_other_fields_instead_of_inside_source() -> None:
    short = ReportRequested.model_validate({"csv": SOURCE["csv"], "group_by": "a"})
    assert short.source is not None and short.source.csv == SOURCE["csv"]
    assert "not both" in words({"csv": "a", "source": SOURCE, "group_by": "a"})


def test_fields_that_only_the_publisher_knows_are_left_alone() -> None:
    assert ReportRequested.model_validate({**ROWS, "requested_by": "user/42"}).title == "Report"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({**ROWS, "agregate": "sum"}, "did you mean 'aggregate'?"),
        ({**ROWS, "source": {}}, "give exactly one of csv, rows, object, dataset; got none of them"),
        ({**ROWS, "source": {"csv": "a", "dataset": "b"}}, "got csv and dataset"),
        ({**ROWS, "source": {"cvs": "a"}}, "cvs"),
        ({"group_by": "a"}, "source is missing: say where the rows are"),
        ({"source": SOURCE}, "group_by is missing"),
        ({**ROWS, "aggregate": "mean"}, "measure is missing: mean needs a column with numbers"),
        ({**ROWS, "period": {"last": "24h"}}, "period is for kind operations"),
        ({**ROWS, "title": ""}, "at least 1 character"),
        ({**ROWS, "title": "a\u2028b"}, "character 2 (U+2028) is a control character or a line end"),
        ({**ROWS, "title": "a\x00b"}, "character 2 (U+0000)"),
        ({**ROWS, "unit": "k\tg"}, "character 2 (U+0009)"),
        (
            {**ROWS, "recipient": "a@example.com", "title": "Win at evil.example"},
            "'evil.example' would become",
        ),
        ({**ROWS, "source": {"csv": "a", "encoding": "rot13"}}, "should be the name of a text encoding"),
        ({**ROWS, "source": {"object": "uploads/x.csv"}}, "object"),
        ({**ROWS, "timezone": "Asia/Tokio"}, "IANA time zone"),
        ({**ROWS, "timezone": "../../etc/passwd"}, "IANA time zone"),
        ({**ROWS, "recipient": "a@example.com\nBcc: b@example.com"}, "recipient"),
        ({**ROWS, "report_id": "../secret"}, "report_id"),
        ({**ROWS, "source": {"object": "reports/other.json"}}, "object"),
        ({**ROWS, "source": {"object": "uploads/../reports/x.csv"}}, "object"),
        ({"kind": "operations", "group_by": "a"}, "a report of kind operations takes no group_by"),
        ({"kind": "operations", "period": {"last": "0s"}}, "more than nothing"),
        ({"kind": "operations", "period": {}}, 'give one of {"last": "24h"}'),
        ({"kind": "operations", "period": {"from": "2026-01-01T00:00:00Z"}}, "from and to belong together"),
        (
            {"kind": "operations", "period": {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}},
            "to should be after from",
        ),
        ("text", "valid dictionary"),
    ],
)
def test_what_is_wrong_is_said_in_words_that_help(data: object, said: str) -> None:
    assert said in words(data)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ({"last": "24h"}, "2026-03-30T22:30:00+00:00", "2026-03-31T22:30:00+00:00"),
        # 22:30 UTC on 31 March is 07:30 on 1 April in Tokyo, so the month before is March.
        ({"previous": "month"}, "2026-02-28T15:00:00+00:00", "2026-03-31T15:00:00+00:00"),
        ({"previous": "day"}, "2026-03-30T15:00:00+00:00", "2026-03-31T15:00:00+00:00"),
        ({"previous": "week"}, "2026-03-22T15:00:00+00:00", "2026-03-29T15:00:00+00:00"),
        (
            {"from": "2026-01-01T00:00:00+09:00", "to": "2026-01-02T00:00:00+09:00"},
            "2025-12-31T15:00:00+00:00",
            "2026-01-01T15:00:00+00:00",
        ),
    ],
)
def test_a_period_is_counted_from_the_event_in_the_reports_time_zone(
    period: dict[str, str], start: str, end: str
) -> None:
    request = ReportRequested(kind="operations", period=period, timezone="Asia/Tokyo")
    assert request.period is not None
    bounds = request.period.bounds(datetime(2026, 3, 31, 22, 30, tzinfo=UTC), request.timezone)
    assert tuple(moment.isoformat() for moment in bounds) == (start, end)


def test_a_day_in_which_the_clocks_change_has_its_true_length() -> None:
    request = ReportRequested(kind="operations", period={"previous": "day"}, timezone="Europe/Berlin")
    assert request.period is not None
    start, end = request.period.bounds(datetime(2026, 3, 30, 7, tzinfo=UTC), request.timezone)
    assert (end - start).total_seconds() == 23 * 3600


def test_the_report_is_named_after_the_event_where_that_is_a_safe_name() -> None:
    request = ReportRequested(**ROWS)
    assert request.name("/shop", "0193-abc") == "0193-abc"
    unsafe = request.name("/shop", "daily/2026-11-22 09:00")
    assert len(unsafe) == 32 and unsafe.isalnum()
    assert (
        unsafe
        == request.name("/shop", "daily/2026-11-22 09:00")
        != request.name("/b", "daily/2026-11-22 09:00")
    )
    assert ReportRequested(**ROWS, report_id="mine").name("/shop", "0193-abc") == "mine"
