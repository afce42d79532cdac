"""Names: modules are nouns of the field, and a class's name stands for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.architecture.source_tree import EXAMPLES, KIT, ROOT, SERVICES, Source, sources

# A team's worker, which brings a compose.yml of its own, is called as the team likes, and has its own view of events.
TEAMS = {path.parent for path in SERVICES.glob("*/compose.yml")}
OURS = [
    *sources(KIT),
    *(one for one in sources(SERVICES) if not TEAMS & set(one.path.parents)),
    *sources(EXAMPLES),
]
NOUNS = {"settings", "testing", "text_encoding", "findings"}  # end as gerunds do, and are nouns
# Celery finds a pool's class by this name in the module that the pool is called by.
FOREIGN = {"TaskPool"}


def gerunds(files: list[Source]) -> set[str]:
    """Return the modules, and their folders, whose last word ends as a gerund does."""
    found = set()
    for source in files:
        for part in (source.path.stem, source.path.parent.name):
            if part.endswith(("ing", "ings")) and part not in NOUNS:
                found.add(source.name)
    return found


def classes(files: list[Source]) -> dict[str, list[str]]:
    """Return where each class's name is given, of those that are given more than once."""
    found = defaultdict(list)
    for source in files:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and node.name not in FOREIGN:
                found[node.name].append(f"{source.name}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


def test_modules_are_named_by_nouns() -> None:
    assert not gerunds(OURS), "name what it is, not what it does; the glossary has the field's words"


def test_a_class_name_stands_for_one_thing() -> None:
    assert not classes(OURS), "two things of one name: the reader has to guess which is meant"


def test_gerunds_and_doubles_are_found() -> None:
    files = [Source(ROOT / "mail" / "sending.py", ""), Source(ROOT / "mail" / "sender.py", "")]
    assert gerunds(files) == {"mail/sending.py"}
    assert classes([*OURS[:20], *OURS[:20]])
