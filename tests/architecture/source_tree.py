"""Reads the source tree for the architecture tests: files, their imports, their strings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "shared" / "streammesh"
SERVICES = ROOT / "services"
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Import:
    """One import statement: the module it names, the line, whether it stands inside a function."""

    module: str
    line: int
    late: bool


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Its path from the root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return _parse(self.path)

    def imports(self) -> Iterator[Import]:
        """Every import; `from x import y` names both `x` and `x.y`, which may be a module."""
        late = {
            id(inner)
            for function in ast.walk(self.tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(function)
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno, id(node) in late)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield Import(node.module, node.lineno, id(node) in late)
                for alias in node.names:
                    yield Import(f"{node.module}.{alias.name}", node.lineno, id(node) in late)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def sources(folder: Path, *, tests: bool = False) -> list[Source]:
    """The Python files below a folder, without tests unless asked for."""
    return [
        Source(path, path.read_text("utf-8"))
        for path in sorted(folder.rglob("*.py"))
        if tests or "tests" not in path.relative_to(folder).parts
    ]


def docstrings(tree: ast.Module) -> set[int]:
    """The ids of the nodes that are docstrings."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
