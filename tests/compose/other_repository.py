"""A worker that has nothing of this repository but the published package: made, built and joined as its page says."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.compose import engine
from tests.compose.engine import ROOT, Project, docker

NAME = "billing_worker"
# What a package index would hand out: the wheel of this working copy, and where pip looks for it.
PACKAGE_INDEX = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY *.whl /wheels/
ENV PIP_FIND_LINKS=/wheels
"""


@contextmanager
def joined(mesh: Project) -> Iterator[Project]:
    """Its container beside those of the mesh, up and healthy; nothing of it is left afterwards."""
    base, image = f"{mesh.name}-with-wheels", f"{mesh.name}-{NAME}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_base(folder / "base", base, mesh.env["BASE_IMAGE"])
        command(sys.executable, "-m", "streammesh.cli", "new-worker", NAME, "--standalone", "--folder", name)
        engine.build(image, {"BASE_IMAGE": base}, folder / NAME)
        env = {
            "IMAGE": image,
            "JOIN_NETWORK": f"{mesh.name}_data",
            "REDIS_PASSWORD": mesh.env["REDIS_PASSWORD"],
        }
        project = Project(f"{mesh.name}-team", env, [str(folder / NAME / "compose.yml")])
        try:
            project.compose("up", "--detach", "--wait", "--no-build", "--wait-timeout", "90")
            yield project
        finally:
            project.compose("down", "--volumes")
            docker("image", "rm", "--force", image, base)


def build_base(folder: Path, image: str, base: str) -> None:
    """Build the image that its Dockerfile begins with."""
    uv = Path(sys.executable).with_name("uv")
    python = ("--python", sys.executable)
    command(uv, "build", "--quiet", "--wheel", "--no-build-isolation", *python, "shared", "--out-dir", folder)
    (folder / "Dockerfile").write_text(PACKAGE_INDEX)
    engine.build(image, {"BASE_IMAGE": base}, folder)


def command(*words: str | Path) -> str:
    """Return what one command said. Raises RuntimeError if it fails."""
    done = subprocess.run(
        [str(word) for word in words], cwd=ROOT, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{words[-1]}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def health_of(project: Project) -> dict[str, Any]:
    """The state and the rights of its only container."""
    [container] = project.containers()
    status = docker("exec", container["Id"], "cat", "/proc/1/status")
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {
        "health": container["State"]["Health"]["Status"],
        "root": "0" in values["Uid"].split(),
        "capabilities": int(values["CapEff"], 16),
    }
