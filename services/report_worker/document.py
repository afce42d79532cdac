"""What a finished report says, before it has a shape: the JSON that the typst template lays out. Pure."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from services.report_worker.svg_chart import Chart


class Card(TypedDict):
    """One large figure on the first page."""

    label: str
    value: str
    note: str


class Column(TypedDict):
    """A table's column. `wide` takes what the others leave; `strong` marks what the report is about."""

    title: str
    align: Literal["left", "right"]
    wide: bool
    strong: bool


class Bar(TypedDict):
    """A cell drawn as a bar of `share` (0 to 1) of the cell's width with a text beside it."""

    share: float
    text: str


class Table(TypedDict):
    """Rows of cells; `total` is a last row, or empty."""

    columns: list[Column]
    rows: list[list[str | Bar]]
    total: list[str]


class Section(TypedDict):
    """A heading with a note, a chart, a table: whatever is there. `empty` is said where there is no table."""

    title: str
    note: str
    chart: Chart | None
    table: Table | None
    empty: str


class Document(TypedDict):
    """The whole report. `facts` are (name, text) pairs that say where the data is from and how it was counted."""

    title: str
    subtitle: str
    organisation: str
    report_id: str
    made: str
    cards: list[Card]
    summary: list[str]
    sections: list[Section]
    facts: list[list[str]]


def column(title: str, align: Literal["left", "right"] = "right", **marks: Any) -> Column:
    """A table's column; `wide=True` and `strong=True` as in `Column`."""
    return Column(title=title, align=align, wide=marks.get("wide", False), strong=marks.get("strong", False))
