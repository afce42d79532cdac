"""What a script takes is declared once, by name: its Lua text counts no positions, and its header explains each name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streammesh import names
from streammesh.lua import DECLARED
from streammesh.lua.signature import SCALARS, Arguments, Field, FieldKind, fields

from tests.architecture.source_tree import KIT, SERVICES, sources
from tests.architecture.test_house_rules import ALWAYS_HAS_ROOM

PARTS = sorted((KIT / "lua").glob("_*.lua"))
SCRIPTS = sorted((KIT / "lua").glob("[a-z]*.lua"))
POSITION = re.compile(r"\b(KEYS|ARGV)\s*\[")
ITEM = re.compile(r"(\w+)(?: \((.*)\))?")
KEY_TYPES = re.compile(r"(HASH|STREAM|ZSET|SET|STRING|ANY)\b")
CALLERS = [
    source
    for source in (*sources(KIT), *sources(SERVICES))
    if source.path.parent != KIT / "lua" or source.path.name == "__init__.py"
]


def declarations() -> dict[str, list[type[Arguments]]]:
    found: dict[str, list[type[Arguments]]] = {}
    for module in DECLARED:
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Arguments) and one.__module__ == module.__name__:
                found.setdefault(one.script_name, []).append(one)
    return found


def header(path: Path) -> list[str]:
    """The lines of the contract, those that go on with one joined to it."""
    lines: list[str] = []
    for line in path.read_text("utf-8").removeprefix(f"{ALWAYS_HAS_ROOM}\n").splitlines():
        if not line.startswith("-- "):
            break
        if line.startswith("--   "):
            lines[-1] += f" {line[5:]}"
        else:
            lines.append(line[3:])
    return lines


def items(text: str) -> dict[str, str]:
    """name -> what stands in brackets after it, from `name, name (about it, and more)`."""
    found, depth, start = {}, 0, 0
    for at, letter in enumerate(f"{text},"):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            match = ITEM.fullmatch(text[start:at].strip())
            assert match, f"{text[start:at]!r} is no name with its explanation in brackets"
            found[match[1]] = match[2] or ""
            start = at + 1
    return found


def explained(
    lines: list[str],
) -> tuple[dict[str, str], dict[str, str], dict[str, tuple[dict[str, str], dict[str, str]]]]:
    """The keys, the arguments and the records that a header explains."""
    keys: dict[str, str] = {}
    args: dict[str, str] = {}
    records = {}
    for line in lines:
        if match := re.fullmatch(r"KEYS (.*)", line):
            keys = items(match[1])
        elif match := re.fullmatch(r"ARGS (.*)", line):
            args = items(match[1])
        elif match := re.fullmatch(r"([a-z_.]+): (?:KEYS (.*?))?\s?(?:ARGS (.*))?", line):
            records[match[1]] = (items(match[2]) if match[2] else {}, items(match[3]) if match[3] else {})
    return keys, args, records


def split(own: tuple[Field, ...]) -> tuple[list[str], list[str]]:
    keys = [one.name for one in own if one.kind in (FieldKind.KEY, FieldKind.WRITTEN, FieldKind.KEYS)]
    others = [one.name for one in own if one.kind in (*SCALARS, FieldKind.TEXTS)]
    return keys, [name for name in others if name not in keys]


def records_of(own: tuple[Field, ...], prefix: str = "") -> dict[str, tuple[Field, ...]]:
    found: dict[str, tuple[Field, ...]] = {}
    for one in own:
        if one.record is not None:
            inner = fields(one.record)
            found |= {f"{prefix}{one.name}": inner, **records_of(inner, f"{prefix}{one.name}.")}
    return found


@pytest.mark.parametrize("path", [*PARTS, *SCRIPTS], ids=lambda p: p.stem)
def test_no_script_counts_positions(path: Path) -> None:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        assert not POSITION.search(line), (
            f"{path.name}:{number} counts; declare a name in the modules beside it"
        )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_the_header_of_a_script_explains_what_is_declared_and_nothing_else(path: Path) -> None:
    declared = declarations().get(path.stem, [])
    assert len(declared) == 1, f"{path.name} is declared {len(declared)} times in the modules beside it"
    own = fields(declared[0])
    keys, args, records = explained(header(path))
    assert (list(keys), list(args)) == split(own), f"{path.name}: its header explains other names"
    inner = records_of(own)
    assert list(records) == list(inner), f"{path.name}: its header explains other records"
    for name, (its_keys, its_args) in records.items():
        assert (list(its_keys), list(its_args)) == split(inner[name]), f"{path.name}: {name} has other names"
        keys = keys | its_keys
    for name, about in keys.items():
        assert KEY_TYPES.match(about), f"{path.name}: of which type is {name}?"


@pytest.mark.parametrize("path", [*PARTS, *SCRIPTS], ids=lambda p: p.stem)
def test_every_script_says_what_it_does_and_returns(path: Path) -> None:
    lines = header(path)
    assert lines, f"{path.name} begins without saying what it does"
    if path in SCRIPTS:
        assert any("Returns" in line for line in lines), (
            f"{path.name}: the header does not say what it returns"
        )


def test_every_declaration_has_its_script() -> None:
    assert set(declarations()) == {path.stem for path in SCRIPTS}


def test_every_script_has_one_typed_caller() -> None:
    for name, [declared] in declarations().items():
        used = re.compile(rf"\b{declared.__name__}\(")
        callers = [source.name for source in CALLERS if used.search(source.text)]
        assert len(callers) == 1, f"{name}.lua is called by {callers or 'nobody'}"


def test_no_caller_goes_round_the_declarations() -> None:
    made = re.compile(r"\blua\.(Call|Common)\(|\blua\.script\(|(?<!class )\b(Call|Common)\(")
    for source in CALLERS:
        if "/tasks/" in source.name or source.path.name == "open_tasks.py":
            continue
        assert not made.search(source.text), f"{source.name} counts positions of a script"


def test_scripts_and_kit_agree_in_which_states_a_task_has_ended() -> None:
    said = re.findall(r"(\w+) = true", (KIT / "lua" / "_states.lua").read_text("utf-8"))
    assert sorted(said) == sorted(names.ENDED)
