"""`python -m services.api`: keys at start, refusals in one line, a clean end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import sys

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from streammesh.api_keys import ApiKeys
from streammesh.embedded import free_port
from streammesh.settings import load_settings

from services.api.bootstrap_keys import CannotStart, ensure_keys
from services.api.settings import ApiSettings, StoreSettings


def settings(**more):
    return ApiSettings(_env_file=None, **more)


class TestKeys:
    @pytest.fixture
    def api_keys(self, mesh_redis, mesh_keys):
        return ApiKeys(mesh_redis, mesh_keys)

    async def test_the_first_start_makes_one_admin_key_and_the_next_none(self, api_keys):
        secret = await ensure_keys(api_keys, settings())

        assert (await api_keys.verify(secret)).admin
        assert await ensure_keys(api_keys, settings()) is None
        assert [key.name for key in await api_keys.list()] == ["dev"]

    async def test_of_several_processes_one_makes_it(self, api_keys):
        made = await asyncio.gather(*(ensure_keys(api_keys, settings()) for _ in range(5)))

        assert sum(secret is not None for secret in made) == 1

    async def test_it_is_written_to_a_file_that_only_its_owner_reads(self, api_keys, tmp_path):
        file = tmp_path / "var" / "dev-key"

        secret = await ensure_keys(api_keys, settings(dev_key_file=file))

        assert file.read_text() == secret + "\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert await ensure_keys(api_keys, settings(dev_key_file=file)) is None

    async def test_a_lost_file_gets_a_new_key_and_the_old_one_ends(self, api_keys, tmp_path):
        file = tmp_path / "dev-key"
        old = await ensure_keys(api_keys, settings(dev_key_file=file))
        file.write_text("smk_something_else_altogether\n")

        new = await ensure_keys(api_keys, settings(dev_key_file=file))

        assert new != old and await api_keys.verify(old) is None
        assert (await api_keys.verify(file.read_text().strip())).name == "dev"

    async def test_keys_that_somebody_made_are_left_alone(self, api_keys, tmp_path):
        await api_keys.create("shop")

        assert await ensure_keys(api_keys, settings()) is None
        assert await ensure_keys(api_keys, settings(dev_key_file=tmp_path / "dev-key")) is None
        assert [key.name for key in await api_keys.list()] == ["shop"]

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "api.example.com"])
    async def test_an_exposed_api_without_keys_does_not_start(self, api_keys, host):
        with pytest.raises(CannotStart, match="API_HOST"):
            await ensure_keys(api_keys, settings(host=host))
        assert await api_keys.count() == 0

        await api_keys.create("shop")
        assert await ensure_keys(api_keys, settings(host=host)) is None

    async def test_a_key_of_the_operators_own_opens_an_exposed_api(self, api_keys):
        own = "operator-key-of-my-own-1234"
        exposed = settings(host="0.0.0.0", admin_key=SecretStr(own))

        for _ in range(2):
            assert await ensure_keys(api_keys, exposed) is None
        assert [(key.name, key.admin) for key in await api_keys.list()] == [("admin", True)]
        assert await api_keys.verify(own)

        await ensure_keys(api_keys, settings(host="0.0.0.0", admin_key=SecretStr(own + "-next")))
        assert await api_keys.verify(own) is None

    async def test_an_operators_key_that_was_revoked_is_not_made_again(self, api_keys):
        own = SecretStr("operator-key-of-my-own-1234")
        await ensure_keys(api_keys, settings(admin_key=own))
        await api_keys.revoke("admin")

        with pytest.raises(CannotStart):
            await ensure_keys(api_keys, settings(host="0.0.0.0", admin_key=own))
        await ensure_keys(api_keys, settings(admin_key=own))

        assert await api_keys.verify(own.get_secret_value()) is None

    @pytest.mark.parametrize(
        ("host", "exposed"),
        [("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("localhost", False), ("0.0.0.0", True)],
    )
    def test_only_loopback_is_not_exposed(self, host, exposed):
        assert settings(host=host).is_exposed is exposed

    @pytest.mark.parametrize(
        "wrong", [{"port": 70_000}, {"heartbeat": "0s"}, {"rate": -1}, {"stall": "soon"}]
    )
    def test_wrong_settings_are_refused(self, wrong):
        with pytest.raises(ValidationError):
            settings(**wrong)


class Process:
    """`python -m services.api` as a child."""

    def __init__(self, environment):
        self.environment, self.out, self.err = environment, b"", b""

    async def __aenter__(self):
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.api", env=self.environment, stdout=-1, stderr=-1
        )
        return self

    async def url(self):
        async with asyncio.timeout(20):
            while True:
                line = await self.child.stderr.readline()
                assert line, self.err.decode()
                self.err += line
                if found := re.search(rb'"url":"(http://[^"]+)"', line):
                    return found[1].decode()

    async def end(self, number=signal.SIGTERM):
        self.child.send_signal(number)
        return await self.ended()

    async def ended(self):
        async with asyncio.timeout(15):
            out, err = await self.child.communicate()
        self.out, self.err = self.out + out, self.err + err
        return self.child.returncode

    async def __aexit__(self, *_):
        if self.child.returncode is None:
            self.child.kill()
            await self.child.wait()


@pytest.fixture
def environment(mesh_environment, tmp_path):
    return {
        **mesh_environment,
        "API_PORT": "0",
        "MESH_LOG_FORMAT": "json",
        "REPORT_STORE_URL": str(tmp_path / "store"),
    }


async def test_it_starts_prints_a_key_serves_and_ends_with_its_streams(environment, tmp_path):
    environment["API_DEV_KEY_FILE"] = str(tmp_path / "dev-key")
    async with Process(environment) as process:
        url = await process.url()
        key = (tmp_path / "dev-key").read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
            sent = await client.post("/v1/events", json={"type": "order.placed"})
            async with client.stream("GET", "/v1/notifications") as stream:
                lines = stream.aiter_lines()
                first = await anext(lines)
                code = await process.end()
                rest = [line async for line in lines]

    assert (sent.status_code, first, code) == (202, ": connected", 0)
    assert "event: closed" in rest
    assert process.out.decode().strip() == f"Development API key (admin, shown once): {key}"
    assert key.encode() not in process.err
    assert b"Traceback" not in process.err


async def test_ctrl_c_ends_it_cleanly(environment):
    async with Process(environment) as process:
        await process.url()
        assert await process.end(signal.SIGINT) == 0
    assert b"Traceback" not in process.err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"API_HOST": "0.0.0.0"}, "API_HOST"),
        ({"API_PORT": "many"}, "API_PORT"),
        ({"API_ADMIN_KEY": "short"}, "API_ADMIN_KEY"),
        (
            {"API_START_TIMEOUT": "500ms", "MESH_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"},
            "MESH_REDIS_URL",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_it_refuses_to_start_and_names_the_variable(environment, wrong, said):
    async with Process({**environment, **wrong}) as process:
        code = await process.ended()

    last = process.err.decode().strip().splitlines()[-1]
    assert (code, said in last) == (2, True), process.err.decode()
    assert "Traceback" not in process.err.decode()


async def test_a_port_that_is_taken_is_said(environment):
    async with Process(environment) as first:
        port = (await first.url()).rpartition(":")[2]
        async with Process({**environment, "API_PORT": port}) as second:
            code = await second.ended()

    assert code != 0
    assert "address already in use" in second.err.decode().lower()
    assert os.environ.get("API_PORT") is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EMAIL_RECIPIENTS", "*@example.com", "EMAIL_RECIPIENTS: should be JSON"),
        ("EMAIL_RECIPIENTS", '["*@example.com", 1]', "EMAIL_RECIPIENTS (entry 1, counted from 0): "),
        ("EMAIL_LOCAL_DOMAINS", "perhaps", "EMAIL_LOCAL_DOMAINS: "),
        ("API_ADMIN_KEY", "short", "API_ADMIN_KEY: should be 24 to"),
        ("API_DRAIN", "1e9d", "API_DRAIN: "),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_is_asked(monkeypatch, capsys, name, value, says):
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit):
        load_settings(ApiSettings)

    said = capsys.readouterr().err
    assert said.startswith(says) and said.count("\n") == 1 and "short" not in said


@pytest.mark.parametrize("value", ["s3:/bucket", "gs:bucket", "ftp://x", "s3://"])
def test_a_store_that_is_misspelt_is_no_folder(monkeypatch, capsys, value):
    monkeypatch.setenv("REPORT_STORE_URL", value)

    with pytest.raises(SystemExit):
        load_settings(StoreSettings)
    assert capsys.readouterr().err.startswith("REPORT_STORE_URL: should ")
