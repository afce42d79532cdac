"""The mesh's operations as a document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from services.report_worker import figures
from services.report_worker.document import Bar, Card, Document, Section, Table, column
from services.report_worker.operations import ENDED, STATES, Latency, Operations
from services.report_worker.svg_chart import Chart, Series

MOST_FAILURES = 40
MOST_TYPES = 100
MOST_COLUMNS = 31  # hours or days of a month side by side; more of them are lines


def compose(
    operations: Operations,
    *,
    title: str,
    timezone: str,
    report_id: str,
    organisation: str,
    made: str,
    facts: Sequence[tuple[str, str]],
) -> Document:
    """The document of a report of kind `operations`."""
    start, end = operations.period
    return Document(
        title=figures.printable(title, 120),
        subtitle=f"{figures.moment(start, timezone)} to {figures.moment(end, timezone)}",
        organisation=organisation,
        report_id=report_id,
        made=made,
        cards=_cards(operations),
        summary=_summary(operations),
        sections=[
            _timeline(operations, timezone),
            _events(operations),
            _tasks(operations),
            _failures(operations, timezone),
            _latencies(operations),
        ],
        facts=[[name, figures.printable(text, 300)] for name, text in facts],
    )


def _ended(operations: Operations) -> int:
    return sum(operations.total(state) for state in ENDED)


def _cards(operations: Operations) -> list[Card]:
    ended, failed = _ended(operations), operations.total("failed")
    types = figures.counted(len(operations.event_types), "type")
    services = figures.counted(len(operations.services), "service")
    done = figures.share(operations.total("succeeded"), ended) if ended else figures.DASH
    whole = operations.whole
    return [
        Card(label="events", value=figures.compact(operations.events), note=f"of {types}"),
        Card(label="tasks", value=figures.compact(operations.tasks), note=f"in {services}"),
        Card(label="succeeded", value=done, note=f"{failed:,} failed" if failed else "none failed"),
        Card(
            label="p95, queued to done",
            value=figures.seconds(whole.p95 if whole else None),
            note=f"half within {figures.seconds(whole.p50)}" if whole else "nothing ended",
        ),
    ]


def _summary(operations: Operations) -> list[str]:
    if not operations.events and not operations.tasks:
        return ["Nothing happened in this period: no event was published and no task ran."]
    ended, failed = _ended(operations), operations.total("failed")
    open_tasks = operations.tasks - ended
    sentences = [
        f"{figures.counted(operations.events, 'event')} led to {figures.counted(operations.tasks, 'task')}"
        f" in {figures.counted(len(operations.services), 'service')}."
    ]
    if operations.event_types:
        name, count = operations.event_types[0]
        part = figures.share(count, operations.events)
        sentences.append(f"The most frequent event was {figures.printable(name)} with {count:,} ({part}).")
    if ended:
        text = f"{operations.total('succeeded'):,} of {figures.counted(ended, 'ended task')} succeeded"
        if failed:
            worst = operations.failures[0]
            reason = figures.printable(worst.reason, 90)
            text += f"; {failed:,} failed, most often in {figures.printable(worst.service)}: “{reason}”"
        sentences.append(f"{text}.")
    retried = sum(service.retried for service in operations.services)
    if retried:
        verb = "task needed" if retried == 1 else "tasks needed"
        sentences.append(f"{retried:,} {verb} more than one attempt.")
    if open_tasks:
        was = "task of the period had" if open_tasks == 1 else "tasks of the period had"
        sentences.append(f"{open_tasks:,} {was} not ended when this report was made.")
    return sentences


def _timeline(operations: Operations, timezone: str) -> Section:
    def shown(label: str) -> str:
        at = datetime.fromisoformat(label)
        if operations.step == "hour":
            return f"{at.day} {figures.MONTHS[at.month - 1]} {at:%H:%M}"
        return figures.day(at)

    events = [float(row[1]) for row in operations.timeline]
    ended = [float(row[2]) for row in operations.timeline]
    failed = [float(row[3]) for row in operations.timeline]
    chart = Chart(
        kind="columns" if len(operations.timeline) <= MOST_COLUMNS else "line",
        labels=[shown(row[0]) for row in operations.timeline],
        series=[
            Series(name="events published", values=list(events)),
            Series(name="tasks ended", values=list(ended)),
            *([Series(name="tasks failed", values=list(failed))] if any(failed) else []),
        ],
        measured_in="number",
        alt=f"Events, ended and failed tasks per {operations.step}: at most {max(events, default=0):,.0f} events.",
    )
    zone = ZoneInfo(timezone).key
    there = any(events) or any(ended)
    return Section(
        title=f"Activity per {operations.step}",
        note=f"Times in {zone}." if there else "",
        chart=chart if there else None,
        table=None,
        empty="There was none in this period.",
    )


def _events(operations: Operations) -> Section:
    most = max((count for _, count in operations.event_types), default=0)
    rows: list[list[str | Bar]] = [
        [
            figures.printable(name, 60),
            f"{count:,}",
            Bar(share=count / most, text=figures.share(count, operations.events)),
        ]
        for name, count in operations.event_types[:MOST_TYPES]
    ]
    columns = [column("Type", "left", wide=True), column("Events", strong=True), column("Share", "left")]
    table = (
        Table(columns=columns, rows=rows, total=["All", f"{operations.events:,}", "100%"]) if rows else None
    )
    left_out = len(operations.event_types) - len(rows)
    note = f"The {MOST_TYPES} most frequent; {left_out:,} more types are in the total." if left_out else ""
    return Section(
        title="Events by type",
        note=note,
        chart=None,
        table=table,
        empty="No event was published in this period.",
    )


def _tasks(operations: Operations) -> Section:
    used = [state for state in STATES if operations.total(state)]
    chart = Chart(
        kind="stacked",
        labels=[service.service for service in operations.services],
        series=[
            Series(name=state, values=[float(s.states.get(state, 0)) for s in operations.services])
            for state in used
        ],
        measured_in="number",
        alt="Tasks per service by state: "
        + ", ".join(f"{operations.total(state):,} {state}" for state in used)
        + ".",
    )
    rows: list[list[str | Bar]] = []
    for service in operations.services:
        done = (
            figures.share(service.states.get("succeeded", 0), service.ended)
            if service.ended
            else figures.DASH
        )
        cells: list[str | Bar] = [figures.printable(service.service, 40), f"{service.tasks:,}"]
        cells += [f"{service.states.get(state, 0):,}" for state in used]
        rows.append([*cells, f"{service.retried:,}", done])
    columns = [
        column("Service", "left", wide=True),
        column("Tasks", strong=True),
        *(column(state.capitalize()) for state in used),
        column("Retried"),
        column("Success"),
    ]
    ended = _ended(operations)
    total = ["All", f"{operations.tasks:,}", *(f"{operations.total(state):,}" for state in used)]
    total += [f"{sum(service.retried for service in operations.services):,}"]
    total += [figures.share(operations.total("succeeded"), ended) if ended else figures.DASH]
    there = bool(rows)
    return Section(
        title="Tasks by service and state",
        note="Success: succeeded of those that ended." if there else "",
        chart=chart if there else None,
        table=Table(columns=columns, rows=rows, total=total) if there else None,
        empty="No task was queued or ended in this period.",
    )


def _failures(operations: Operations, timezone: str) -> Section:
    rows: list[list[str | Bar]] = [
        [
            figures.printable(failure.name, 44),
            figures.printable(failure.reason, 160),
            f"{failure.count:,}",
            figures.moment(failure.last, timezone),
        ]
        for failure in operations.failures[:MOST_FAILURES]
    ]
    columns = [
        column("Task", "left"),
        column("Reason", "left", wide=True),
        column("Times", strong=True),
        column("Last", "left"),
    ]
    left_out = sum(failure.count for failure in operations.failures[MOST_FAILURES:])
    note = (
        f"The {MOST_FAILURES} most frequent reasons; {left_out:,} more failures had others."
        if left_out
        else ""
    )
    return Section(
        title="Failures",
        note=note,
        chart=None,
        table=Table(columns=columns, rows=rows, total=[]) if rows else None,
        empty="No task failed in this period.",
    )


def _latencies(operations: Operations) -> Section:
    def line(name: str, what: str, value: Latency) -> list[str | Bar]:
        shown = [figures.seconds(x) for x in (value.p50, value.p95, value.p99, value.longest)]
        return [name, what, f"{value.count:,}", *shown]

    rows: list[list[str | Bar]] = []
    for service in operations.services:
        name = figures.printable(service.service, 40)
        for what, value in (
            ("waiting for a worker", service.waited),
            ("running", service.ran),
            ("queued to ended", service.whole),
        ):
            if value is not None:
                rows.append(line(name, what, value))
                name = ""
    columns = [
        column("Service", "left", wide=True),
        column("Time spent", "left"),
        column("Tasks"),
        *(column(title, strong=title == "p95") for title in ("p50", "p95", "p99", "Longest")),
    ]
    return Section(
        title="Latencies",
        note="Waiting is told for tasks that needed one attempt; running is that of the last attempt."
        if rows
        else "",
        chart=None,
        table=Table(columns=columns, rows=rows, total=[]) if rows else None,
        empty="No task ended in this period.",
    )
