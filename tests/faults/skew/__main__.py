"""`python -m tests.faults.skew MODULE`: run a module in a new interpreter that begins with the wrong clock."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.harness.processes import ROOT

if __name__ == "__main__":
    path = os.pathsep.join((str(Path(__file__).parent), str(ROOT)))
    os.execve(sys.executable, [sys.executable, "-m", sys.argv[1]], {**os.environ, "PYTHONPATH": path})
