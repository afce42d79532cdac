"""`streammesh check`: what would be refused when a worker joins, told before it does."""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh import names
from streammesh.cli.api_call import REFUSED, Json, Key, ask, print_json
from streammesh.cli.found_programs import NothingToRun, find_workers
from streammesh.cli.terminal import console, plain, short
from streammesh.errors import InvalidManifest

if TYPE_CHECKING:
    from streammesh.client import MeshClient
    from streammesh.service import Service

ROOMS = ("__init__.py", "__main__.py", "settings.py", "handlers.py", "requirements.txt", "tests")


@dataclass(slots=True)
class Checked:
    """What was found about one worker. With no `problems` it may join."""

    service: str
    problems: list[str] = field(default_factory=list)
    pool: str | None = None
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    publishes: dict[str, Any] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(
    name: Annotated[str, typer.Argument(help="A worker of this folder: in services/, a package, or a file.")],
    json: Json = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The API of a mesh: tell what it would break there, too."),
    ] = None,
    key: Key = None,
) -> None:
    """Tell what would be refused when a worker joins: services/NAME, or one of a repository of its own. Exit code 1 then.

    Imports its handlers, and needs no mesh. With --against it asks one what its others publish and read: a member
    that is required and not published any more, a type that became narrower. 1: it would break something; 3: the
    API cannot be reached.
    """
    found = check_worker(name, Path.cwd())
    if against and not found.problems:
        _look_at_others(found, against, key)
    if json:
        print_json(asdict(found))
    else:
        _show(found)
    if found.problems or found.breaks:
        raise typer.Exit(REFUSED)


def _look_at_others(found: Checked, url: str, key: str | None) -> None:
    from streammesh.compatibility.gate import against
    from streammesh.subscriptions.manifest import Manifest, Subscription

    async def work(mesh: MeshClient) -> tuple[dict[str, Any], dict[str, Any]]:
        return await mesh.get("/v1/manifests"), await mesh.get("/v1/key")

    def manifest(service: str, told: list[dict[str, Any]], publishes: dict[str, Any]) -> Manifest:
        wanted = tuple(
            Subscription(
                service,
                one["task"],
                one["type"],
                one["where"],
                formerly=one.get("formerly") or (),
                version=one.get("version", 1),
            )
            for one in told
        )
        steps = {one["task"]: one["steps"] for one in told if one.get("steps")}
        schemas = {one["task"]: one["schema"] for one in told if one["schema"]}
        return Manifest(service, subscriptions=wanted, schemas=schemas, publishes=publishes, steps=steps)

    answer, own_key = ask(url, key, work)
    known = [manifest(one["service"], one["subscriptions"], one["publishes"]) for one in answer["manifests"]]
    gate = against(manifest(found.service, found.subscriptions, found.publishes), known)
    found.breaks, found.warnings = gate.breaks, gate.warnings
    if own_key["role"] == "limited":
        found.warnings.append(
            f"the key {own_key['name']!r} may not read every type: the others were not compared"
        )


def check_worker(name: str, root: Path) -> Checked:
    """Look at `services/<name>` below `root`, and import its handlers."""
    found = Checked(name)
    home = root / "services" / name
    if not home.is_dir() and (own := _of_its_own(name, root)):
        module, path = own
        _look_at_service(found, path, module)
        return found
    if not names.SERVICE.match(name):
        found.problems.append(f"{name!r}: use lower-case letters, digits and _, starting with a letter")
        return found
    if not home.is_dir():
        found.problems.append(_no_worker(name, root))
        return found
    found.problems += [f"services/{name}/{room} is missing" for room in ROOMS if not (home / room).exists()]
    found.problems += _foreign_imports(home)
    found.problems += _requirements(home)
    if (home / "handlers.py").exists():
        _look_at_service(found, root, f"services.{name}.handlers")
    return found


def _of_its_own(name: str, root: Path) -> tuple[str, Path] | None:
    """Return the module of a worker outside of services/, and the folder that it is imported from."""
    if name.endswith(".py") and (root / name).is_file():
        return Path(name).stem, (root / name).parent
    try:
        worker = next((one for one in find_workers(root) if name in (one.name, one.module)), None)
    except NothingToRun:
        return None
    if worker is None:
        return None
    has_room = (worker.path / worker.module.replace(".", "/") / "handlers.py").is_file()
    return f"{worker.module}.handlers" if has_room else worker.module, worker.path


def _no_worker(name: str, root: Path) -> str:
    """Say that there is no worker of a name, and which there are."""
    try:
        here = [one.name for one in find_workers(root)]
    except NothingToRun as error:
        return str(error)
    if (root / f"{name}.py").is_file():
        return f"there is no folder services/{name}; for the file say: streammesh check {name}.py"
    known = f"the workers here are {', '.join(here)}" if here else "no worker is here"
    return f"there is no folder services/{name} and no package {name}; {known}"


def _look_at_service(found: Checked, root: Path, module: str) -> None:
    service = _import(found, root, module)
    if service is None:
        return
    if not module.startswith("services."):
        found.service = service.name
    if service.name != found.service:
        found.problems.append(
            f"{_file(module)}: Service({service.name!r}) stands in the folder {found.service!r}; call both the same"
        )
    from streammesh.subscriptions.manifest import Manifest

    manifest = service.manifest()
    try:
        Manifest.from_json(manifest.to_json())  # as the mesh will store and read it
    except (InvalidManifest, TypeError) as error:
        found.problems.append(f"its manifest: {error}")
    if not manifest.subscriptions:
        found.problems.append(
            f"{_file(module)}: it subscribes to nothing; decorate a handler with @service.on(TYPE)"
        )
    found.pool, found.publishes = service.pool, dict(manifest.publishes)
    found.subscriptions = [
        {
            **asdict(subscription),
            "schema": manifest.schemas.get(subscription.task),
            "steps": list(manifest.steps.get(subscription.task, ())),
        }
        for subscription in manifest.subscriptions
    ]


def _import(found: Checked, root: Path, name: str) -> Service | None:
    from streammesh.service import Service
    from streammesh.subscriptions.declaration import InvalidHandler

    home, file = root.joinpath(*name.split(".")[:-1]), _file(name)
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(name)
    except SystemExit as error:
        where = _last_line_in(error, home, file)
        found.problems.append(
            f"{where}: it ends the process (exit code {error.code}) when it is imported; read settings at first use"
        )
        return None
    except InvalidHandler as error:
        found.problems.append(str(error))  # it begins with its file and line
        return None
    except Exception as error:  # whatever a team's module may raise
        where = _last_line_in(error, home, file)
        found.problems.append(f"{where}: {type(error).__name__}: {error}")
        return None
    finally:
        sys.path.remove(str(root))
    service = getattr(module, "service", None)
    if not isinstance(service, Service):
        others = [called for called, value in vars(module).items() if isinstance(value, Service)]
        if others:
            said = f"its Service should be called `service`, and is called {', '.join(others)}"
        else:
            said = f'there is no `service = Service("{found.service.removesuffix(".py")}")`'
        found.problems.append(f"{file}: {said}")
        return None
    return service


def _file(module: str) -> str:
    return f"{module.rpartition('.')[2]}.py"


def _last_line_in(error: BaseException, home: Path, file: str) -> str:
    """Return the team's own line that an error came from, as `handlers.py:12`."""
    lines = [
        f"{Path(frame.filename).relative_to(home)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(home)
    ]
    return lines[-1] if lines else file


def _foreign_imports(home: Path) -> Iterator[str]:
    """What a team may not import: another team's modules."""
    for path in sorted(home.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, ValueError) as error:
            yield f"{path.relative_to(home)}: {error}"
            continue
        depth = len(path.relative_to(home).parts)  # so many dots reach the team's own folder
        for node in ast.walk(tree):
            for module in _imported(node, depth):
                room, _, rest = module.partition(".")
                if room == "services" and rest.split(".")[0] != home.name:
                    line = getattr(node, "lineno", 0)
                    yield f"{path.relative_to(home)}:{line}: imports {module}, another team's"


def _imported(node: ast.AST, depth: int) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level > depth:
        return [f"services.{node.module or '*'}"]
    if node.level == 0 and node.module == "services":
        return [f"services.{alias.name}" for alias in node.names]
    return [node.module or ""] if node.level == 0 else []


def _requirements(home: Path) -> Iterator[str]:
    file = home / "requirements.txt"
    if file.exists() and not any(line.startswith("streammesh") for line in file.read_text().splitlines()):
        yield "requirements.txt does not name streammesh[worker]"


def _show(found: Checked) -> None:
    out = console()
    for subscription in found.subscriptions:
        where = f" where {short(subscription['where'])}" if subscription["where"] else ""
        payload = (subscription["schema"] or {}).get("title", "any payload")
        line = f"{subscription['type']}{where} -> {subscription['task']} ({payload})"
        out.print(plain(line), markup=False)
    for kind in found.publishes:
        out.print(plain(f"publishes {kind}"), markup=False)
    for problem in found.problems:
        out.print(plain(f"problem: {problem}"), style="red", markup=False)
    for one in found.breaks:
        out.print(plain(f"breaks: {one}"), style="red", markup=False)
    for one in found.warnings:
        out.print(plain(f"warning: {one}"), style="yellow", markup=False)
    if not found.problems and not found.breaks:
        out.print(f"{found.service} may join; pool: {found.pool}", style="green", markup=False)
