"""The running mesh as the checks see it: its addresses, its secrets, its containers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.compose.engine import Project, attempt, docker

Container = dict[str, Any]


@dataclass
class Mesh:
    """One Compose project with what a client, an operator and an attacker would try on it."""

    project: Project
    images: dict[str, str]
    api_url: str
    api_key: str
    flower_url: str
    flower_auth: tuple[str, str]
    redis_password: str
    history_password: str
    mail_url: str | None
    """The page of the mail catcher; None where the kit's own catcher, which has none, takes its place."""

    def containers(self, service: str = "") -> list[Container]:
        """The containers of one service, or of all."""
        return self.project.containers(service)

    @staticmethod
    def service_of(container: Container) -> str:
        name: str = container["Config"]["Labels"]["com.docker.compose.service"]
        return name

    def attempt(self, container: Container, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside a container that may fail."""
        return attempt("exec", container["Id"], *command, timeout=60)

    def inside(self, container: Container, *command: str) -> str:
        """The standard output of a command inside a container."""
        return docker("exec", container["Id"], *command, timeout=60)

    def caught_mail(self) -> str:
        """All that the mail catcher caught, as text in which an address can be looked for."""
        if self.mail_url:
            return httpx.get(f"{self.mail_url}/api/v1/messages", timeout=10).text
        [mail] = self.containers("mail")
        return self.inside(mail, "sh", "-c", "cat /mail/*.eml 2>/dev/null || true")

    def in_history(self, event_id: str) -> str:
        """`state|state` of an event and its task as the history has them; empty while it has not both."""
        [history] = self.containers("history")
        query = f"SELECT e.state, t.state FROM events e JOIN tasks t ON t.event_id = e.id WHERE e.id = '{event_id}'"
        done = self.attempt(history, "psql", "-U", "mesh", "--tuples-only", "--no-align", "-c", query)
        return done.stdout.strip()

    def wait_for(self, condition: Callable[[], object], what: str, timeout: float = 60) -> None:
        """Wait until the condition holds. Raises AssertionError that names what did not come."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")
            time.sleep(0.2)
