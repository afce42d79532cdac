"""The blocks of the documentation: each command can be given as it stands, each JSON, YAML, TOML and Python is one."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
import typer.main
import yaml
from _pytest.mark import ParameterSet
from celery.bin.celery import celery as celery_command
from streammesh.cli.commands import app

from tests.architecture.source_tree import ROOT
from tests.architecture.test_docs import PAGES

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = {"", "sh", "console"}
TOOLS = ("streammesh", ".venv/bin/streammesh", "make", "python", "docker", "celery", "cp")
WRONG_USE: Any = typer.BadParameter.__mro__[1]  # UsageError of the click that typer brings with it
END_OF_COMMAND = {"|", "||", "&&", ";", ">", "2>"}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
COMPOSE_COMMANDS = {"up", "run", "stop", "cp", "exec", "logs", "ps", "restart", "build", "down", "config"}


def blocks(kinds: set[str]) -> list[ParameterSet]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[2] in kinds:
                line = text.count("\n", 0, match.start()) + 1
                body = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
                found.append(pytest.param(text, body, id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def commands(block: str) -> Iterator[list[str]]:
    """Yield the commands of a block, as their words; of what a command prints, nothing."""
    lines = iter(block.splitlines())
    for line in lines:
        told = line.removeprefix("$ ").strip()
        if not told.startswith(tuple(f"{tool} " for tool in TOOLS)):
            continue
        while True:
            lexer = shlex.shlex(told.replace("\\\n", " "), posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            try:
                words = list(lexer)
            except ValueError:  # a quotation that goes on in the next line
                told += "\n" + next(lines)
                continue
            if not told.endswith("\\"):
                break
            told += "\n" + next(lines)
        end = next((i for i, word in enumerate(words) if word in END_OF_COMMAND), len(words))
        yield words[:end]


def streammesh(words: list[str], page: str) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest, f"`{' '.join(words)}` is half a command"
        below = command.commands.get(rest[0])
        assert below is not None, f"there is no `streammesh {rest[0]}`"
        command, rest = below, rest[1:]
    try:
        command.make_context(words[0], list(rest))
    except WRONG_USE as error:
        raise AssertionError(f"`{' '.join(words)}`: {error}") from None


def make(words: list[str], page: str) -> None:
    for target in [word for word in words[1:] if "=" not in word and not word.startswith("-")]:
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
        assert recipe, f"there is no target {target}"
        arguments = next((word[5:] for word in words if word.startswith("ARGS=")), "")
        module = re.search(r"-m (tests\.\w+|benchmarks)", recipe[1])
        if arguments and module:
            source = (ROOT / module[1].replace(".", "/") / "__main__.py").read_text("utf-8")
            for option in re.findall(r"--[\w-]+", arguments):
                assert f'"{option}"' in source, f"{module[1]} has no option {option}"


def python(words: list[str], page: str) -> None:
    if len(words) < 3 or words[1] != "-m":
        return
    _module(words[2], page)


def celery(words: list[str], page: str) -> None:
    assert words[1] == "-A"
    _module(words[2].partition(":")[0], page)
    assert words[3] in celery_command.commands, f"celery has no command {words[3]}"


def docker(words: list[str], page: str) -> None:
    if words[1] != "compose":
        return
    rest = words[2:]
    while rest[0].startswith("-"):
        assert rest[0] == "-f", rest[0]
        assert "…" in rest[1] or (ROOT / rest[1]).is_file(), f"there is no {rest[1]}"
        rest = rest[2:]
    command, rest = rest[0], rest[1:]
    assert command in COMPOSE_COMMANDS, command
    scaled = re.findall(r"--scale[ =](\w+)=", " ".join(rest))
    plain = [word for word in rest if not word.startswith("-") and "=" not in word]
    named = {"run": plain[:1], "exec": plain[:1], "cp": [w.partition(":")[0] for w in plain if ":" in w]}
    for service in [*scaled, *named.get(command, plain if command != "up" else [])]:
        assert service in COMPOSE, f"docker-compose.yml has no service {service}"
    if command == "run" and plain[:1] == ["tools"]:
        streammesh(["streammesh", *rest[rest.index("tools") + 1 :]], page)


def cp(words: list[str], page: str) -> None:
    for source in words[1:-1]:
        if not source.startswith("-") and "$" not in source:
            assert (ROOT / source).exists(), f"there is no {source}"


CHECKS: dict[str, Callable[[list[str], str], None]] = {
    "streammesh": streammesh, ".venv/bin/streammesh": streammesh, "make": make,
    "python": python, "docker": docker, "celery": celery, "cp": cp,
}  # fmt: skip


def _module(name: str, page: str) -> None:
    """Assert that there is such a module, or that the page itself has it made."""
    top, _, rest = name.partition(".")
    service = rest.partition(".")[0]
    if top == "services" and re.search(rf"(?:services|examples)/{service}\b|new-worker {service}\b", page):
        return
    assert importlib.util.find_spec(name) is not None, f"there is no module {name}"


@pytest.mark.parametrize(("page", "block"), blocks(SHELL))
def test_commands_can_be_given_as_they_stand(page: str, block: str) -> None:
    for words in commands(block):
        CHECKS[words[0]](words, page)


@pytest.mark.parametrize(("page", "block"), blocks({"json"}))
def test_json_is_json(page: str, block: str) -> None:
    json.loads(block)


@pytest.mark.parametrize(("page", "block"), blocks({"python"}))
def test_python_can_be_compiled(page: str, block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize(("page", "block"), blocks({"yaml"}))
def test_yaml_is_yaml(page: str, block: str) -> None:
    assert yaml.safe_load(block)


@pytest.mark.parametrize(("page", "block"), blocks({"toml"}))
def test_toml_is_toml(page: str, block: str) -> None:
    assert tomllib.loads(block)


@pytest.mark.parametrize(
    "line",
    [
        "streammesh wach",
        "streammesh dead replay --speed 3",
        "streammesh publish",
        "make fault",
        'make faults ARGS="--slow"',
        "python -m services.nobody",
        "docker compose run --rm tool keys list",
        "docker compose -f deploy/compose/nothing.yml up",
        "celery -A services.scheduler.handlers:celery_app bet",
    ],
)
def test_what_cannot_be_given_is_found(line: str) -> None:
    [words] = commands(f"$ {line}")
    with pytest.raises(AssertionError):
        CHECKS[words[0]](words, "")
