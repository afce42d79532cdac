"""The whole way over TLS: publisher, dispatcher and worker, with certificates verified and a client's own."""

from __future__ import annotations

import pytest
import redis.exceptions
import trustme
from streammesh.redisio.client import open_async, open_sync
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.harness.tls_proxy import TlsProxy
from tests.integration.conftest import Asker, RunningMesh


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def over_tls(mesh_server, mesh_settings, authority, tmp_path):
    """Settings of a mesh whose Redis asks for TLS and for a client certificate."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("client.example.org")
    ours.private_key_pem.write_to_path(tmp_path / "client.key")
    for part in ours.cert_chain_pems:
        part.write_to_path(tmp_path / "client.pem", append=True)
    with TlsProxy(mesh_server.port, authority, client_certificates=True) as proxy:
        yield mesh_settings.model_copy(
            update={
                "redis_url": f"rediss://localhost:{proxy.port}/0",
                "redis_tls_ca": tmp_path / "ca.pem",
                "redis_tls_cert": tmp_path / "client.pem",
                "redis_tls_key": tmp_path / "client.key",
            }
        )


async def test_an_event_goes_the_whole_way_over_tls(over_tls, mesh_server, tmp_path):
    env = {
        "MESH_REDIS_URL": over_tls.redis_url,
        "MESH_REDIS_TLS_CA": str(over_tls.redis_tls_ca),
        "MESH_REDIS_TLS_CERT": str(over_tls.redis_tls_cert),
        "MESH_REDIS_TLS_KEY": str(over_tls.redis_tls_key),
        "MESH_NAMESPACE": over_tls.namespace,
        "PROBE_RECORD": str(tmp_path / "record.txt"),
    }
    client = open_async(over_tls, "test")
    mesh = RunningMesh(over_tls, env, tmp_path, tmp_path / "record.txt", mesh_server)
    ask = Asker(mesh, client)
    try:
        with (
            MeshProcess("dispatcher", "services.dispatcher", env, tmp_path),
            MeshProcess("probe", "tests.probe", env, tmp_path),
        ):

            async def registered():
                return await client.hlen(mesh.keys.manifests()) and await client.zcard(
                    mesh.keys.alive("probe")
                )

            await wait_until("the worker shows life", registered, seconds=30)
            task = await ask.run("probe.recorded")
    finally:
        await client.aclose()

    assert task.state == "succeeded"


def test_a_certificate_of_another_authority_is_refused(over_tls, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    client = open_sync(over_tls.model_copy(update={"redis_tls_ca": tmp_path / "other.pem"}), "test")

    with pytest.raises(redis.exceptions.ConnectionError, match="certificate verify failed"):
        client.ping()
    client.close()


def test_a_certificate_for_another_host_is_refused(over_tls):
    url = over_tls.redis_url.replace("localhost", "127.0.0.1")
    client = open_sync(over_tls.model_copy(update={"redis_url": url}), "test")

    with pytest.raises(redis.exceptions.ConnectionError, match=r"IP address mismatch"):
        client.ping()
    client.close()
