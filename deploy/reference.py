"""Writes the reference of the Python API and of the command: `python -m deploy.reference` renews docs/reference-*.md."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import typer.main
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from streammesh.cli.commands import COMMANDS, app

DOCS = Path(__file__).parents[1] / "docs"
MODULES = ("streammesh", "streammesh.client", "streammesh.testing")
OTHERS = {  # public, and not in the package's own `__all__`
    "streammesh.settings": ("load_settings",),
    "streammesh.clock": ("ManualClock",),
}
FIXTURES = (
    "mesh",
    "mesh_environment",
    "mesh_server",
    "mesh_settings",
    "mesh_keys",
    "mesh_redis",
    "mesh_redis_sync",
    "mesh_start",
)
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def public_names(module: str) -> list[str]:
    """What a module says is public."""
    return sorted(OTHERS.get(module) or importlib.import_module(module).__all__)


def python_page() -> str:
    """Return `docs/reference-python.md`."""
    out = [
        "# Python API",
        "",
        "Made by `python -m deploy.reference` from the docstrings; a test looks that nothing public is missing.",
        "",
    ]
    for module in (*MODULES, *OTHERS):
        loaded = importlib.import_module(module)
        out += [f"## {module}", ""]
        for name in public_names(module):
            out += _entry(name, getattr(loaded, name))
    out += ["## Fixtures of the pytest plugin", ""]
    plugin = importlib.import_module("streammesh.testing.plugin")
    for name in FIXTURES:
        found = getattr(plugin, name)
        out += [f"### {name}", "", *_text(getattr(found, "__wrapped__", found)), ""]
    return "\n".join(out).rstrip() + "\n"


def _entry(name: str, found: Any) -> list[str]:
    out = [f"### {name}", ""]
    if inspect.isclass(found):
        out += [*_signature(name, found), *_text(found), ""]
        for member, value in sorted(_members(found).items()):
            if member.startswith("_") or (
                not callable(value) and not isinstance(value, property | classmethod | staticmethod)
            ):
                continue
            text = _text(value.fget if isinstance(value, property) else value)
            if text:
                shown = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                head = f"`{member}`" if isinstance(value, property) else f"`{member}{_arguments(shown)}`"
                out += [f"- {head}", *(f"  {line}".rstrip() for line in ("", *text, ""))]
        return out
    if callable(found):
        return [*out, *_signature(name, found), *_text(found), ""]
    return [*out, f"`{ADDRESS.sub('', repr(found))[:200]}`", ""]


def _members(found: type) -> dict[str, Any]:
    """Those of a class, and of the kit's own bases that have no entry of their own."""
    documented = {
        getattr(importlib.import_module(module), name) for module in MODULES for name in public_names(module)
    }
    members: dict[str, Any] = {}
    for one in reversed(found.__mro__):
        if one is found or (one.__module__.startswith("streammesh.") and one not in documented):
            members |= vars(one)
    return members


def _signature(name: str, found: Any) -> list[str]:
    if isinstance(found, type) and issubclass(found, BaseSettings):
        prefix = found.model_config.get("env_prefix", "")
        rows = (
            f"| `{field}` | `{prefix}{field}`".upper().replace(field.upper(), field, 1)
            + f" | {_default(about)} |"
            for field, about in found.model_fields.items()
        )
        return ["| field | variable | default |", "|---|---|---|", *rows, ""]
    return ["```py", f"{name}{_arguments(found)}", "```", ""]


def _default(about: FieldInfo) -> str:
    if about.is_required():
        return "must be given"
    value = about.get_default(call_default_factory=True, validated_data={})
    return f"`{value}`" if value not in (None, "") else ""


class _Bare(str):
    """An annotation, printed as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _arguments(found: Any) -> str:
    def bare(annotation: Any) -> Any:
        return _Bare(annotation) if isinstance(annotation, str) else annotation

    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):
        return "(...)"
    parameters = [one.replace(annotation=bare(one.annotation)) for one in signature.parameters.values()]
    shown = signature.replace(parameters=parameters, return_annotation=bare(signature.return_annotation))
    return ADDRESS.sub("", str(shown))


def _text(found: Any) -> list[str]:
    return (inspect.getdoc(found) or "").splitlines()


def command_page() -> str:
    """Return `docs/reference-cli.md`."""
    out = [
        "# The streammesh command",
        "",
        "Made by `python -m deploy.reference` from `--help`; a test looks that no command and no option is missing.",
        "",
    ]
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        out += _command(f"streammesh {name}", root.commands[name])
    return "\n".join(out).rstrip() + "\n"


def _command(path: str, command: Any) -> list[str]:
    out = [f"## {path}", "", *inspect.cleandoc(command.help or "").splitlines(), ""]
    rows = []
    for parameter in command.params:
        names = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.make_metavar(command.make_context(path, [], resilient_parsing=True))}`"
        if "--help" not in parameter.opts:
            rows.append(f"| {names} | {(parameter.help or '').replace('|', '/')} |")
    if rows:
        out += ["| | |", "|---|---|", *rows, ""]
    for name, below in getattr(command, "commands", {}).items():
        out += _command(f"{path} {name}", below)
    return out


def main() -> None:
    """The command."""
    (DOCS / "reference-python.md").write_text(python_page(), "utf-8")
    (DOCS / "reference-cli.md").write_text(command_page(), "utf-8")


if __name__ == "__main__":
    main()
