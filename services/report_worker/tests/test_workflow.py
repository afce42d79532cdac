"""The steps one after the other, twice, and with parts gone."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pypdf import PdfReader

from services.report_worker import workflow
from services.report_worker.object_store import Store
from services.report_worker.operations import EventSeen, TaskSeen
from services.report_worker.requests import ReportRequested
from services.report_worker.settings import ReportSettings
from services.report_worker.source_table import SourceError
from services.report_worker.workflow import Origin, WorkLost

from .conftest import TASK, Run

DEMO: dict[str, Any] = {
    "title": "What wildlife strikes cost",
    "source": {"dataset": "wildlife-strikes"},
    "group_by": "species",
    "measure": "cost",
}
SMALL: dict[str, Any] = {
    "csv": "city,sales\nOslo,1\nBergen,2\nOslo,3\n",
    "group_by": "city",
    "measure": "sales",
}


def text_of(store: Store, report_id: str) -> str:
    reader = PdfReader(io.BytesIO(store.get(f"reports/{report_id}.pdf")))
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def leftovers(store: Store) -> list[str]:
    return [name for name, _ in store.names("work")]


def fetched(
    store: Store, settings: ReportSettings, origin: Origin, **data: Any
) -> tuple[str, list[dict[str, Any]]]:
    work, parts, _ = workflow.fetch_rows(ReportRequested.model_validate(data), origin, store, settings)
    return work, [workflow.measure(work, index, store) for index in range(parts)]


def test_the_demo_data_becomes_a_pdf_with_the_right_numbers(run: Run, store: Store) -> None:
    outcome = run(**DEMO, recipient="a@example.com")
    assert outcome == {
        "report_id": "event-1",
        "title": "What wildlife strikes cost",
        "object": "reports/event-1.pdf",
        "size_bytes": len(store.get("reports/event-1.pdf")),
        "pages": 2,
        "rows": 4635,
        "recipient": "a@example.com",
        "download_path": "/v1/reports/event-1.pdf",
    }
    text = text_of(store, "event-1")
    for words in (
        "25,678,594",
        "9,015,956 USD",
        "Canada goose",
        "76.6%",
        "Page 2 of 2",
        "Federal Aviation",
        "public domain",
    ):
        assert words in text, words
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "data",
    [
        SMALL,
        {
            "rows": [
                {"city": "Oslo", "sales": 1},
                {"city": "Bergen", "sales": 2},
                {"city": "Oslo", "sales": 3},
            ]
        },
        {"object": "uploads/shop/u1.csv"},
        {"object": "uploads/shop/u2.json"},
    ],
)
def test_every_kind_of_source_gives_the_same_table(run: Run, store: Store, data: dict[str, Any]) -> None:
    store.put("uploads/shop/u1.csv", SMALL["csv"].encode())
    store.put(
        "uploads/shop/u2.json", orjson.dumps([{"city": "Oslo", "sales": 4}, {"city": "Bergen", "sales": "2"}])
    )
    run(**{"group_by": "city", "measure": "sales", **data})
    text = text_of(store, "event-1")
    assert "Oslo is the largest with 4 (66.7% of all), Bergen the smallest with 2." in text


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregate": "count"},
        {"aggregate": "mean", "measure": "speed", "group_by": "phase"},
        {"aggregate": "min"},
        {"aggregate": "max"},
        {"aggregate": "stddev", "chart": "line"},
        {"group_by": "date", "every": "month", "chart": "line"},
        {"group_by": "date", "every": "week"},
        {"group_by": "date", "every": "day", "chart": "line"} | {"aggregate": "mean"},
        {"measure": None, "group_by": "damage", "title": "x" * 120, "unit": "USD"},
    ],
)
def test_every_way_to_aggregate_and_to_chart_makes_a_report(
    run: Run, settings: ReportSettings, changes: dict[str, Any]
) -> None:
    object.__setattr__(settings, "max_groups", 2000)  # 1,400 days
    assert run(**{**DEMO, **changes})["pages"] >= 1


@pytest.mark.parametrize("every", [None, "day"])
def test_a_standard_deviation_of_single_rows_is_a_report_that_says_there_is_none(
    run: Run, store: Store, every: str | None
) -> None:
    csv = "day,n\n2026-01-01,1\n2026-01-02,2\n"
    run(csv=csv, group_by="day", measure="n", aggregate="stddev", every=every)
    text = text_of(store, "event-1")
    assert f"No {every or 'group'} has two numbers, so none has a standard deviation." in text
    assert "Over all of them the standard deviation of n is 0.7" in text
    run(csv="day,n\nx,1\n", group_by="day", measure="n", aggregate="stddev", report_id="one")
    assert "The data has 1 row in 1 group." in text_of(store, "one")


def test_the_chunks_make_no_difference(store: Store, settings: ReportSettings, origin: Origin) -> None:
    documents = []
    for size in (1, 7, 1000):
        cut = settings.model_copy(update={"rows_per_part": size, "max_parts": 64})
        work, parts = fetched(store, cut, dataclasses.replace(origin, attempt=size), **DEMO)
        workflow.merge(work, parts[::-1], store, cut)
        documents.append(store.get_json(f"{work}/document.json"))
    assert documents[0] == documents[1] == documents[2]


def test_a_report_is_not_made_of_parts_of_the_rows(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    work, parts = fetched(store, settings, origin, **DEMO)
    with pytest.raises(WorkLost, match="4,135 of 4,635 rows"):
        workflow.merge(work, parts[1:], store, settings)


def test_every_step_may_run_twice(store: Store, settings: ReportSettings, origin: Origin) -> None:
    request = ReportRequested.model_validate(DEMO)
    first = workflow.fetch_rows(request, origin, store, settings)
    assert workflow.fetch_rows(request, origin, store, settings) == first
    work, parts, _ = first
    measured = [workflow.measure(work, index, store) for index in range(parts) for _ in (1, 2)][::2]
    for _ in (1, 2):
        workflow.merge(work, measured, store, settings)
    for _ in (1, 2):
        workflow.draw(work, store)
    once = workflow.publish(work, store)
    pdf = store.get("reports/event-1.pdf")
    # What comes late, after the report is out, changes nothing and fails nothing.
    assert workflow.measure(work, 0, store) == {}
    assert workflow.merge(work, measured, store, settings) == workflow.draw(work, store) == work
    assert workflow.publish(work, store) == once
    assert store.get("reports/event-1.pdf") == pdf
    assert leftovers(store) == []


def test_the_last_step_may_die_anywhere_and_be_run_again(
    store: Store, settings: ReportSettings, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"put": 0, "delete": 0}
    limit = 0

    class Died(Exception):
        pass

    def dying(name: str) -> None:
        real = getattr(Store, name)

        def call(self: Store, *args: Any, **kwargs: Any) -> Any:
            if sum(calls.values()) >= limit:
                raise Died
            calls[name] += 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Store, name, call)

    work, parts = fetched(store, settings, origin, **SMALL)
    workflow.draw(workflow.merge(work, parts, store, settings), store)
    names = leftovers(store)
    for name in calls:
        dying(name)
    for limit in range(5):
        calls.update(put=0, delete=0)
        if limit < 4:
            with pytest.raises(Died):
                workflow.publish(work, store)
            assert limit == 3 or sorted(leftovers(store)) == sorted(names)
        else:
            assert workflow.publish(work, store)["rows"] == 3
    assert leftovers(store) == []


def test_work_that_was_lost_is_an_error_that_is_tried_again(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    work, parts = fetched(store, settings, origin, **SMALL)
    store.delete(leftovers(store))
    for step in (
        lambda: workflow.measure(work, 0, store),
        lambda: workflow.merge(work, parts, store, settings),
        lambda: workflow.draw(work, store),
        lambda: workflow.publish(work, store),
    ):
        with pytest.raises(WorkLost):
            step()


def test_a_second_attempt_is_not_disturbed_by_the_first_one_ending_late(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    second = dataclasses.replace(origin, attempt=2)
    works = [fetched(store, settings, one, **SMALL) for one in (origin, second)]
    for work, parts in works:
        workflow.draw(workflow.merge(work, parts, store, settings), store)
    workflow.publish(works[0][0], store)
    assert {name.split("/")[2] for name in leftovers(store)} == {f"{TASK}-2"}
    assert workflow.publish(works[1][0], store)["rows"] == 3
    assert leftovers(store) == []


def test_a_later_attempt_cleans_up_after_the_earlier_ones(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    fetched(store, settings, origin, **SMALL)
    other = dataclasses.replace(origin, task_id="0b8cbd6f-0000-5b0e-9d0e-1c1f0e7a4a51")
    fetched(store, settings, other, **SMALL)
    work, parts = fetched(store, settings, dataclasses.replace(origin, attempt=2), **SMALL)
    workflow.draw(workflow.merge(work, parts, store, settings), store)
    workflow.publish(work, store)
    assert {name.split("/")[2] for name in leftovers(store)} == {f"{other.task_id}-1"}


def test_work_that_never_ended_is_swept_away_after_a_while(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    fetched(store, settings, origin, **SMALL)
    now = datetime.now(UTC)
    kept = settings.model_copy(update={"work_kept": timedelta(hours=1)})
    assert workflow.sweep(store, now, kept) == 0
    assert workflow.sweep(store, now + timedelta(hours=2), kept) == 2
    assert leftovers(store) == []


def test_reports_and_uploads_are_kept_as_long_as_the_settings_say(
    run: Run, store: Store, settings: ReportSettings
) -> None:
    store.put("uploads/shop/u1.csv", b"x")
    run(**SMALL)
    now = datetime.now(UTC)
    assert workflow.sweep(store, now + timedelta(days=6), settings) == 0
    assert workflow.sweep(store, now + timedelta(days=6, minutes=59), settings) == 0  # asked again too early
    assert workflow.sweep(store, now + timedelta(days=8), settings) == 1  # the upload
    store.get("reports/event-1.pdf")
    assert (
        workflow.sweep(store, now + timedelta(days=31), settings) == 3
    )  # PDF, what it is, its place in the quota
    assert [name for folder in ("reports", "owned", "uploads") for name in store.names(folder)] == []
    run(**SMALL)
    for_ever = settings.model_copy(update={"kept": timedelta(0), "uploads_kept": timedelta(0)})
    assert workflow.sweep(store, now + timedelta(days=9999), for_ever) == 0


def test_one_source_keeps_no_more_reports_than_its_quota_and_others_go_on(
    run: Run, store: Store, settings: ReportSettings, origin: Origin
) -> None:
    object.__setattr__(settings, "quota", 2)
    run(**SMALL, report_id="one")
    run(**SMALL, report_id="two")
    run(**SMALL, report_id="two")  # the same delivery once more
    with pytest.raises(SourceError, match=r"2 reports of '/shop' are kept, .*REPORT_QUOTA"):
        run(**SMALL, report_id="three")
    other = dataclasses.replace(origin, event_source="/other")
    fetched(store, settings, other, **SMALL, report_id="three")


def test_rows_of_somebody_elses_upload_are_no_source() -> None:
    request = ReportRequested.model_validate({"object": "uploads/shop/u1.csv", "group_by": "city"})
    request.check_owner("shop")
    for other in ("shop2", "sho", "", "uploads"):
        with pytest.raises(SourceError, match=f"no uploaded file uploads/shop/u1.csv of '{other}'"):
            request.check_owner(other)


def test_another_events_report_is_never_overwritten(
    run: Run, store: Store, settings: ReportSettings, origin: Origin
) -> None:
    run(**SMALL, report_id="mine")
    before = store.get("reports/mine.pdf")
    run(**SMALL, report_id="mine")  # the same event again
    assert store.get("reports/mine.pdf") == before
    other = dataclasses.replace(origin, event_id="event-2")
    with pytest.raises(SourceError, match="report_id 'mine' is taken"):
        fetched(store, settings, other, **SMALL, report_id="mine")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"object": "uploads/shop/none.csv"}, "there is no uploaded file uploads/shop/none.csv"),
        ({"dataset": "nothing"}, "there is no data set 'nothing'; there are wildlife-strikes"),
        ({"dataset": "wildlife-strikes", "group_by": "bird"}, "there is no column 'bird'"),
        ({"csv": "city\n" + "".join(f"{at}\n" for at in range(1001))}, "1,001 different values"),
        ({"object": "uploads/shop/large.csv"}, "has 2,000 bytes; at most 1,024 are read"),
    ],
)
def test_a_source_that_cannot_be_used_is_said_in_words(
    store: Store, settings: ReportSettings, origin: Origin, data: dict[str, Any], words: str
) -> None:
    store.put("uploads/shop/large.csv", b"x" * 2000)
    small = settings.model_copy(update={"max_source_bytes": 1024} if "object" in data else {})
    with pytest.raises(SourceError, match=words):
        fetched(store, small, origin, **{"group_by": "city", **data})


def test_the_meshs_own_operations_become_a_report(
    store: Store, settings: ReportSettings, origin: Origin
) -> None:
    end = origin.made
    queued = end - timedelta(hours=1)
    tasks = [
        TaskSeen(
            "email_worker", "email_worker.send", "failed", 3, queued, queued, queued, "550 no such user"
        ),
        TaskSeen(
            "report_worker", "report_worker.make", "succeeded", 1, queued, queued, end - timedelta(minutes=59)
        ),
    ]
    request = ReportRequested(kind="operations", title="Daily operations", timezone="Asia/Tokyo")
    work = workflow.fetch_operations(
        request, origin, store, settings,
        period=(end - timedelta(hours=24), end), tasks=tasks, events=[EventSeen("user.registered", queued)],
        cut_short=True,
    )  # fmt: skip
    outcome = workflow.publish(workflow.draw(work, store), store)
    assert (outcome["rows"], outcome["recipient"]) == (3, None)
    text = text_of(store, "event-1")
    for words in (
        "Daily operations",
        "JST",
        "user.registered",
        "550 no such user",
        "p95",
        "Only the newest 200,000",
    ):
        assert words in text, words
    assert leftovers(store) == []
