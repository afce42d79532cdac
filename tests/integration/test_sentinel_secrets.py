"""Sentinels and servers behind passwords with any characters, and behind TLS."""

from __future__ import annotations

import asyncio
import socketserver
import subprocess
import threading
import time
from typing import Any
from urllib.parse import quote

import hiredis
import pytest
import redis
import trustme
from streammesh.embedded import EmbeddedServer, find_server, free_port
from streammesh.redisio.client import open_async, open_sync
from streammesh.settings import MeshSettings
from streammesh.worker.app import make_app

from tests.harness.tls_proxy import TlsProxy

DATA, SENTINEL = "d@ta:/#?%;,+ ü", "s€ntinel @/:;"


def reach_all_ways(settings: MeshSettings) -> list[bytes]:
    """One answer each over a client, the broker's connection and the result backend of a Celery app."""
    app = make_app("secrets", settings)
    with open_sync(settings, "test") as client, app.connection_for_write() as broker:
        client.set("x", "found")
        results = app.backend.client
        found = [client.get("x"), broker.default_channel.commands.get("x"), results.get("x")]
        results.close()
        return found


async def get(settings: MeshSettings) -> bytes:
    """An asyncio client's answer."""
    client = open_async(settings, "test")
    found: bytes = await client.get("x")
    await client.aclose()
    return found


@pytest.mark.parametrize("sentinel_password", [DATA, SENTINEL, ""])
def test_sentinel_and_servers_with_passwords_of_odd_characters(tmp_path, sentinel_password):
    quoted = DATA.replace("\\", "\\\\")
    with EmbeddedServer(tmp_path / "one", options=("--requirepass", DATA), password=DATA) as master:
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor mesh-master 127.0.0.1 {master.port} 1\n"
            f'sentinel auth-pass mesh-master "{quoted}"\n'
            + (f'requirepass "{sentinel_password}"\n' if sentinel_password else "")
        )
        with (tmp_path / "sentinel.log").open("wb") as out:
            process = subprocess.Popen([find_server(), str(config), "--sentinel"], stdout=out, stderr=out)
        try:
            url = f"redis+sentinel://:{quote(DATA, safe='')}@127.0.0.1:{port}/mesh-master"
            if sentinel_password:
                url += f"?sentinel_password={quote(sentinel_password, safe='')}"
            settings = MeshSettings(_env_file=None, redis_url=url)
            wait_for(port)
            assert reach_all_ways(settings) == [b"found"] * 3
            assert asyncio.run(get(settings)) == b"found"
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("password", ["a;b", "a+b", "a@b/c", "%41", "a#?&=", "日本", "a,b|c"])
def test_any_password_reaches_the_result_backend_and_the_broker(tmp_path, password):
    with EmbeddedServer(
        tmp_path, appendonly=False, options=("--requirepass", password), password=password
    ) as server:
        url = f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/2"
        settings = MeshSettings(_env_file=None, redis_url=url)
        assert reach_all_ways(settings) == [b"found"] * 3
        assert password not in make_app("x", settings).backend.as_uri()


class FakeSentinel(socketserver.ThreadingTCPServer):
    """Answers as a Sentinel does, with any port; a real one names the plain port that it watches."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, named: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.named = named
        self.asked: list[Any] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answering(socketserver.BaseRequestHandler):
    server: Any

    def handle(self) -> None:
        parser = hiredis.Reader()
        while data := self.request.recv(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.server.asked.append(command)
                port = str(self.server.named).encode()
                answers = {
                    b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
                    b"SENTINEL": b"*2\r\n$9\r\nlocalhost\r\n$%d\r\n%b\r\n" % (len(port), port),
                }
                self.request.sendall(answers.get(command[0], b"+OK\r\n"))


def test_over_tls_both_sentinel_and_server_are_spoken_to_over_tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        EmbeddedServer(tmp_path / "one", options=("--requirepass", DATA), password=DATA) as master,
        TlsProxy(master.port, authority) as data,
        FakeSentinel(data.port) as sentinel,
        TlsProxy(sentinel.server_address[1], authority) as asked,
    ):
        url = f"rediss+sentinel://:{quote(DATA, safe='')}@localhost:{asked.port}/main?sentinel_password=other"
        settings = MeshSettings(_env_file=None, redis_url=url, redis_tls_ca=tmp_path / "ca.pem")
        assert reach_all_ways(settings) == [b"found"] * 3
        assert any(b"other" in command for command in sentinel.asked)
        sentinel.shutdown()


def wait_for(port: int) -> None:
    """Until it listens."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                client.ping()
            return
        except redis.AuthenticationError:
            return
        except redis.RedisError:
            time.sleep(0.02)
