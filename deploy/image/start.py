"""Runs the one service in this image as PID 1, as `python -m services.NAME` would.

An exec-form ENTRYPOINT cannot hold a variable and a shell in between would keep the signals for itself; the
image has exactly one service folder, so its place says its name.

SIGTERM ends it from the first moment: the kernel gives PID 1 no signal that it has not asked for, so one that
comes while a service is still loading would be lost, and the container killed when its grace is over. The service
sets a handler of its own as soon as it runs.
"""

import runpy
import signal
import sys
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

names = [path.parent.name for path in Path(__file__).parent.glob("services/*/__main__.py")]
if len(names) != 1:
    raise SystemExit(f"an image holds exactly one service, found: {sorted(names)}")
runpy.run_module(f"services.{names[0]}", run_name="__main__", alter_sys=True)
