"""The file by which a mesh that `streammesh up` runs here is found: `var/up/up.json`, there while it runs.

Commands and services started in the same folder join that mesh without being told where it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

PLACE = Path("var/up/up.json")
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
