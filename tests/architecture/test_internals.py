"""Private names of libraries are written in a room's `internals.py` and nowhere else, and are as that module says."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys

import pytest
from kombu.transport import redis as kombu_redis
from streammesh.errors import IncompatibleLibrary
from streammesh.redisio import internals as redis_internals
from streammesh.redisio.internals import Expected, require
from streammesh.transport import internals as transport_internals
from streammesh.worker import internals as worker_internals

from services.api import internals as api_internals
from tests.architecture.source_tree import EXAMPLES, KIT, ROOT, SERVICES, Source, sources
from tests.architecture.test_rooms import module_of

INTERNALS = (redis_internals, transport_internals, worker_internals, api_internals)
LIBRARIES = {"amqp", "billiard", "celery", "hiredis", "kombu", "redis", "uvicorn", "vine"}
OURS = [*sources(KIT), *sources(SERVICES), *sources(EXAMPLES)]
EXPECTED = [one for module in INTERNALS for one in (*module.EXPECTED, *getattr(module, "MORE", ()))]
THEIRS = {name for one in EXPECTED for name in (*one.methods, *one.attributes) if name.startswith("_")}
PYTHONS = {
    "_asdict",
    "_exit",
    "_fields",
    "_getframe",
    "_make",
    "_replace",
    "_xoptions",
}  # documented, whatever they look like
UNSEEN = {  # what is set on objects from outside of their classes, where nothing can be looked at before
    "_payload",
    "_quick_put",
    "_state",
    "_parsers",
}
ASKING = {"getattr", "setattr", "hasattr", "delattr"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(source: Source) -> set[str]:
    """Every private name that a file defines: functions, attributes that it sets, variables."""
    found = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


OWN = set().union(*(defined(source) for source in OURS if source.path.name != "internals.py"))


def brings_in(source: Source) -> bool:
    """Whether a file imports one of the libraries, or a module that gives it a name of theirs."""
    return any(
        one.module.partition(".")[0] in LIBRARIES or one.module.endswith(".internals")
        for one in source.imports()
    )


def foreign(source: Source) -> list[tuple[int, str]]:
    """Private names in a file that belong to nothing of ours, with their lines."""
    found, own = [], defined(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in PYTHONS:
            on_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr not in OWN or (node.attr in THEIRS and not (on_self and node.attr in own)):
                found.append((node.lineno, node.attr))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
            words = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, word) for word in words if is_private(word)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ASKING:
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            found += [(node.lineno, str(text)) for text in texts if text in THEIRS]
    return found


@pytest.mark.parametrize(
    "source", [one for one in OURS if one.path.name != "internals.py"], ids=lambda one: one.name
)
def test_no_private_name_of_a_library_is_written_outside_of_internals(source: Source) -> None:
    found = foreign(source)
    assert not found, f"{source.name}:{found[0][0]}: {found[0][1]} is a library's; name it in internals.py"


def test_no_class_outside_of_internals_replaces_what_is_private_to_a_library() -> None:
    names = {module_of(s, KIT.parent if s.path.is_relative_to(KIT) else ROOT) for s in OURS if brings_in(s)}
    for name in sorted(names - {module.__name__ for module in INTERNALS}):
        if not name.endswith("__main__"):
            module = importlib.import_module(name)
            for kind in (one for one in vars(module).values() if isinstance(one, type)):
                if kind.__module__ != module.__name__:
                    continue
                theirs = [base for base in kind.__mro__ if base.__module__.partition(".")[0] in LIBRARIES]
                replaced = [n for n in vars(kind) if is_private(n) and any(n in vars(b) for b in theirs)]
                assert not replaced, (
                    f"{module.__name__}.{kind.__name__} replaces {replaced}; see internals.py"
                )


@pytest.mark.parametrize("module", INTERNALS, ids=lambda one: one.__name__)
def test_the_installed_libraries_are_as_they_are_needed(module: object) -> None:
    module.check()  # type: ignore[attr-defined]
    require(getattr(module, "MORE", ()))


def test_every_private_name_in_internals_is_looked_at_at_start() -> None:
    for module in INTERNALS:
        source = Source(path := KIT.parent / f"{module.__name__.replace('.', '/')}.py", "")
        if not path.exists():
            source = Source(ROOT / f"{module.__name__.replace('.', '/')}.py", "")
        used = {name for _, name in foreign(source)} - THEIRS - UNSEEN - defined(source)
        assert not used, f"{module.__name__} uses {sorted(used)} and does not look whether they are there"


def test_a_name_that_is_gone_or_takes_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kombu_redis.Channel, "_brpop_start")
    monkeypatch.setattr(kombu_redis.Transport, "_deliver", lambda self, message, queue, extra: None)
    monkeypatch.delattr(kombu_redis.Channel, "_in_poll")

    with pytest.raises(IncompatibleLibrary, match=r"kombu [\d.]+ is not as the mesh needs it") as raised:
        require(transport_internals.EXPECTED)

    assert "kombu.transport.redis.Channel has no method _brpop_start" in str(raised.value)
    assert "Transport._deliver takes (message, queue, extra), not (message, queue)" in str(raised.value)
    assert "Install kombu[redis]" in str(raised.value)


def test_a_module_or_class_that_is_gone_is_said() -> None:
    assert Expected("redis.gone:Thing").differences() == ["there is no redis.gone:Thing"]
    assert Expected("redis:Thing").differences() == ["there is no redis:Thing"]
    assert Expected("redis:Connection", {}, ("_gone",)).differences() == ["redis:Connection has no _gone"]


def test_what_takes_something_optional_besides_is_good() -> None:
    assert not Expected("kombu:Connection", {"_ensure_connection": ("errback",)}).differences()


def test_a_worker_does_not_start_where_celery_keeps_current_tasks_elsewhere() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.probe"],
        cwd=ROOT, env={**os.environ, "USE_FAST_LOCALS": "1"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "USE_FAST_LOCALS is set: Celery then keeps current tasks where the mesh does not find them. Unset it"
    ]
