"""What the services of a folder look at themselves for `streammesh doctor`: the mail server, the store.

A service's folder may have `checks.py` with `async def look() -> list[Finding]`. It looks at what the service needs
outside the mesh, as far as its settings are here, and changes nothing that anybody sees.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from streammesh.cli.found_programs import FoundProgram, NothingToRun, find_programs

if TYPE_CHECKING:
    from streammesh.status.findings import Finding

PATIENCE = 30.0  # seconds for one service


async def look_at_services(root: Path) -> list[Finding]:
    """Return what the services that can be run from a folder find. Raises nothing of theirs."""
    try:
        programs = [one for one in find_programs(root) if _file(one).is_file()]
    except NothingToRun:
        programs = [one for one in _services_in(root) if _file(one).is_file()]
    each = await asyncio.gather(*map(_look, programs))
    return [one for found in each for one in found]


def _services_in(root: Path) -> Iterable[FoundProgram]:
    """Services of an image, which has one of them and not the mesh's own."""
    for folder in sorted((root / "services").glob("*/")):
        yield FoundProgram(folder.name, f"services.{folder.name}", root)


def _file(one: FoundProgram) -> Path:
    return one.path / one.module.replace(".", "/") / "checks.py"


async def _look(one: FoundProgram) -> list[Finding]:
    from streammesh.redisio.inspection import Severity
    from streammesh.status.findings import Finding

    sys.path.insert(0, str(one.path))
    try:
        async with asyncio.timeout(PATIENCE):
            found: list[Finding] = await importlib.import_module(f"{one.module}.checks").look()
            return found
    except (
        Exception,
        SystemExit,
    ) as error:  # a team's module may raise anything; a wrong setting ends the process
        text = f"{one.name} could not be looked at: {type(error).__name__}: {error}"[:300]
        do = f"mend its settings, or its checks.py; without them {one.name} may not start either"
        return [Finding("check-failed", one.name, Severity.WARNING, text, do)]
    finally:
        sys.path.remove(str(one.path))
