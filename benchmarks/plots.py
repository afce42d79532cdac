"""Draws the results into `docs/images/bench-*.svg` and writes them into `docs/performance.md`.

`python -m benchmarks.plots var/bench/latest.json`
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pygal
from pygal.style import Style

from benchmarks.measuring import figure
from benchmarks.targets import OURS, TARGETS, Measured, best_peer, of_ours

# pygal leaves an import hook that speaks a protocol Python no longer has; later imports would warn about it.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

DOCS = Path("docs")
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
OURS_COLOUR, PEER_COLOUR = "#1f5fbf", "#b6c2d1"
BAR_HEIGHT, FRAME_HEIGHT, WIDTH = 24, 80, 620
BESIDE_ITS_BAR = "inline:.text-overlay text.value{text-anchor:start !important}"
NOT_DRAWN = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Chart:
    """One picture: a measure with a bar for each system, or several of our own measures with a bar each."""

    file: str
    title: str
    names: Sequence[str]
    labels: Sequence[str] = ()  # of our own measures; systems are their own labels

    def bars(self, measured: Sequence[Measured]) -> list[tuple[str, float, bool]]:
        """Label, value and whether it is the mesh's, the first one on top."""
        if self.labels:
            ours = of_ours(measured)
            return [
                (label, ours[n]["value"], True)
                for n, label in zip(self.names, self.labels, strict=True)
                if n in ours
            ]
        found = sorted((m for m in measured if m["name"] == self.names[0]), key=lambda m: -m["value"])
        return [(m["system"], m["value"], m["system"] == OURS) for m in found]


CHARTS = (
    Chart("async-2p", "No-op async handler, 2 processes: tasks/s", ["drain.noop.async.2p"]),
    Chart("async-1p", "No-op async handler, 1 process: tasks/s", ["drain.noop.async.1p"]),
    Chart("sync-2p", "No-op plain function in threads of 2 processes: tasks/s", ["drain.noop.sync.2p"]),
    Chart("sync-1p", "No-op plain function in threads of 1 process: tasks/s", ["drain.noop.sync.1p"]),
    Chart("prefork-2p", "No-op plain function, 2 worker processes: tasks/s", ["drain.noop.prefork.2p"]),
    Chart("io-1p", "10 ms of waiting, 1 process: tasks/s", ["drain.io10ms.1p"]),
    Chart("handoff", "Stream to queue, 1 process: events/s", ["handoff.1p"]),
    Chart("publish", "POST, 32 connections, 1 process: events/s", ["publish.http.single"]),
    Chart("latency-p50", "Publish to outcome, low load, median: ms", ["latency.low.p50"]),
    Chart("latency-p99", "Publish to outcome, low load, p99: ms", ["latency.low.p99"]),
    Chart(
        "backlog", "Hand-off of one event: µs of CPU",
        [f"scale.backlog.{n}.cpu" for n in ("1k", "100k", "1m")], ["1,000 wait", "100,000 wait", "1,000,000 wait"],
    ),
    Chart(
        "services", "Hand-off of one delivery: µs of CPU",
        [f"scale.services.{n}.cpu" for n in (1, 10, 50)], ["1 service", "10 services", "50 services"],
    ),
)  # fmt: skip


def draw(chart: Chart, measured: Sequence[Measured]) -> str | None:
    """The picture as SVG, the same for the same figures; None when nothing of it was measured."""
    bars = chart.bars(measured)
    if not bars:
        return None
    plot = pygal.HorizontalBar(
        js=(), css=("file://style.css", "file://graph.css", BESIDE_ITS_BAR), show_legend=False, print_values=True, print_values_position="top", width=WIDTH,
        height=FRAME_HEIGHT + BAR_HEIGHT * len(bars), title=chart.title, value_formatter=figure, disable_xml_declaration=True,
        show_x_guides=False, show_y_guides=False, show_x_labels=False, margin=8, spacing=4,
        range=(0, 1.15 * max(value for _, value, _ in bars)),
        style=Style(
            background="white", plot_background="white", font_family="sans-serif", title_font_size=15,
            label_font_size=12, value_font_size=12, transition="0s", colors=(OURS_COLOUR,),
        ),
    )  # fmt: skip
    plot.uuid = f"bench-{chart.file}"  # pygal would make one up
    plot.x_labels = [label for label, _, _ in reversed(bars)]
    plot.add(
        "",
        [{"value": v, "color": OURS_COLOUR if ours else PEER_COLOUR} for _, v, ours in reversed(bars)],
    )
    return NOT_DRAWN.sub("", plot.render(is_unicode=True))


def against_targets(measured: Sequence[Measured]) -> list[str]:
    """The table of what was meant to be reached."""
    lines = [
        "| what | target | streammesh, median | least to most | best peer | |",
        "|---|---|---:|---:|---:|---|",
    ]
    ours = of_ours(measured)
    for target in TARGETS:
        if target.name in ours:
            m, peer, other = ours[target.name], best_peer(measured, target), ours.get(target.other)
            beside = f"{peer['system']} {figure(peer['value'])}" if peer else ""
            lines.append(
                f"| `{target.name}` | {target.text} {m['unit']} | **{figure(m['value'])}**"
                f" | {figure(min(m['runs']))} to {figure(max(m['runs']))} | {beside}"
                f" | {target.verdict(m['value'], peer['value'] if peer else None, other and other['value'])} |"
            )
    return lines


def beside(measured: Sequence[Measured]) -> list[str]:
    """The table of all systems: medians."""
    names = sorted({m["name"] for m in measured if m["system"] != OURS})
    systems = [OURS, *dict.fromkeys(m["system"] for m in measured if m["system"] != OURS)]
    value = {(m["name"], m["system"]): figure(m["value"]) for m in measured}
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---:|' * len(systems)}"]
    for name in names:
        lines.append(f"| `{name}` | {' | '.join(value.get((name, s), '') for s in systems)} |")
    return lines


def the_rest(measured: Sequence[Measured]) -> list[str]:
    """The table of our own figures that have neither a target nor a peer."""
    known = {t.name for t in TARGETS} | {m["name"] for m in measured if m["system"] != OURS}
    lines = ["| | median | least to most | unit |", "|---|---:|---:|---|"]
    for m in sorted(of_ours(measured).values(), key=lambda m: m["name"]):
        if m["name"] not in known:
            low, high = figure(min(m["runs"])), figure(max(m["runs"]))
            lines.append(f"| `{m['name']}` | {figure(m['value'])} | {low} to {high} | {m['unit']} |")
    return lines


def page(text: str, measured: Sequence[Measured], about: dict[str, str], pictures: Sequence[str]) -> str:
    """The page with its figures put between the two marks. Raises ValueError when the marks are not there."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{PAGE} has no place for the figures: {BEGIN} ... {END}")
    runs = max(len(m["runs"]) for m in measured)
    images = [f'<img src="images/{name}" width="49%" alt="">' for name in pictures]
    figures = [
        f"Measured {about['finished']} on {about['machine']}; {about['server']}; medians of up to {runs} runs.", "",
        *against_targets(measured), "", *images, "",
        "All systems, medians:", "", *beside(measured), "",
        "The rest of the mesh's own figures:", "", *the_rest(measured),
    ]  # fmt: skip
    return f"{before}{BEGIN}\n" + "\n".join(figures) + f"\n{END}{after}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("var/bench/latest.json"))
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose figures are replaced")
    chosen = parser.parse_args()
    results = orjson.loads(chosen.results.read_bytes())
    measured: list[Measured] = results["measurements"]
    pictures = []
    for chart in CHARTS:
        drawn = draw(chart, measured)
        if drawn:
            name = f"bench-{chart.file}.svg"
            (chosen.page.parent / "images").mkdir(exist_ok=True)
            (chosen.page.parent / "images" / name).write_text(drawn + "\n")
            pictures.append(name)
    chosen.page.write_text(page(chosen.page.read_text(), measured, results["about"], pictures))
    print(f"wrote the figures of {chosen.results} into {chosen.page} and {len(pictures)} pictures beside it")


if __name__ == "__main__":
    main()
