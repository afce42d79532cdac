"""Installs what one service needs, and nothing that the lock file does not vouch for.

    python install_locked.py --lock requirements.lock [--kit shared/pyproject.toml] requirements.txt

pip cannot do this in one go: `--require-hashes` wants every requirement pinned, and a constraints file with
hashes switches that mode on. So pip first only *resolves*, held to the lock's versions, and names the packages;
then exactly these are installed from the lock's own lines with `--require-hashes --no-deps`. A package that is
not in the lock, or whose file has another hash, stops the build. Wheels only: a source build would fetch its
build tools past the lock.

The kit itself (`streammesh[...]`) is never looked up in a registry: with `--kit`, its own dependencies and those
of the extras asked for take its place.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

KIT = "streammesh"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
WHEELS_ONLY = ["--only-binary", ":all:"]


def canonical(name: str) -> str:
    """The one spelling of a package name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, str]:
    """Package name -> its whole entry in the lock: `name==version ; marker \\` and its hashes."""
    entries: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        pinned = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==", line)
        if pinned:
            name = canonical(pinned[1])
            entries[name] = line
        elif name and line.startswith((" ", "\t")):
            entries[name] += "\n" + line
        else:
            name = ""
    return entries


def wanted(lines: list[str], kit: Path | None) -> list[str]:
    """The requirement lines, with the kit replaced by what the kit and the extras named need."""
    out: list[str] = []
    for line in (line.split("#", 1)[0].strip() for line in lines):
        named = re.match(rf"{KIT}(?![\w.-])\s*(?:\[([^\]]*)\])?", line)
        if not line:
            continue
        if not named:
            out.append(line)
            continue
        if kit is None:
            raise SystemExit(f"{line}: say where the kit is with --kit")
        project = tomllib.loads(kit.read_text())["project"]
        out += project["dependencies"]
        for extra in filter(None, (extra.strip() for extra in (named[1] or "").split(","))):
            if extra not in project["optional-dependencies"]:
                raise SystemExit(f"{line}: the kit has no extra {extra!r}")
            out += wanted(project["optional-dependencies"][extra], kit)  # which may name further extras
    return list(dict.fromkeys(out))


def resolve(requirements: list[str], lock: dict[str, str], folder: Path) -> list[str]:
    """Names of the packages that these requirements need on this platform, at the lock's versions."""
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(entry.split("\\", 1)[0].strip() for entry in lock.values()))
    asked = folder / "wanted.txt"
    asked.write_text("\n".join(requirements))
    report = folder / "report.json"
    dry = ["install", "--quiet", "--dry-run", "--ignore-installed", *WHEELS_ONLY]
    dry += ["--report", str(report), "--constraint", str(constraints), "--requirement", str(asked)]
    subprocess.run([*PIP, *dry], check=True)
    found = json.loads(report.read_text())["install"]
    return sorted(canonical(item["metadata"]["name"]) for item in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("requirements", type=Path, help="a list, or a pyproject.toml for what builds it")
    parser.add_argument("--lock", required=True, type=Path)
    parser.add_argument("--kit", type=Path, help="the kit's pyproject.toml")
    args = parser.parse_args()

    lock = read_lock(args.lock.read_text())
    text = args.requirements.read_text()
    toml = args.requirements.suffix == ".toml"
    lines = tomllib.loads(text)["build-system"]["requires"] if toml else text.splitlines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = resolve(wanted(lines, args.kit), lock, folder)
        if missing := [name for name in names if name not in lock]:
            raise SystemExit(
                f"not in {args.lock}: {', '.join(missing)}. Run `make lock` and commit the result."
            )
        chosen = folder / "chosen.txt"
        chosen.write_text("\n".join(lock[name] for name in names))
        exact = ["install", "--no-deps", "--require-hashes", *WHEELS_ONLY, "--requirement", str(chosen)]
        subprocess.run([*PIP, *exact], check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None
