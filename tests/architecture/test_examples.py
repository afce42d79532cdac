"""A team's contribution in `examples/` keeps the rules that it has to keep once it is in `services/`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from deploy.image.install_locked import canonical, wanted
from tests.architecture.source_tree import EXAMPLES, Source, sources
from tests.architecture.test_deployment import brought_by

CONTRIBUTIONS = sorted(path.parent for path in EXAMPLES.glob("*/__main__.py"))
MODULES = [source for folder in CONTRIBUTIONS for source in sources(folder, tests=True)]


def test_there_is_one() -> None:
    assert CONTRIBUTIONS and MODULES


@pytest.mark.parametrize("folder", CONTRIBUTIONS, ids=lambda p: p.name)
def test_it_has_the_rooms_of_a_service(folder: Path) -> None:
    for room in ("__init__.py", "settings.py", "handlers.py", "requirements.txt", "README.md", "tests"):
        assert (folder / room).exists(), f"{folder.name} has no {room}"


@pytest.mark.parametrize("source", MODULES, ids=lambda s: s.name)
def test_its_own_modules_are_imported_from_where_they_are(source: Source) -> None:
    depth = len(source.path.relative_to(EXAMPLES).parts) - 1  # of folders, the team's own being one
    for found in source.imports():
        assert found.module.split(".")[0] not in {"services", "examples"}, (
            f"{source.name}:{found.line} imports {found.module}, which is gone after the copy; say `from .`"
        )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"{source.name}:{node.lineno} reaches out of its folder"


@pytest.mark.parametrize("folder", CONTRIBUTIONS, ids=lambda p: p.name)
def test_its_requirements_bring_what_it_imports(folder: Path) -> None:
    lines = (folder / "requirements.txt").read_text().splitlines()
    there = brought_by(wanted(lines, EXAMPLES.parent / "shared" / "pyproject.toml"))
    imported = {found.module.split(".")[0] for source in sources(folder) for found in source.imports()}
    third = {name for name in imported if name not in sys.stdlib_module_names and name != "streammesh"}
    assert {canonical(name) for name in third} <= there
