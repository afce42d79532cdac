"""The Docker engine as the compose test uses it: plain commands, their output captured."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Unavailable(Exception):
    """Something the test needs cannot be had here; the text says what, and what to do."""


def attempt(
    *args: str, timeout: float = 600, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One docker command; its exit code is for the caller to judge."""
    return subprocess.run(
        ["docker", *args],
        text=True,
        capture_output=True,
        timeout=timeout,
        cwd=ROOT,
        env=os.environ | (env or {}),
    )


def docker(*args: str, timeout: float = 600, env: dict[str, str] | None = None) -> str:
    """The standard output of one docker command. Raises RuntimeError with the end of its output if it fails."""
    done = attempt(*args, timeout=timeout, env=env)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise RuntimeError(f"docker {' '.join(args)} exited {done.returncode}:\n{tail}")
    return done.stdout


def versions() -> str:
    """What engine and Compose are here. Raises Unavailable without them."""
    try:
        engine = attempt("version", "--format", "{{.Server.Version}}")
        compose = attempt("compose", "version", "--short")
    except FileNotFoundError:
        raise Unavailable("there is no docker command; install Docker with Compose v2.24 or later") from None
    if engine.returncode:
        raise Unavailable(f"no Docker engine answers: {engine.stderr.strip()}")
    if compose.returncode:
        raise Unavailable("there is no `docker compose`; install the Compose plugin, v2.24 or later")
    return f"Docker {engine.stdout.strip()}, Compose {compose.stdout.strip()}"


def obtain(image: str) -> bool:
    """Whether the image is here or could be pulled."""
    if attempt("image", "inspect", image).returncode == 0:
        return True
    return attempt("pull", "--quiet", image).returncode == 0


def build(image: str, arguments: dict[str, str], context: Path = ROOT) -> None:
    """Build one image. Plain `docker build`, which needs no builder plug-in."""
    options = [part for item in sorted(arguments.items()) for part in ("--build-arg", "=".join(item))]
    if network := os.environ.get("BUILD_NETWORK"):
        options += ["--network", network]
    docker("build", "--quiet", *options, "--tag", image, str(context), timeout=1800)


@dataclass
class Project:
    """One Compose project under its own name, with its own settings and nobody's `.env`."""

    name: str
    env: dict[str, str]
    files: list[str] = field(default_factory=lambda: ["docker-compose.yml"])

    def compose(self, *args: str, timeout: float = 600) -> str:
        """One `docker compose` command; its standard output."""
        files = [part for name in self.files for part in ("--file", name)]
        project = ["--project-name", self.name, "--env-file", os.devnull]
        return docker("compose", *project, *files, *args, timeout=timeout, env=self.env)

    def config(self) -> dict[str, dict[str, Any]]:
        """The services, those of the `tools` profile too, as Compose understands them."""
        loaded = json.loads(self.compose("--profile", "*", "config", "--format", "json"))
        services: dict[str, dict[str, Any]] = loaded["services"]
        return services

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows about each container of one service, or of all; stopped ones too."""
        ids = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found
