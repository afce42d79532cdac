"""`python -m tests.faults.earlier TREE MODULE`: run a module of another tree in a new interpreter, over our libraries."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    tree, module = Path(sys.argv[1]), sys.argv[2]
    os.chdir(tree)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree / "shared"), str(tree)))}
    os.execve(sys.executable, [sys.executable, "-m", module], env)
