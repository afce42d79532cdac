"""Compose's own Redis with a user for each container: the script that starts it, and processes with those users' URLs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from streammesh.embedded import find_server, free_port
from streammesh.keys import Keys
from streammesh.testing.conditions import wait_until, wait_until_sync

from deploy import redis_users
from services.email_worker.tests.mail_server import MailServer
from tests.harness.processes import ROOT, MeshProcess

KEY = "a-key-for-the-tests-of-users-1234"
OPERATOR = "the-operators-own"
NAMESPACE = "night-shift"
PASSWORDS = dict(line.split("=") for line in redis_users.passwords())
SCRIPTS = ROOT / "deploy" / "redis"


def start(folder: Path, port: int, **env: str) -> subprocess.Popen[str]:
    """Start Redis as its container does, on another port and in another folder."""
    for name in ("start.sh", "users.acl"):
        (folder / name).write_text((SCRIPTS / name).read_text())
    conf = (SCRIPTS / "redis.conf").read_text().replace("bind * -::*", "bind 127.0.0.1")
    conf = conf.replace("port 6379", f"port {port}").replace("dir /data", f"dir {folder}")
    (folder / "redis.conf").write_text(conf)
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "redis-server").unlink(missing_ok=True)
    (programs / "redis-server").symlink_to(find_server())
    given = {"PATH": f"{programs}:{os.environ['PATH']}", "REDISCLI_AUTH": OPERATOR, "REDIS_USERS": "yes"}
    return subprocess.Popen(
        ["sh", str(folder / "start.sh")],
        env={**given, "MESH_NAMESPACE": NAMESPACE, **PASSWORDS, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def url_of(container: str, port: int) -> str:
    """Return what Compose gives a container."""
    services = yaml.safe_load((ROOT / "deploy" / "compose" / "users.yml").read_text())["services"]
    url = services[container]["environment"]["MESH_REDIS_URL"]
    return re.sub(r"\$\{(\w+)\}", lambda found: PASSWORDS[found[1]], url).replace(
        "@redis:6379", f"@127.0.0.1:{port}"
    )


async def test_an_event_runs_with_a_user_of_redis_for_each_process(tmp_path):
    port, flower = free_port(), free_port()
    server, mails = start(tmp_path, port), MailServer()
    processes: list[MeshProcess] = []
    await mails.start()
    try:
        admin = redis.Redis(port=port, password=OPERATOR, decode_responses=True)

        def answers() -> bool:
            try:
                return bool(admin.ping())
            except redis.ConnectionError:
                return False

        wait_until_sync("Redis answers", answers, seconds=20)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        for name, module in (
            ("dispatcher", "services.dispatcher"),
            ("email_worker", "services.email_worker"),
            ("flower", "deploy.flower"),
            ("api", "services.api"),
        ):
            env = {
                "MESH_REDIS_URL": url_of(name, port),
                "MESH_NAMESPACE": NAMESPACE,
                "MESH_LOG_FORMAT": "json",
                "API_PORT": "0",
                "API_ADMIN_KEY": KEY,
                "REPORT_STORE_URL": str(tmp_path / "store"),
                "EMAIL_SMTP_URL": f"smtp://127.0.0.1:{mails.port}",
                "FLOWER_PORT": str(flower),
                "FLOWER_BASIC_AUTH": "watcher:a-long-password",
            }
            processes.append(MeshProcess(name, module, env, tmp_path).start())
        log = processes[-1].log

        async def listens() -> Any:
            return re.search(r'"url":"(http://[^"]+)"', log.read_text())

        async def lives() -> bool:
            return bool(admin.zcard(Keys(NAMESPACE).alive("email_worker")))

        url = (await wait_until("the API listens", listens, seconds=40))[1]
        await wait_until("the email worker shows life", lives, seconds=40)
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}) as client:
            data = {"user_id": 42, "email": "ada@example.com"}
            sent = await client.post(
                "/v1/events",
                params={"wait": "20s"},
                json={"type": "user.registered", "data": data},
                timeout=30,
            )
            assert (sent.status_code, sent.json()["state"]) == (200, "completed"), sent.text
            assert [one.recipients for one in mails.mails] == [["ada@example.com"]]
            about = f"http://127.0.0.1:{flower}/api/workers"

            async def shown() -> bool:
                try:
                    answer = await client.get(
                        about, params={"refresh": "1"}, auth=("watcher", "a-long-password")
                    )
                except httpx.TransportError:
                    return False
                return answer.status_code == 200 and "email_worker" in answer.text

            await wait_until("Flower shows the worker", shown, seconds=40, every=0.2)
        denied = {(one["username"], one["object"]) for one in admin.acl_log() if one["reason"] != "auth"}
        # Inspector looks at CONFIG, and for a mesh of this name in shards, where it may.
        assert {object for _, object in denied} <= {"config|get", f"{{{NAMESPACE}.0}}:format"}
    finally:
        for process in processes:
            process.stop()
        await mails.stop()
        server.terminate()
        server.communicate(timeout=20)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"REDIS_PASSWORD_API": ""}, "REDIS_PASSWORD_API: use letters, digits"),
        ({"REDIS_PASSWORD_FLOWER": "a b >c"}, "REDIS_PASSWORD_FLOWER: use letters, digits"),
        ({"MESH_NAMESPACE": "a/b"}, "MESH_NAMESPACE: use letters, digits"),
    ],
)
def test_a_password_that_is_missing_or_no_word_ends_the_start(tmp_path, env, said):
    server = start(tmp_path, free_port(), **env)
    _, error = server.communicate(timeout=20)
    assert (server.returncode, said in error) == (2, True), error
