"""Runs the one service in this image as PID 1, as `python -m services.NAME` would.

An exec-form ENTRYPOINT cannot hold a variable and a shell in between would keep the signals for itself; the
image has exactly one service folder, so its place says its name.
"""

import runpy
from pathlib import Path

names = [path.parent.name for path in Path(__file__).parent.glob("services/*/__main__.py")]
if len(names) != 1:
    raise SystemExit(f"an image holds exactly one service, found: {sorted(names)}")
runpy.run_module(f"services.{names[0]}", run_name="__main__", alter_sys=True)
