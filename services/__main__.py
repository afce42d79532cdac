"""Runs one of the mesh's services by name: `python -m services api`, or `python -m streammesh_mesh api` where installed."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the service that the first argument names, as `python -m services.NAME` would."""
    here = Path(__file__).resolve().parent
    home = here if (here / "services").is_dir() else here.parent  # of the distribution, or of the repository
    found = sorted(path.parent.name for path in home.glob("services/*/__main__.py"))
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in found:
        raise SystemExit(f"{name!r} is no service of the mesh; there are {', '.join(found)}")
    del sys.argv[1]
    sys.path[0] = str(home)  # in place of the folder one stands in, which may have modules of the same names
    runpy.run_module(f"services.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
