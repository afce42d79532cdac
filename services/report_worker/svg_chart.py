"""A chart's plain description in, SVG out: with pygal, for typst's SVG renderer."""

from __future__ import annotations

import re
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import pygal
from pygal.style import Style

from services.report_worker.figures import MINUS, compact, number, printable, seconds

# pygal leaves an import hook for its maps that speaks a protocol Python no longer has: every later import that
# fails would warn about it, in this whole process.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

INK, MUTED, GUIDE = "#1e293b", "#64748b", "#dbe2ea"
COLOURS = ("#1f5fbf", "#0f9d8a", "#d97706", "#b4234d", "#6d5bd0", "#64748b", "#0891b2", "#84a313")
NAMED_COLOURS = {
    "tasks failed": "#b4234d",
    "succeeded": "#0f9d8a",
    "failed": "#b4234d",
    "retrying": "#d97706",
    "waiting": "#0891b2",
    "started": "#1f5fbf",
    "queued": "#94a3b8",
    "held": "#cbd5e1",
    "pending": "#e2e8f0",
    "cancelled": "#6d5bd0",
    "expired": "#78716c",
    "skipped": "#a8a29e",
    "folded": "#d6d3d1",
}
FONT = "IBM Plex Sans"
WIDTH = 760  # SVG units; typst scales it to the width of the text
MOST_TIME_LABELS = 9
WIDE = 30  # places of a label
LETTER = 6.5  # SVG units of one
_JOINED = re.compile(r"[\ufe0e\ufe0f\u20e3]|(?<=[\u2190-\u2bff\U0001f000-\U0001faff])\u200d")
# An SVG gets the thinnest cut of the variable font for these scripts unless it asks for the usual one.
_THIN = re.compile(
    r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)

# Behind pygal's own rules: axes as quiet as their guides, lines that can be seen on paper.
_CSS = f"inline:.axis text.major{{fill:{MUTED}}}.series .line.reactive{{stroke-width:2;fill-opacity:.12}}"
_ROOM_FOR_VALUES = 1.12  # the axis of lying bars is this much longer than the longest, for its number

_SVG = "{http://www.w3.org/2000/svg}"


class Series(TypedDict):
    """One colour of a chart: `values` runs along the chart's labels."""

    name: str
    values: list[float | None]


class Chart(TypedDict):
    """What is drawn. `labels` has one text per value; `alt` says the same to who cannot see it."""

    kind: Literal["bars", "columns", "stacked", "line"]  # bars lie, columns stand
    labels: list[str]
    series: list[Series]
    measured_in: Literal["number", "seconds"]
    alt: str


def draw(chart: Chart) -> str:
    """SVG without scripts, comments or links: the same bytes for the same chart."""
    labels = [fitting(label) for label in chart["labels"]]
    stacked = chart["kind"] == "stacked"
    lying = chart["kind"] in ("bars", "stacked")
    show = seconds if chart["measured_in"] == "seconds" else _tick
    options: dict[str, Any] = {
        "style": _style([one["name"] for one in chart["series"]], stacked),
        "js": (),
        "css": ("file://style.css", "file://graph.css", _CSS),
        "no_prefix": True,
        "disable_xml_declaration": True,
        "width": WIDTH,
        "height": _height(len(labels), chart),
        "margin": 4,
        # pygal reckons with narrow letters; those of East Asia take two places.
        "margin_left": 4 + LETTER * max((width(one) - len(one) for one in labels), default=0),
        "show_legend": len(chart["series"]) > 1,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": min(5, len(chart["series"])),
        "legend_box_size": 10,
        "value_formatter": lambda value: show(value),
        "truncate_label": WIDE + 1,
        "truncate_legend": 30,
        "min_scale": 3,
        "max_scale": 6,
        "spacing": 8,
        "include_x_axis": True,
    }
    if lying:
        kind = pygal.HorizontalStackedBar if stacked else pygal.HorizontalBar
        values_at_end = (
            {} if stacked else {"print_values": True, "print_values_position": "top", "range": _range(chart)}
        )
        plot = kind(**options, **values_at_end, show_x_guides=False, rounded_bars=1)
        labels = labels[::-1]  # pygal draws the first one at the bottom
    elif chart["kind"] == "columns":
        plot = pygal.Bar(**options, rounded_bars=1, **_thinned(labels))
    else:
        dots = len(labels) <= 40
        alone = len(chart["series"]) == 1
        plot = pygal.Line(**options, show_dots=dots, dots_size=2.5, fill=alone, **_thinned(labels))
    plot.x_labels = labels
    for one in chart["series"]:
        plot.add(printable(one["name"], 30), one["values"][::-1] if lying else one["values"])
    return _cleaned(plot.render(), values_beside_bars=lying and not stacked)


def width(text: str) -> int:
    """Return how many places a text takes; letters of East Asia and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def fitting(label: str) -> str:
    """Return a label that fits beside its bar. An SVG cannot join emoji, so they stand one by one."""
    label = _JOINED.sub("", printable(label, WIDE))
    while width(label) > WIDE:
        label = f"{label.rstrip('…')[:-1]}…"
    return label


def _tick(value: float | None) -> str:
    if value is None:
        return ""
    text = compact(value) if abs(value) >= 1e5 else number(value)
    return text.rstrip("0").rstrip(".") if "." in text and text[-1] == "0" else text


def _range(chart: Chart) -> tuple[float, float]:
    values = [value for one in chart["series"] for value in one["values"] if value is not None]
    low, high = min([0.0, *values]), max([0.0, *values])
    return low * _ROOM_FOR_VALUES, (high * _ROOM_FOR_VALUES) or 1.0


def _thinned(labels: Sequence[str]) -> dict[str, Any]:
    step = -(-len(labels) // MOST_TIME_LABELS)
    if step <= 1:
        return {}
    return {"x_labels_major_every": step, "show_minor_x_labels": False}


def _height(labels: int, chart: Chart) -> int:
    legend = 26 if len(chart["series"]) > 1 else 0
    if chart["kind"] in ("bars", "stacked"):
        return 44 + legend + 24 * max(labels, 2)
    return 270 + legend


def _style(names: Sequence[str], stacked: bool) -> Style:
    colours = tuple(NAMED_COLOURS.get(name, COLOURS[at % len(COLOURS)]) for at, name in enumerate(names))
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground=MUTED,
        foreground_strong=INK,
        foreground_subtle=GUIDE,
        guide_stroke_color=GUIDE,
        major_guide_stroke_color=GUIDE,
        guide_stroke_dasharray="1,0",
        major_guide_stroke_dasharray="1,0",
        opacity="1",
        stroke_opacity="1",
        colors=colours,
        value_colors=(INK,) * len(colours),
        font_family=FONT,
        label_font_size=11,
        major_label_font_size=11,
        value_font_size=11,
        legend_font_size=11,
    )


def _cleaned(svg: str, *, values_beside_bars: bool) -> str:
    # It is pygal's own text; parsing leaves its comments out, which carry the date of today.
    root = ElementTree.fromstring(svg)  # noqa: S314
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}script", f"{_SVG}title", f"{_SVG}desc"):
                parent.remove(child)
            elif child.tag == f"{_SVG}path" and child.get("class") == "line reactive":
                parent.append(_edge(child))
    if values_beside_bars:  # pygal centres them on the bar's end, where they cannot be read
        for text in root.iter(f"{_SVG}text"):
            if text.get("class") == "value":
                text.set("text-anchor", "end" if (text.text or "").startswith(MINUS) else "start")
    for text in root.iter(f"{_SVG}text"):
        if _THIN.search(text.text or ""):
            text.set("style", "font-variation-settings:'wght' 400")
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    return ElementTree.tostring(root, encoding="unicode")


def _edge(area: ElementTree.Element) -> ElementTree.Element:
    """The upper edge of a filled area as a line of its own: pygal strokes the area's sides too."""
    numbers = area.get("d", "").replace("M", "").replace("L", "").split()
    points = " ".join(numbers[2:-2])  # the first and the last point are on the axis
    area.set("style", "stroke:none")
    return ElementTree.Element(f"{_SVG}path", {"d": f"M{points}", "class": "line reactive nofill"})
