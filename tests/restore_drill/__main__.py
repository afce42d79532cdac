"""`python -m tests.restore_drill`: exit code 1 where the page's commands do not bring a mesh back."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.restore_drill.drill import Drill


def main() -> int:
    """The command."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            seen = Drill(Path(folder)).play()
        except (AssertionError, TimeoutError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write("".join(f"{line}\n" for line in seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
