"""What a process finds out about where it runs, without being told: the mesh beside it, the folder of its secrets, and
where the mesh's own services are installed.

The first is the file by which a mesh that `streammesh up` runs here is found: `var/up/up.json`, there while it runs.
Commands and services started in the same folder join that mesh without being told where it is.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLACE = Path("var/up/up.json")
SECRETS = Path("/run/secrets")  # where Docker and Compose mount them; MESH_SECRETS_DIR names another folder
_PARTS = {"api_url": str, "key_file": str, "environment": dict, "pid": int}


def running_here(place: Path = PLACE) -> dict[str, Any] | None:
    """Return what the file says, None where no mesh runs here: no such file, nothing of ours, or its process is gone."""
    try:
        found = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(n), kind) for n, kind in _PARTS.items()):
        return None
    try:
        os.kill(found["pid"], 0)
    except PermissionError:
        return found  # it lives, and is another user's
    except (OSError, OverflowError):
        return None
    return found


def services_home() -> Path | None:
    """Return the folder that has the mesh's own `services/`: of the distribution `streammesh-mesh`, or of a checkout."""
    if found := find_spec("streammesh_mesh"):
        return next(map(Path, found.submodule_search_locations or ()), None)
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "services" / "dispatcher" / "__main__.py").is_file() else None


def secrets_folder(named: str | None) -> Path | None:
    """Return the folder with a file for each secret, as Docker and Kubernetes mount them, or None where there is none.

    Raises NotADirectoryError where the one that is named is none.
    """
    folder = Path(named) if named else SECRETS
    if named and not folder.is_dir():
        raise NotADirectoryError("MESH_SECRETS_DIR: should be a folder")
    return folder if folder.is_dir() else None
