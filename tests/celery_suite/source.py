"""Brings Celery's integration tests: from the source distribution of the release that is pinned, never committed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "celery-suite"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")


def tests() -> Path:
    """The folder that has Celery's `t/` in it; downloaded at first use.

    Raises RuntimeError when what came is not what `requirements.lock` pins.
    """
    release = version("celery")
    place = FOLDER / release
    if (place / "t").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    download = FOLDER / "download"
    subprocess.run(
        [*PIP, "download", "--no-deps", "--no-binary", "celery", "-d", str(download), f"celery=={release}"],
        check=True,
    )
    [archive] = download.glob(f"celery-{release}.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest not in (ROOT / "requirements.lock").read_text():
        raise RuntimeError(f"{archive.name} is not the one that requirements.lock pins: sha256 {digest}")
    with tarfile.open(archive) as packed:
        packed.extractall(FOLDER / "unpacked", filter="data")
    unpacked = FOLDER / "unpacked" / f"celery-{release}"
    place.mkdir(parents=True)
    shutil.move(unpacked / "pyproject.toml", place / "pyproject.toml")
    shutil.move(unpacked / "t", place / "t")  # last: it says that the rest is there
    shutil.rmtree(FOLDER / "unpacked")
    return place


def plugins() -> Path:
    """A folder with the packages that only these tests want."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    place = FOLDER / "plugins"
    stamp = place / "made-of"
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(
            [*PIP, "install", "--no-deps", "--target", str(place), "-r", str(REQUIREMENTS)], check=True
        )
        stamp.write_text(digest)
    return place


def left_out() -> dict[str, tuple[str, str]]:
    """Node id -> the pool with which it is left out ('' for each), reason."""
    lines = (Path(__file__).parent / "left_out.txt").read_text().splitlines()
    pairs = (line.split("  ", 1) for line in lines if line and not line.startswith("#"))
    nodes = ((node.strip().rpartition(" "), reason.strip()) for node, reason in pairs)
    return {node: (pool, reason) for (pool, _, node), reason in nodes}
