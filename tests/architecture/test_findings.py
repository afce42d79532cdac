"""Each thing that `streammesh doctor` finds stands in a page, and is made to be found by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KIT = ROOT / "shared" / "streammesh"
SAID_BY = (  # what `doctor` asks
    *(KIT / "status" / "diagnosis.py", KIT / "status" / "findings.py"),
    *(KIT / "redisio" / "inspection.py", KIT / "redisio" / "shard_marks.py"),
    *(KIT / "cli" / "service_checks.py", *(ROOT / "services").glob("*/checks.py")),
)
AT_LEAST = 25


def codes() -> list[str]:
    """Return the code of each finding that is made in these files."""
    made = [
        node
        for path in SAID_BY
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("Finding", "ServerFinding", "_refused")
    ]
    first = [node.args[0] for node in made if node.args]
    return sorted(
        {one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    )


def test_there_are_as_many_as_are_promised() -> None:
    assert len(codes()) >= AT_LEAST


@pytest.mark.parametrize("code", codes())
def test_a_finding_is_explained_and_shown(code: str) -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    assert f"`{code}`" in page, "put it into docs/operate.md"
    folders = (ROOT / "tests" / "unit", ROOT / "tests" / "integration", ROOT / "services")
    tests = [path for folder in folders for path in folder.rglob("test_*.py")]
    assert any(f'"{code}"' in path.read_text() for path in tests), "no test has it found"
