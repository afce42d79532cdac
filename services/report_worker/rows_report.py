"""Aggregated rows as a document: cards, sentences, a chart and a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.report_worker import figures
from services.report_worker.aggregation import Partial, Row, finish, ranked, without_gaps
from services.report_worker.document import Bar, Card, Column, Document, Section, Table, column
from services.report_worker.requests import ReportRequested
from services.report_worker.svg_chart import Chart, Series

CHARTED = 12  # bars that can be told apart on half a page
TOP = 3  # "the three largest" in the summary
NAMES = {
    "count": "Number of rows",
    "sum": "Sum",
    "mean": "Mean",
    "min": "Smallest",
    "max": "Largest",
    "stddev": "Standard deviation",
}
ADDITIVE = ("count", "sum")


def compose(
    request: ReportRequested,
    groups: Mapping[str, Partial],
    *,
    report_id: str,
    organisation: str,
    made: str,
    facts: Sequence[tuple[str, str]],
) -> Document:
    """The document of a report of kind `rows`. `groups` has at least one row."""
    aggregate, every = request.aggregate or "count", request.every
    rows = ranked(groups, aggregate, every)
    whole = Partial()
    for partial in groups.values():
        whole.merge(partial)
    total = finish("All", whole)
    view = _View(request, rows, total)
    return Document(
        title=figures.printable(request.title, 120),
        subtitle=view.subtitle(),
        organisation=organisation,
        report_id=report_id,
        made=made,
        cards=view.cards(),
        summary=view.summary(),
        sections=[view.chart_section(), view.table_section()],
        facts=[[name, figures.printable(text, 300)] for name, text in [*facts, ("Method", view.method())]],
    )


class _View:
    """One report's rows with the words that go with them."""

    def __init__(self, request: ReportRequested, rows: list[Row], total: Row) -> None:
        self.aggregate = request.aggregate or "count"
        self.every = request.every
        self.unit = (
            figures.printable(request.unit, 12) if request.unit and self.aggregate != "count" else None
        )
        self.by = figures.label(request.group_by or "")
        self.measure = figures.label(request.measure) if request.measure else None
        self.line = request.chart == "line"
        self.rows, self.total = rows, total
        self.known = [row for row in rows if row.value(self.aggregate) is not None]
        self.places = figures.decimals(self._value(row) for row in rows)
        self.largest_first = sorted(self.known, key=lambda row: -(self._value(row) or 0.0))
        whole = self._value(total)
        values = [self._value(row) or 0.0 for row in rows]
        self.shares = self.aggregate in ADDITIVE and bool(whole) and min(values) >= 0

    def _value(self, row: Row) -> float | None:
        return row.value(self.aggregate)

    def _name(self, row: Row, most: int = 60) -> str:
        return figures.printable(figures.bucket_label(row.group, self.every), most)

    def _shown(self, row: Row) -> str:
        return figures.with_unit(figures.number(self._value(row), self.places), self.unit)

    def about(self) -> str:
        """What is counted: `Sum of cost`, `Number of rows`."""
        if self.measure is None or self.aggregate == "count":
            return NAMES["count"]
        return f"{NAMES[self.aggregate]} of {self.measure[:1].lower()}{self.measure[1:]}"

    def subtitle(self) -> str:
        by = f"{self.by[:1].lower()}{self.by[1:]}"
        return f"{self.about()} by {by if not self.every else f'{self.every} ({by})'}"

    def cards(self) -> list[Card]:
        def card(label: str, value: str, note: str = "") -> Card:
            return Card(label=label, value=value, note=note)

        spans = f"{self._name(self.rows[0], 24)} to {self._name(self.rows[-1], 24)}" if self.every else ""
        groups = card(
            f"{self.every}s" if self.every else "groups", f"{len(self.rows):,}", spans or f"of {self.by}"
        )
        missing = self.total.rows - self.total.count if self.measure else 0
        rows = card(
            "rows", f"{self.total.rows:,}", f"{missing:,} without a number" if missing else "all counted"
        )
        best = self.largest_first[0] if self.largest_first else None
        top = (
            card("largest", self._name(best, 22), self._shown(best))
            if best
            else card("largest", figures.DASH)
        )
        if self.aggregate == "count":
            average = self.total.rows / len(self.rows)
            per = self.every or "group"
            return [rows, groups, card(f"rows per {per}", figures.number(average), "on average"), top]
        whole = figures.with_unit(figures.compact(self._value(self.total)), self.unit)
        named = "total" if self.aggregate == "sum" else NAMES[self.aggregate].lower()
        return [rows, groups, card(named, whole, self.measure or ""), top]

    def summary(self) -> list[str]:
        kinds = f"{self.every}s" if self.every else "groups"
        counted = f"{figures.counted(self.total.rows, 'row')} in"
        counted += f" {figures.counted(len(self.rows), kinds[:-1], kinds)}"
        if self.aggregate == "count":
            average = figures.number(self.total.rows / len(self.rows))
            sentences = [f"The data has {counted}, {average} per {kinds[:-1]} on average."]
        else:
            what = f"{self.about()[:1].lower()}{self.about()[1:]}"
            sentences = [f"The data has {counted}."]
            if self._value(self.total) is not None:
                sentences[0] += f" Over all of them the {what} is {self._shown_total()}."
            if not self.known:
                sentences.append(f"{self._nothing()}.")
        if len(self.known) > 1:
            sentences.append(f"{self._first()}, {self._last()}.")
        if self.shares and len(self.known) > 2 * TOP:
            top = sum(self._value(row) or 0.0 for row in self.largest_first[:TOP])
            part = figures.share(top, self._value(self.total) or 0)
            sentences.append(f"The three largest {kinds} together make up {part} of the whole.")
        missing = self.total.rows - self.total.count
        if self.measure and missing:
            sentences.append(
                f"{figures.counted(missing, 'row')} ({figures.share(missing, self.total.rows)}) had no number in"
                f" {self.measure} and {'was' if missing == 1 else 'were'} left out of its figures."
            )
        return sentences

    def _nothing(self) -> str:
        """Say why no group has a value: a standard deviation takes two numbers, and there is one in each."""
        return f"No {self.every or 'group'} has two numbers, so none has a standard deviation"

    def _first(self) -> str:
        best = self.largest_first[0]
        text = f"{self._name(best)} is the largest with {self._shown(best)}"
        return f"{text} ({self._share(best)} of all)" if self.shares else text

    def _last(self) -> str:
        least = self.largest_first[-1]
        same = [row for row in self.known if self._value(row) == self._value(least)]
        if len(same) == 1:
            return f"{self._name(least)} the smallest with {self._shown(least)}"
        kinds = f"{self.every}s" if self.every else "groups"
        return f"and {len(same):,} {kinds} share the smallest value, {self._shown(least)}"

    def _shown_total(self) -> str:
        value = self._value(self.total)
        return figures.with_unit(
            figures.number(value, max(self.places, figures.decimals([value]))), self.unit
        )

    def _share(self, row: Row) -> str:
        return figures.share(self._value(row) or 0.0, self._value(self.total) or 0.0)

    def chart_section(self) -> Section:
        if not self.known:
            return Section(
                title=self.subtitle(), note="", chart=None, table=None, empty=f"{self._nothing()}."
            )
        if self.every:
            rows = without_gaps(self.rows, self.every)
            kind: Any = "line" if self.line else "columns"
            note = ""
        elif self.line:
            rows, kind, note = self.rows, "line", ""
        else:
            rows, kind = self.largest_first[:CHARTED], "bars"
            note = "" if len(rows) == len(self.known) else f"The {len(rows)} largest of {len(self.known):,}."
        empty = 0.0 if self.aggregate in ADDITIVE else None
        values = [empty if not row.rows else self._value(row) for row in rows]
        chart = Chart(
            kind=kind,
            labels=[self._name(row, 30) for row in rows],
            series=[Series(name=self.about(), values=values)],
            measured_in="number",
            alt=f"Chart of the {self.subtitle()[:1].lower()}{self.subtitle()[1:]}. {' '.join(self.summary()[1:2])}",
        )
        title = f"{self.subtitle()}, {self.unit}" if self.unit else self.subtitle()
        return Section(title=title, note=note, chart=chart, table=None, empty="")

    def table_section(self) -> Section:
        numbers = ["sum", "mean", "min", "max", "stddev"] if self.measure else []
        shown = {name: figures.decimals(getattr(row, name) for row in self.rows) for name in numbers}
        heads = {"sum": "Sum", "mean": "Mean", "min": "Min", "max": "Max", "stddev": "Std dev"}
        columns: list[Column] = [
            *([] if self.every else [column("#")]),
            column(self.by, "left", wide=True),
            column("Rows", strong=self.aggregate == "count"),
            *(column(heads[name], strong=name == self.aggregate) for name in numbers),
        ]
        if self.shares:
            columns.append(column("Share", "left"))
        rows: list[list[str | Bar]] = []
        most = max((abs(self._value(row) or 0.0) for row in self.known), default=0.0)
        for at, row in enumerate(self.rows, start=1):
            cells: list[str | Bar] = [] if self.every else [str(at)]
            cells += [self._name(row), f"{row.rows:,}"]
            cells += [figures.number(getattr(row, name), shown[name]) for name in numbers]
            if self.shares:
                part = (self._value(row) or 0.0) / most if most else 0.0
                cells.append(Bar(share=part, text=self._share(row)))
            rows.append(cells)
        total = [*([] if self.every else [""]), "All", f"{self.total.rows:,}"]
        total += [figures.number(getattr(self.total, name), shown[name]) for name in numbers]
        total += ["100%"] if self.shares else []
        kinds = f"{self.every}s" if self.every else "groups"
        return Section(
            title=f"All {len(self.rows):,} {kinds}" if len(self.rows) > 1 else "Table",
            note=f"{self.measure} in {self.unit}." if self.unit and self.measure else "",
            chart=None,
            table=Table(columns=columns, rows=rows, total=total),
            empty="",
        )

    def method(self) -> str:
        """How the numbers came about, in one sentence."""
        text = f"Rows were grouped by {self.by}" + (f", by {self.every}" if self.every else "")
        if self.measure:
            text += f"; {self.measure} was added up exactly, and the standard deviation is that of a sample (n − 1)"
        return f"{text}."
