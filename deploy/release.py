"""Builds what is published, into dist/: wheels and sdists of both distributions, and a bill of materials (CycloneDX).

    python -m deploy.release [--images] [--registry PREFIX]

The audit asks the Python package index about known faults of what requirements.lock pins; where it cannot be reached,
that is said, and the rest is built. `--images` builds an image of every service and names it with the version.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import streammesh

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent
TOOLS = ("cyclonedx-bom==7.5.0", "pip-audit==2.10.1")  # run apart, by uvx: nothing here depends on them


def run(*command: str | Path, quiet: bool = False) -> bool:
    """Run a command; answers whether it succeeded."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, check=False, capture_output=quiet)
    return done.returncode == 0


def build() -> None:
    """Both distributions: each wheel is made from its sdist, so that both have been tried."""
    shutil.rmtree(DIST, ignore_errors=True)
    for folder in ("shared", "services"):
        build_here = ("build", "--quiet", "--no-build-isolation", "--python", sys.executable)
        if not run(BIN / "uv", *build_here, folder, "--out-dir", DIST):
            raise SystemExit(f"{folder} could not be built")


def tool(name: str, *arguments: str | Path) -> bool:
    """Run a tool that is fetched for this one run."""
    [pinned] = [one for one in TOOLS if one.startswith(name)]
    return run(BIN / "uv", "tool", "run", "--quiet", "--from", pinned, *arguments, quiet=True)


def audit() -> str:
    """Return what is known of faults in what the lock file pins."""
    report = DIST / "audit.json"
    options = ("--no-deps", "--disable-pip", "--progress-spinner=off", "-f", "json", "-o", report)
    tool("pip-audit", "pip-audit", *options, "-r", "requirements.lock")
    if not report.is_file():
        return "no audit: pip-audit could not be fetched or could not ask"
    found = json.loads(report.read_text())["dependencies"]
    faulty = [f"{one['name']} {one['version']}" for one in found if one.get("vulns")]
    unknown = sum("skip_reason" in one for one in found)
    said = f"audit: {len(found) - unknown} packages looked up, {unknown} could not be"
    return f"{said}; with known faults: {', '.join(faulty) or 'none'}"


def images(prefix: str) -> list[tuple[str, str]]:
    """The image of each service, and its folder."""
    services = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))
    return [(f"{prefix}{name}:{streammesh.__version__}", name) for name in services]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", action="store_true", help="build the images too (needs a Docker engine)")
    parser.add_argument("--registry", default="streammesh/", help="what the images' names begin with")
    args = parser.parse_args()

    build()
    bill = DIST / f"streammesh-{streammesh.__version__}.cdx.json"
    if not tool("cyclonedx-bom", "cyclonedx-py", "requirements", "requirements.lock", "-o", bill):
        print("no bill of materials: cyclonedx-bom could not be fetched or run", file=sys.stderr)
    print(audit())
    for path in sorted(DIST.iterdir()):
        if not path.name.startswith("."):
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    for image, service in images(args.registry):
        if args.images and not run(
            "docker", "build", "--quiet", "--build-arg", f"SERVICE={service}", "-t", image, "."
        ):
            raise SystemExit(f"{image} could not be built")
        print(f"{image}  {'built' if args.images else '(make release ARGS=--images builds it)'}")


if __name__ == "__main__":
    main()
