"""The mesh's own dispatcher in a test's process, loaded from wherever the mesh's services are installed."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from streammesh.local_mesh import services_home


class NoMesh(Exception):
    """The mesh's services are not installed."""


@cache
def load() -> tuple[Any, Any]:
    """Return `dispatch` and its settings class. Raises NoMesh.

    The services' own package is called `services`; a team's package of that name stays what it is.
    """
    home = services_home()
    if home is None:
        raise NoMesh("the fixture `mesh` runs the mesh's dispatcher: pip install 'streammesh[mesh]'")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "services"}
    if not _is_ours(before.get("services"), str(home / "services")):
        for name in before:
            del sys.modules[name]
    else:
        before = {}
    sys.path.insert(0, str(home))
    try:
        program: Any = importlib.import_module("services.dispatcher.__main__")
        settings = importlib.import_module("services.dispatcher.settings").DispatcherSettings
    finally:
        sys.path.remove(str(home))
        if before:
            for name in [name for name in sys.modules if name.partition(".")[0] == "services"]:
                del sys.modules[name]
            sys.modules.update(before)
    program.tell_health = lambda *_, **__: None  # no port for each test
    return program.dispatch, settings


def _is_ours(package: ModuleType | None, home: str) -> bool:
    return package is not None and home in list(getattr(package, "__path__", ()))
