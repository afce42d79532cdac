"""Another broker over TLS: its certificate and host name are verified."""

from __future__ import annotations

from typing import Any

import pytest
import trustme
from streammesh.brokers.publisher import BrokerAway, Outlet
from streammesh.worker.app import make_app

from tests.harness.tls_proxy import TlsProxy

MESSAGE = {
    "body": b"[[],{},{}]",
    "headers": {"id": "1", "task": "probe.noop"},
    "properties": {},
    "content-type": "application/json",
    "content-encoding": "utf-8",
}


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def outlet_at(kind, broker, authority, mesh_settings, tmp_path):
    """Opens a queue there under a host name, trusting one authority."""
    opened: list[Any] = []

    def outlet_at(host, trusted):
        trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
        scheme, rest = broker.address().split("://")
        where = rest.replace(f"127.0.0.1:{broker.port}", f"{host}:{proxy.port}")
        changes = {"broker_url": f"{scheme}s://{where}", "broker_tls_ca": tmp_path / "ca.pem"}
        opened.append(Outlet(make_app("tests", mesh_settings.model_copy(update=changes)), "sealed"))
        return opened[-1]

    with TlsProxy(broker.port, authority) as proxy:
        yield outlet_at
        for outlet in opened:
            outlet.close()


def test_tasks_go_over_it(outlet_at, authority):
    outlet = outlet_at("localhost", authority)
    before = outlet.waiting()
    outlet.send([MESSAGE])

    assert outlet.waiting() == before + 1


def test_a_certificate_that_another_authority_signed_is_refused(outlet_at):
    with pytest.raises(BrokerAway, match="certificate verify failed"):
        outlet_at("localhost", trustme.CA()).waiting()


def test_a_certificate_of_another_host_is_refused(outlet_at, authority):
    with pytest.raises(BrokerAway, match="certificate verify failed"):
        outlet_at("127.0.0.1", authority).waiting()
