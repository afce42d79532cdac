"""The other brokers that a mesh under test can be given: RabbitMQ, and Celery's lists in a Redis of their own.

With `STREAMMESH_TEST_BROKER` set to one of their names the tests of `tests/integration` that run workers are
given it in place of the mesh's own streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streammesh.embedded import EmbeddedServer

from tests.harness import rabbitmq
from tests.harness.rabbitmq import RabbitServer

KINDS = ("lists", "rabbitmq")
CHOICE = "STREAMMESH_TEST_BROKER"


class ListServer(EmbeddedServer):
    """A Redis for Celery's own list transport, which keeps nothing over a restart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, appendonly=False)

    def address(self) -> str:
        """Its URL; meshes tell their keys apart by their namespaces."""
        return self.url

    def kill(self) -> None:
        """SIGKILL."""
        self.stop(kill=True)

    def wipe(self) -> None:
        """Forget everything, which it has done as it was killed."""


Broker = ListServer | RabbitServer


def chosen() -> str | None:
    """The kind that the tests are run with, None for the mesh's own streams."""
    kind = os.environ.get(CHOICE) or None
    assert kind in (None, *KINDS), f"{CHOICE} is one of {', '.join(KINDS)}"
    return kind


def why_not(kind: str) -> str | None:
    """What is missing for this kind of broker."""
    if kind == "rabbitmq" and rabbitmq.program() is None:
        return "no rabbitmq-server is on PATH (Debian: apt-get install rabbitmq-server)"
    return None


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Broker]:
    """A private one, ended in the end."""
    server: Broker = RabbitServer(folder) if kind == "rabbitmq" else ListServer(folder)
    with server:
        yield server
