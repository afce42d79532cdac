"""What the page beside the others says of this mesh is so: each default, each option, each lack that it names."""

from __future__ import annotations

import inspect
import re

import pytest
from streammesh import Context, Service
from streammesh.durable.records import LONGEST_WAIT
from streammesh.settings import MeshSettings

from tests.architecture.source_tree import ROOT

PAGE = (ROOT / "docs" / "comparison.md").read_text("utf-8")
OURS = {
    cells[1].strip().strip("*"): cells[2].strip()
    for line in PAGE.splitlines()
    if len(cells := line.split("|")) == 9 and not cells[1].strip().startswith("---")
}
DEFAULTS = MeshSettings(_env_file=None)
OPTIONS = inspect.signature(Service.on).parameters


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("tried again by default", f"{OPTIONS['retries'].default} times"),
        ("a worker is killed", f"lease of {DEFAULTS.lease.total_seconds():g} s"),
        ("published twice", f"for {max(DEFAULTS.retention, DEFAULTS.dedup_window).days} days"),
        ("kept after the end", "a day in Redis" if DEFAULTS.result_ttl.days == 1 else "unknown"),
    ],
)
def test_a_default_that_the_page_names_is_the_default(row: str, says: str) -> None:
    assert says in OURS[row]


def test_every_option_that_our_column_names_is_there() -> None:
    known = {*OPTIONS, *dir(Service), "source", "id"}
    named = [
        (row, found[1])
        for row, text in OURS.items()
        for found in re.finditer(r"`(?:@service\.)?(\w+)(?:=\w+)?`", text)
        if not text.startswith("`streammesh")
    ]
    assert len(named) > 8
    assert [one for one in named if one[1] not in known] == []


def test_what_the_page_says_is_lacking_is_lacking_and_nothing_that_is_there() -> None:
    lacks = PAGE.partition("## What streammesh lacks")[2]
    for row, option in (("debounce", "debounce"), ("several events in one call", "batch")):
        assert (OURS[row] == "**no**") == (option not in OPTIONS), row
        assert (f"No {option}" in lacks) == (option not in OPTIONS), row
    assert ("a year at most" in lacks) == (LONGEST_WAIT // 86_400 in (365, 366))
    assert hasattr(Context, "progress") and "`ctx.progress`" in OURS["progress"]
