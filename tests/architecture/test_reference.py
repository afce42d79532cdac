"""The reference of the Python API and of the command is complete."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import pytest
import typer.main
from streammesh.cli.commands import COMMANDS, app

from deploy.reference import FIXTURES, MODULES, OTHERS, public_names
from tests.architecture.source_tree import ROOT

PYTHON = (ROOT / "docs" / "reference-python.md").read_text("utf-8")
COMMAND = (ROOT / "docs" / "reference-cli.md").read_text("utf-8")
RENEW = "run: python -m deploy.reference"


@pytest.mark.parametrize("module", [*MODULES, *OTHERS])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    section = PYTHON.partition(f"## {module}\n")[2].partition("\n## ")[0]
    missing = [name for name in public_names(module) if f"### {name}\n" not in section]
    assert missing == [], RENEW


@pytest.mark.parametrize("module", [*MODULES, *OTHERS])
def test_every_public_method_is_in_the_reference_also_those_of_a_base(module: str) -> None:
    section = PYTHON.partition(f"## {module}\n")[2].partition("\n## ")[0]
    missing = [
        f"{name}.{member}"
        for name in public_names(module)
        if inspect.isclass(found := getattr(import_module(module), name))
        for base in found.__mro__
        if base.__module__.startswith("streammesh")
        for member, value in vars(base).items()
        if not member.startswith("_") and inspect.isfunction(value) and value.__doc__
        if base is found or all(base.__name__ not in public_names(one) for one in MODULES)
        if f"\n- `{member}(" not in section.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    ]
    assert missing == [], RENEW


def test_every_fixture_is_in_the_reference() -> None:
    plugin = (ROOT / "shared/streammesh/testing/plugin.py").read_text("utf-8")
    found = set(re.findall(r"@(?:pytest\.fixture|async_fixture).*\n(?:async )?def (\w+)", plugin))
    assert found == set(FIXTURES)


def test_every_command_and_option_is_in_the_reference() -> None:
    root: Any = typer.main.get_command(app)
    missing: list[str] = []

    def look(path: str, command: Any) -> None:
        section = COMMAND.partition(f"## {path}\n")[2].partition("\n## ")[0]
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        missing.extend(
            f"{path} {name}" for name in options if name != "--help" and f"`{name}`" not in section
        )
        if f"## {path}\n" not in COMMAND:
            missing.append(path)
        for name, below in getattr(command, "commands", {}).items():
            look(f"{path} {name}", below)

    for name in COMMANDS:
        look(f"streammesh {name}", root.commands[name])
    assert missing == [], RENEW
