"""What `streammesh up` runs in a folder: the mesh's own services, wherever they are installed, and the folder's workers.

A worker is a folder in `services/`, a package with `__main__.py` and `handlers.py`, or the one file `worker.py`;
`[tool.streammesh] workers = ["package"]` in pyproject.toml names them where that finds too many or too few, and
`without = ["report_worker"]` those of the mesh's own services that the folder does without.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streammesh import names
from streammesh.local_mesh import services_home

NAMED = re.compile(r"""\bService\(\s*["']([a-z0-9_]+)["']""")
ONE_FILE = "worker.py"
NEEDED = {"api", "dispatcher"}  # without them nothing runs


class NothingToRun(Exception):
    """The folder has no mesh to run, and none is installed; or its pyproject.toml names what is not there."""


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """One program: `python -m module` with `path` before all other places of modules.

    `service`: the name under which it registers, where it has handlers and the name is written plainly.
    """

    name: str
    module: str
    path: Path
    service: str | None = None

    @property
    def command(self) -> list[str]:
        """The command; `-P`, so that no module of the folder one stands in takes the place of ours."""
        return [sys.executable, "-P", "-m", self.module]


def find_programs(root: Path) -> list[FoundProgram]:
    """Return what is to run in `root`. Raises NothingToRun."""
    own = [*_in_services(root), *_named_or_found(root)]
    home = root if _is_mesh(root) else services_home()
    if home is None:
        raise NothingToRun(
            "the mesh's own services are not installed: pip install 'streammesh[mesh]'"
            " (or go to a checkout of the mesh)"
        )
    shipped = [] if home == root else list(_in_services(home))
    taken = {one.name for one in own} | _left_out(root, shipped)
    return [*(one for one in shipped if one.name not in taken), *own]


def find_workers(root: Path) -> list[FoundProgram]:
    """Return the workers of a folder without the mesh's own. Raises NothingToRun for a wrong pyproject.toml."""
    return [*(() if _is_mesh(root) else _in_services(root)), *_named_or_found(root)]


def find_services(root: Path) -> list[str]:
    """Every folder in `services/` that can be run; a new team's folder is found by its place alone."""
    return [one.name for one in _in_services(root)]


def _is_mesh(root: Path) -> bool:
    return (root / "services" / "dispatcher" / "__main__.py").is_file()


def _in_services(root: Path) -> Iterator[FoundProgram]:
    for main in sorted((root / "services").glob("*/__main__.py")):
        folder = main.parent
        service = folder.name if (folder / "handlers.py").is_file() else None
        yield FoundProgram(folder.name, f"services.{folder.name}", root, service)


def _named_or_found(root: Path) -> Iterator[FoundProgram]:
    wanted = _named(root)
    if wanted is None:
        found = sorted(p.parent for p in root.glob("*/__main__.py") if (p.parent / "handlers.py").is_file())
        found += sorted(
            p.parent for p in root.glob("src/*/__main__.py") if (p.parent / "handlers.py").is_file()
        )
        found += [root / ONE_FILE] if (root / ONE_FILE).is_file() else []
    else:
        found = [_place_of(root, module) for module in wanted]
    for place in found:
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        service = next(filter(None, map(_service_in, files)), None)
        module = (
            place.stem if place.parent in (root, root / "src") else ".".join(place.relative_to(root).parts)
        )
        yield FoundProgram(service or place.stem, module.removesuffix(".py"), place.parent, service)


def _named(root: Path) -> list[str] | None:
    return _list(root, "workers", "modules")


def _left_out(root: Path, shipped: list[FoundProgram]) -> set[str]:
    """Return which of the mesh's own services a folder does without. Raises NothingToRun for one that it needs, or that is none."""
    without = set(_list(root, "without", "services") or ()) if shipped else set()
    optional = {one.name for one in shipped} - NEEDED
    if wrong := sorted(without - optional):
        raise NothingToRun(
            f"pyproject.toml: [tool.streammesh] without: {', '.join(wrong)} cannot be left out; what can is"
            f" {', '.join(sorted(optional))}"
        )
    return without


def _list(root: Path, option: str, what: str) -> list[str] | None:
    """Return a list that `[tool.streammesh]` has, None where it has none. Raises NothingToRun."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return None
    try:
        found = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("streammesh", {}).get(option)
    except (ValueError, AttributeError) as error:
        raise NothingToRun(f"{file.name}: {error}") from None
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise NothingToRun(f"{file.name}: [tool.streammesh] {option} should be a list of {what}")
    return found


def _place_of(root: Path, module: str) -> Path:
    for base in (root, root / "src"):
        place = base.joinpath(*module.split("."))
        for found in (place if (place / "__main__.py").is_file() else None, place.with_suffix(".py")):
            if found is not None and found.exists():
                return found
    raise NothingToRun(f"pyproject.toml: [tool.streammesh] workers: there is no module {module!r} to run")


def _service_in(file: Path) -> str | None:
    try:
        found = NAMED.search(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found[1] if found and names.SERVICE.match(found[1]) else None
