"""What the documentation names is there: pages, files, settings, commands, targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from _pytest.mark import ParameterSet
from streammesh.cli.commands import app

from tests.architecture.source_tree import ROOT

PAGES = sorted(
    [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:shared|services|tests|examples|docs|deploy|benchmarks)/[\w./-]*[\w-])`")
SETTING = re.compile(r"\b((?:MESH|API|EMAIL|REPORT|SCHEDULER|DISPATCHER|STREAMMESH)_[A-Z_]*[A-Z])\b")
COMMAND = re.compile(r"(?:`|^|\$ |tools )streammesh ([a-z][a-z-]+)(?: ([a-z]+))?", re.MULTILINE)
TARGET = re.compile(r"`make ([a-z-]+)|^(?:\$ )?make ([a-z-]+)", re.MULTILINE)


def pages() -> list[ParameterSet]:
    return [pytest.param(page, page.read_text("utf-8"), id=str(page.relative_to(ROOT))) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "text"), pages())
def test_links_lead_somewhere(page: Path, text: str) -> None:
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize(("page", "text"), pages())
def test_files_that_are_named_are_there(page: Path, text: str) -> None:
    for path in PATH.findall(text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("page", "text"), pages())
def test_settings_that_are_named_can_be_set(page: Path, text: str) -> None:
    known = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(SETTING.findall(text)) - known == set()


@pytest.mark.parametrize(("page", "text"), pages())
def test_commands_that_are_named_can_be_run(page: Path, text: str) -> None:
    group: Any = typer.main.get_command(app)
    for name, second in COMMAND.findall(text):
        command = group.commands.get(name)
        assert command is not None, f"there is no `streammesh {name}`"
        below = getattr(command, "commands", None)
        assert below is None or not second or second in below, f"there is no `streammesh {name} {second}`"


@pytest.mark.parametrize(("page", "text"), pages())
def test_targets_that_are_named_can_be_made(page: Path, text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {a or b for a, b in TARGET.findall(text)} - targets == set()


def test_every_page_is_on_the_map() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    missing = [page.name for page in ROOT.glob("docs/*.md") if f"({page.name})" not in index]
    assert missing == ["index.md"]


def test_the_worker_in_the_readme_is_the_example() -> None:
    code = (ROOT / "examples" / "audit_worker" / "handlers.py").read_text("utf-8")
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    pieces = [piece.strip("\n") for block in blocks for piece in block.split("# …\n")]
    assert len(pieces) >= 3
    assert [piece for piece in pieces if piece not in code] == []
