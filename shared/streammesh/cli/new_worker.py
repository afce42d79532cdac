"""`streammesh new-worker`: a folder that runs and passes its tests, to begin with."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from streammesh import __version__, names
from streammesh.cli.api_call import REFUSED, WRONG_USE, fail
from streammesh.errors import MeshError

# What Python, the mesh or its libraries are called, and what says nothing: `make check` would refuse such a module.
TAKEN = {"streammesh", "services", "tests", "default", "celery", "redis", "logging"}
TAKEN |= {"utils", "helpers", "common", "misc"}
TEMPLATE = Path(__file__).with_name("worker_template")
REPOSITORY = Path(__file__).with_name("repository_template")
SUFFIX = ".tmpl"


class CannotMake(MeshError):
    """There is something in the way; nothing was written."""


def new_worker(
    name: Annotated[str, typer.Argument(help="Such as billing_worker: the folder, the service, its queue.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where it is made; else services/, or here with --standalone.")
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="As a repository of its own: pyproject, Dockerfile, CI.")
    ] = False,
) -> None:
    """Make the folder of a new worker: it runs, and its tests pass."""
    if keyword.iskeyword(name) or name in TAKEN:
        fail(f"{name!r} means something else already; say what it is for, as in {name}_worker", WRONG_USE)
    if not names.SERVICE.match(name) or not name.isidentifier():
        fail(f"{name!r}: use lower-case letters, digits and _, starting with a letter", WRONG_USE)
    folder = folder or Path("." if standalone else "services")
    try:
        written = write_repository(name, folder) if standalone else write_worker(name, folder)
    except CannotMake as error:
        fail(error, REFUSED)
    for path in written:
        typer.echo(path)
    if standalone:
        typer.echo(f"next: cd {folder / name} && pip install -e '.[dev]' && python -m pytest")
        return
    typer.echo(f"next: python -m pytest {folder / name}, then edit {folder / name / 'handlers.py'}")
    typer.echo(f"with Compose: add `-f {folder / name / 'compose.yml'}`, or put it into COMPOSE_FILE in .env")


def write_worker(name: str, folder: Path) -> list[Path]:
    """Write the folder `name` below `folder`; answers the files. Raises CannotMake."""
    home = _new_folder(name, folder)
    words = _words(name)
    return [_write(source, home / _place(source, TEMPLATE), words) for source in _templates(TEMPLATE)]


def write_repository(name: str, folder: Path) -> list[Path]:
    """Write a repository `name` below `folder`, its package of the same name in it; answers the files. Raises CannotMake."""
    home = _new_folder(name, folder)
    words = _words(name)
    package = [path for path in _templates(TEMPLATE) if path.parent == TEMPLATE and path.stem.endswith(".py")]
    written = [
        _write(source, home / name / _place(source, TEMPLATE), words, "services.") for source in package
    ]
    return [
        *written,
        *(_write(source, home / _place(source, REPOSITORY), words) for source in _templates(REPOSITORY)),
    ]


def _new_folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise CannotMake(f"there is no folder {folder}; go to the repository, or name it with --folder")
    if (folder / name).exists():
        raise CannotMake(f"{folder / name} is there already")
    return folder / name


def _templates(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def _place(source: Path, template: Path) -> Path:
    return source.relative_to(template).with_name(source.name.removesuffix(SUFFIX))


def _write(source: Path, target: Path, words: dict[str, str], without: str = "") -> Path:
    """Write one file from its template, which does not say `without` then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text("utf-8")
    target.write_text(Template(text.replace(without, "") if without else text).substitute(words), "utf-8")
    return target


def _words(service: str) -> dict[str, str]:
    """What the template calls the worker: `billing_worker` has the domain `billing` and the prefix `BILLING`."""
    stem = service.removesuffix("_worker")
    major, minor, _ = __version__.split(".", 2)
    return {
        "dashed": service.replace("_", "-"),
        "minor": f"{major}.{minor}",
        "next_minor": f"{major}.{int(minor) + 1}",
        "service": service,
        "domain": stem,
        "prefix": stem.upper(),
        "name": "".join(part.capitalize() for part in stem.split("_")),
    }
