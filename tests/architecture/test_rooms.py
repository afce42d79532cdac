"""Inside the rooms: no circle of files, a core that is an evening's reading, purity seen by a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.architecture.source_tree import KIT, SERVICES, Source, sources

CORE = (
    *("errors.py", "names.py", "clock.py", "settings.py", "keys.py"),
    *("events", "subscriptions", "tasks", "notifications.py", "service.py"),
)
CORE_LINES = 6350
PURE = (
    *("errors", "clock", "names", "plain_json", "keys"),
    *(
        "events.validation",
        "events.envelope",
        "events.encoded",
        "subscriptions.filters",
        "tasks.task",
        "tasks.verdict",
        "tasks.context",
        "tasks.handler",
    ),
)
HEAVY = ("redis", "celery", "kombu", "asyncio", "aiohttp", "fastapi", "obstore")


def module_of(source: Source, base: Path) -> str:
    """The dotted name of a source file, counted from `base`."""
    return ".".join(source.path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def graph(files: Iterable[Source], base: Path) -> dict[str, set[str]]:
    """Which file imports which; imports inside functions and under TYPE_CHECKING count."""
    modules = {module_of(source, base): source for source in files}
    return {
        name: {found.module for found in source.imports() if found.module in modules} - {name}
        for name, source in modules.items()
    }


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return the first circle that is found, as a path, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(edges):
        if found := visit(name, []):
            return found
    return []


def test_the_kit_has_no_circle_of_files() -> None:
    files = [s for s in sources(KIT) if s.path != KIT / "__init__.py"]  # brings in what it names at first use
    assert not circle(graph(files, KIT.parent))


FOLDERS = sorted(p.name for p in SERVICES.iterdir() if (p / "__init__.py").exists())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_service_has_no_circle_of_files(folder: str) -> None:
    assert not circle(graph(sources(SERVICES / folder), SERVICES.parent))


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_core_is_an_evenings_reading() -> None:
    paths = [KIT / name for name in CORE]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    lines = sum(file.read_text("utf-8").count("\n") for file in files)
    assert lines <= CORE_LINES, (
        f"the core has {lines} lines; move what is not its idea into a room of its own"
    )


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_brings_no_input_or_output_with_it(name: str) -> None:
    code = f"import sys, streammesh.{name}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not loaded.strip(), f"streammesh.{name} brings {loaded.strip()}"
