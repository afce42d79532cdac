"""Charts are SVG that typst can draw: no scripts, the same bytes every time, any text as text."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, cast

import pytest
import typst

from services.report_worker.fonts import LAYOUT
from services.report_worker.svg_chart import Chart, Series, draw

SVG = "{http://www.w3.org/2000/svg}"


def chart(
    kind: str, values: list[float | None], *, series: int = 1, labels: list[str] | None = None
) -> Chart:
    return Chart(
        kind=kind,  # type: ignore[typeddict-item]
        labels=labels or [f"label {at}" for at in range(len(values))],
        series=[Series(name=f"series {at}", values=values) for at in range(series)],
        measured_in="number",
        alt="",
    )


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", ["bars", "columns", "stacked", "line"])
@pytest.mark.parametrize(
    "values", [[3.0, 1.0, 2.0], [0.0, 0.0], [None, 2.0, None], [-4.0, 3.5], [1e15, 1.0], [7.0], [None], []]
)
def test_every_kind_of_chart_can_be_drawn_of_every_kind_of_values(
    kind: str, values: list[float | None]
) -> None:
    svg = draw(chart(kind, values, series=2 if kind == "stacked" else 1))
    page = b'#set page(width: 17cm, height: auto)\n#image(bytes(sys.inputs.svg), format: "svg", alt: "x")'
    assert cast("Any", typst).compile(
        page, format="pdf", sys_inputs={"svg": svg}, font_paths=[str(LAYOUT / "fonts")]
    )


def test_a_chart_is_the_same_bytes_every_time_and_has_no_script_link_or_comment() -> None:
    svg = draw(chart("bars", [3.0, 1.0]))
    assert svg == draw(chart("bars", [3.0, 1.0]))
    assert not [word for word in ("<script", "<!--", "href", "http://") if word in svg.replace(SVG[1:-1], "")]


def test_labels_are_text_and_never_markup() -> None:
    label = '</text><script>alert("1")</script>&amp;'
    svg = draw(chart("bars", [1.0, 2.0], labels=[label, "b\x00\u202e"]))
    assert "<script" not in svg
    assert label[:29] in " ".join(texts(svg))


def test_the_first_bar_is_the_topmost_and_its_number_stands_beside_it() -> None:
    root = ElementTree.fromstring(draw(chart("bars", [3000.0, 1.0], labels=["first", "second"])))
    places = {text.text: float(text.get("y", 0)) for text in root.iter(f"{SVG}text")}
    assert places["first"] < places["second"]
    numbers = {text.text: text for text in root.iter(f"{SVG}text") if text.get("class") == "value"}
    assert set(numbers) == {"3,000", "1"}
    assert {text.get("text-anchor") for text in numbers.values()} == {"start"}


def test_the_number_of_a_bar_below_zero_stands_on_its_other_side() -> None:
    root = ElementTree.fromstring(draw(chart("bars", [-4.0, 3.5])))
    anchors = {t.text: t.get("text-anchor") for t in root.iter(f"{SVG}text") if t.get("class") == "value"}
    assert anchors == {"\u22124": "end", "3.5": "start"}


def test_a_long_run_of_time_has_few_labels() -> None:
    svg = draw(chart("columns", [1.0] * 200, labels=[f"day {at}" for at in range(200)]))
    assert len([text for text in texts(svg) if text.startswith("day")]) <= 10
