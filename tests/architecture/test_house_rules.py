"""Where things live: key strings, Lua, environment variables, and how large a room may be."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source_tree import KIT, ROOT, SERVICES, Source, docstrings, sources

LONGEST = 400  # lines of one source file
OURS = [*sources(KIT), *sources(SERVICES)]
KEY = re.compile(r"\{[a-z_-]*\}:[a-z]")
# Settings rooms read the environment; the command line hands it on to the programs that it starts.
ALWAYS_HAS_ROOM = "#!lua flags=allow-oom"  # the first line of a script that a full Redis takes
READS_ENVIRONMENT = re.compile(
    r"/settings\.py$|/cli/|/testing/|/group_place\.py$"
)  # the last one is told a child's place
STARTS_AT_IMPORT = {
    "Redis",
    "from_url",
    "open_async",
    "open_sync",
    "ClientSession",
    "FastAPI",
    "make_app",
    "Celery",
}


@pytest.mark.parametrize("source", OURS, ids=lambda s: s.name)
def test_key_strings_stand_in_keys_only(source: Source) -> None:
    if source.name.endswith("streammesh/keys.py"):
        return
    docs = docstrings(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            assert not KEY.search(node.value), (
                f"{source.name}:{node.lineno}: a key string; give keys.py a method"
            )


@pytest.mark.parametrize("source", OURS, ids=lambda s: s.name)
def test_lua_stands_in_lua_files_only(source: Source) -> None:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "redis.call(" not in node.value, f"{source.name}:{node.lineno}: Lua belongs into lua/"


def test_only_what_brings_something_new_in_is_refused_by_a_full_redis() -> None:
    scripts = sorted((KIT / "lua").glob("[a-z]*.lua"))
    refused = {
        path.stem for path in scripts if not path.read_text("utf-8").startswith(f"{ALWAYS_HAS_ROOM}\n")
    }
    assert refused == {"publish_once", "create_api_key", "create_backfill", "write_chunks"}


@pytest.mark.parametrize("source", OURS, ids=lambda s: s.name)
def test_the_environment_is_read_in_settings_only(source: Source) -> None:
    if READS_ENVIRONMENT.search("/" + source.name):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
            raise AssertionError(f"{source.name}:{node.lineno} reads the environment")


@pytest.mark.parametrize("source", OURS, ids=lambda s: s.name)
def test_nothing_connects_at_import_time(source: Source) -> None:
    for statement in source.tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                assert called not in STARTS_AT_IMPORT, (
                    f"{source.name}:{node.lineno} calls {called} at import time"
                )


@pytest.mark.parametrize(
    "source", [*sources(KIT, tests=True), *sources(SERVICES, tests=True), *sources(ROOT / "tests", tests=True)],
    ids=lambda s: s.name,
)  # fmt: skip
def test_no_room_is_too_large(source: Source) -> None:
    lines = source.text.count("\n")
    assert lines <= LONGEST, f"{source.name} has {lines} lines; a room has one idea"


def test_every_service_has_the_same_rooms() -> None:
    for folder in sorted(p for p in SERVICES.iterdir() if (p / "__init__.py").exists()):
        for room in ("__main__.py", "settings.py", "requirements.txt", "tests"):
            assert (folder / room).exists(), f"services/{folder.name} has no {room}"


@pytest.mark.parametrize("source", OURS, ids=lambda s: s.name)
def test_public_things_say_what_they_promise(source: Source) -> None:
    assert ast.get_docstring(source.tree), f"{source.name} does not say what it is"
    for node in source.tree.body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{source.name}:{node.lineno}: {node.name} has no docstring"
