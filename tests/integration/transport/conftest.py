"""A connection to the private server, a queue, and the stream that it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from streammesh.transport.transport import broker_url, install

from tests.integration.transport.talking import LEASE, Connect


@pytest.fixture(params=["RESP3", "RESP2"])
def url(mesh_settings, request) -> str:
    install()
    return broker_url(mesh_settings.redis_url + ("?protocol=2" if request.param == "RESP2" else ""))


@pytest.fixture
def connect(url, mesh_settings) -> Iterator[Connect]:
    with ExitStack() as opened:

        def make(**options: Any) -> Connection:
            options = {"namespace": mesh_settings.namespace, "lease_seconds": LEASE, **options}
            return opened.enter_context(Connection(url, transport_options=options))

        yield make


@pytest.fixture
def queue() -> Queue:
    return Queue("work", Exchange("work"), routing_key="work")


@pytest.fixture
def stream(mesh_keys) -> str:
    return mesh_keys.queue("work")
