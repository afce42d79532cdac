"""The documentation as a site, and pyright over the examples: `make docs`, `make types`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.source_tree import ROOT

TOOLS = ROOT / "var" / "tools" / "bin"
LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"|<link[^>]+rel="stylesheet"[^>]+href="(https?:[^"]+)\""""
)


def leaves(part: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(part, str):
        yield part
    for one in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
        yield from leaves(one)


def test_every_page_is_in_the_site_once() -> None:
    pages = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(pages) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_no_library_that_is_installed_needs_the_tools() -> None:
    installed = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"^(properdocs|mkdocs|basedpyright)", installed, re.MULTILINE)


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if not (TOOLS / "properdocs").exists():
        pytest.skip("the site's tools are not installed: `make docs` does it")
    built = subprocess.run(
        [TOOLS / "properdocs", "build", "-q", "--strict", "-d", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list((tmp_path / "site").glob("*.html"))
    assert len(pages) > 30
    assert {found[0] for page in pages if (found := LOADED.search(page.read_text("utf-8")))} == set()


def test_the_examples_are_clean_under_pyright() -> None:
    if not (TOOLS / "basedpyright").exists():
        pytest.skip("pyright is not installed: `make types` does it")
    checked = subprocess.run([TOOLS / "basedpyright"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout[-3000:]


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("notifications", "Filtering"),
        ("notifications", "Reconnecting"),
        ("standalone", "Project layout"),
        ("standalone", "Deployment"),
        ("events", "Deduplication"),
        ("workers", "Errors and retries"),
        ("workers", "Priorities and queues"),
    ],
)
def test_what_people_search_for_is_a_heading(page: str, heading: str) -> None:
    assert f"\n## {heading}\n" in (ROOT / "docs" / f"{page}.md").read_text("utf-8")
