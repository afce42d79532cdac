"""Processes of an earlier commit of this repository beside those of this one."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from tests.harness.processes import ROOT

LAST_COMMIT = "4ea8bc6"  # where there is no tag of a release yet
CHOSEN = "FAULTS_EARLIER"  # environment: another commit or tag


def earlier_commit() -> str | None:
    """The newest release before this commit, else `LAST_COMMIT`; None where the clone does not have it."""
    wanted = (
        os.environ.get(CHOSEN) or _git("describe", "--tags", "--abbrev=0", "--match", "v*") or LAST_COMMIT
    )
    return _git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}") or None


def unpacked(commit: str, folder: Path) -> Path:
    """The tree of a commit, unpacked below a folder; once for all scenarios."""
    tree = folder / f"earlier-{commit[:12]}"
    if not (tree / "services").is_dir():
        tree.mkdir(parents=True, exist_ok=True)
        packed = tree / "tree.tar"
        subprocess.run(["git", "-C", ROOT, "archive", "-o", packed, commit], check=True)
        with tarfile.open(packed) as file:
            file.extractall(tree, filter="data")
        packed.unlink()
    return tree


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
