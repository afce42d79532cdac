"""`streammesh new-worker`: a folder that runs and passes its tests, to begin with."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from streammesh import names
from streammesh.cli.api_call import REFUSED, WRONG_USE, fail
from streammesh.errors import MeshError

# What Python, the mesh or its libraries are called, and what says nothing: `make check` would refuse such a module.
TAKEN = {"streammesh", "services", "tests", "default", "celery", "redis", "logging"}
TAKEN |= {"utils", "helpers", "common", "misc"}
TEMPLATE = Path(__file__).with_name("worker_template")
SUFFIX = ".tmpl"


class CannotMake(MeshError):
    """There is something in the way; nothing was written."""


def new_worker(
    name: Annotated[str, typer.Argument(help="Such as billing_worker: the folder, the service, its queue.")],
    folder: Annotated[Path, typer.Option(help="Where the services are.")] = Path("services"),
) -> None:
    """Make the folder of a new worker: it runs, and its tests pass."""
    if keyword.iskeyword(name) or name in TAKEN:
        fail(f"{name!r} means something else already; say what it is for, as in {name}_worker", WRONG_USE)
    if not names.SERVICE.match(name) or not name.isidentifier():
        fail(f"{name!r}: use lower-case letters, digits and _, starting with a letter", WRONG_USE)
    try:
        written = write_worker(name, folder)
    except CannotMake as error:
        fail(error, REFUSED)
    for path in written:
        typer.echo(path)
    typer.echo(f"next: python -m pytest {folder / name}, then edit {folder / name / 'handlers.py'}")
    typer.echo(f"with Compose: add `-f {folder / name / 'compose.yml'}`, or put it into COMPOSE_FILE in .env")


def write_worker(name: str, folder: Path) -> list[Path]:
    """Write the folder `name` below `folder`; answers the files. Raises CannotMake."""
    home = folder / name
    if not folder.is_dir():
        raise CannotMake(f"there is no folder {folder}; go to the repository, or name it with --folder")
    if home.exists():
        raise CannotMake(f"{home} is there already")
    words = _words(name)
    written = []
    for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        target = home / source.relative_to(TEMPLATE).with_name(source.name.removesuffix(SUFFIX))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text("utf-8")).substitute(words), "utf-8")
        written.append(target)
    return written


def _words(service: str) -> dict[str, str]:
    """What the template calls the worker: `billing_worker` has the domain `billing` and the prefix `BILLING`."""
    stem = service.removesuffix("_worker")
    return {
        "service": service,
        "domain": stem,
        "prefix": stem.upper(),
        "name": "".join(part.capitalize() for part in stem.split("_")),
    }
