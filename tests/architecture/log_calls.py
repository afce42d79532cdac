"""Finds what is logged: every call of a logger in the source, with its event's name and its fields."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.architecture.source_tree import Source

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
NAME = re.compile(r"[a-z_]+\.[a-z_]+")
# Its name is that of the notification: `notifications.TASK_TYPES[state]`.
COMPUTED = {"settlement.py": "task.(?:succeeded|failed|cancelled|expired)"}


@dataclass(slots=True)
class Logged:
    """One event: at which levels, with which fields, in which files."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


def calls(source: Source) -> Iterator[tuple[str, ast.Call]]:
    """Yield the level and the call of each line that is logged."""
    if "structlog" not in source.text:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in LEVELS:
            if isinstance(called.value, ast.Name) and called.value.id in ("log", "logger"):
                yield called.attr, node
        elif isinstance(called, ast.Name) and called.id == "say" and node.args:
            yield "", node  # `say = log.error if … else log.warning`


def pattern(source: Source, event: ast.expr) -> str:
    """Return what the names of a call are like, as a regular expression. Raises AssertionError where nobody knows."""
    if isinstance(event, ast.Constant):
        return re.escape(str(event.value))
    if isinstance(event, ast.JoinedStr):
        parts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[a-z_]+" for p in event.values]
        return "".join(parts)
    assert source.path.name in COMPUTED, f"{source.path}:{event.lineno}: name the event in the call itself"
    return COMPUTED[source.path.name]


def logged(files: list[Source], known: set[str]) -> dict[str, Logged]:
    """Return every event that is logged, by name; of a computed name those of `known` that it may be."""
    found: dict[str, Logged] = defaultdict(Logged)
    for source in files:
        for level, call in calls(source):
            like = pattern(source, call.args[0])
            literal = isinstance(call.args[0], ast.Constant)
            names = [str(call.args[0].value)] if isinstance(call.args[0], ast.Constant) else []
            names = names if literal else sorted(name for name in known if re.fullmatch(like, name))
            assert names, f"{source.path}:{call.lineno}: no event of the catalogue is like {like}"
            for name in names:
                one = found[name]
                one.levels |= {level} - {""}
                one.fields |= {word.arg for word in call.keywords if word.arg} - {"exc_info"}
                one.files.add(source.path.name)
    return dict(found)
