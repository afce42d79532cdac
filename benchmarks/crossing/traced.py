"""`python -m benchmarks.crossing.traced <module>`: runs a process of the mesh and counts which files it calls into.

At SIGUSR2 the counts are written to the file that `CROSSING_FILE` names; Celery's worker has SIGUSR1 to itself.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = f"{Path(__file__).resolve().parents[2]}/"
COUNTS: Counter[str] = Counter()


def count(frame: FrameType, event: str, _: Any) -> None:
    """Note the file of each function of ours that is called."""
    if event == "call":
        path = frame.f_code.co_filename
        if path.startswith(ROOT) and "/.venv/" not in path:
            COUNTS[path.removeprefix(ROOT)] += 1


def write(*_: Any) -> None:
    """Write the counts down, whole or not at all."""
    place = Path(os.environ["CROSSING_FILE"])
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(COUNTS), "utf-8")
    draft.replace(place)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, write)
    threading.setprofile(count)
    sys.setprofile(count)
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
