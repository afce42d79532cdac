"""`streammesh dead` and `streammesh subscriptions`, against a mesh of real processes."""

from __future__ import annotations

import asyncio
import json

import pytest
from streammesh.cli.commands import app
from streammesh.embedded import free_port
from streammesh.testing.conditions import wait_until_sync
from typer.testing import CliRunner

from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker
from tests.integration.test_cli import ready
from tests.probe.record import switch

SERVICES = ["tests.probe"]


@pytest.fixture(scope="module")
def api(mesh):
    port = free_port()
    env = {**mesh.env, "API_PORT": str(port), "API_DEV_KEY_FILE": str(mesh.folder / "dev-key")}
    with MeshProcess("api", "services.api", env, mesh.folder) as process:
        process.url = f"http://127.0.0.1:{port}"
        wait_until_sync("the API is ready", lambda: ready(process), seconds=30)
        yield process


@pytest.fixture
def command(api, mesh, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMMESH_URL", api.url)
    monkeypatch.setenv("STREAMMESH_KEY", (mesh.folder / "dev-key").read_text().strip())
    return lambda *arguments, **more: CliRunner().invoke(app, arguments, **more)


@pytest.fixture
def fail(mesh):
    """Publish events whose tasks fail, and wait until they have."""

    def fail(count=1, subject="off", **data):
        async def run():
            client = mesh.client()
            ask = Asker(mesh, client)
            tasks = [await ask.run("probe.switched", data, subject=subject) for _ in range(count)]
            await client.aclose()
            return [task.id for task in tasks]

        return asyncio.run(run())

    return fail


def documents(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_letters_are_listed_shown_and_their_ids_can_be_copied(command, fail):
    [letter_id] = fail(subject="list", secret="<b>\x1b[31m")
    listed = command("dead", "list", "--reason", "LIST IS OFF")
    shown = command("dead", "show", letter_id)

    [line] = [line for line in listed.stdout.splitlines() if letter_id in line]
    assert line.split()[1:3] == ["probe.switched", "RuntimeError"]
    assert "\x1b[31m" not in shown.stdout
    assert "list is off" in shown.stdout and "Traceback" in shown.stdout and "envelope" in shown.stdout
    [document] = documents(command("dead", "list", "--reason", "list is off", "--json"))
    assert documents(command("dead", "show", letter_id, "--json"))[0]["id"] == document["id"] == letter_id


def test_a_dry_run_says_what_a_replay_does(command, fail, mesh):
    ids = fail(3, subject="replay")
    dry = command("dead", "replay", "--reason", "replay is off", "--dry-run")
    switch(mesh.record, "replay").touch()
    wet = command("dead", "replay", "--reason", "replay is off", "--rate", "100/s")
    [again] = documents(command("dead", "replay", "--reason", "replay is off", "--json"))

    assert (dry.exit_code, wet.exit_code) == (0, 0), dry.output + wet.output
    assert dry.stdout.splitlines() == ["      3  probe.switched  RuntimeError", "3 would be replayed"]
    assert wet.stdout.splitlines()[-1] == "3 replayed"
    assert (again["matched"], again["replayed"]) == (0, 0)

    def all_well():
        tasks = [documents(command("task", i, "--json"))[0] for i in ids]
        return all(task["state"] == "succeeded" for task in tasks)

    wait_until_sync("all succeeded", all_well)


def test_many_are_replayed_page_by_page(command, fail, mesh, monkeypatch):
    monkeypatch.setattr("streammesh.cli.dead.PAGE", 2)
    fail(5, subject="pages")
    [done] = documents(command("dead", "replay", "--reason", "pages is off", "--json"))

    assert (done["matched"], done["replayed"]) == (5, 5)


def test_dropping_asks_first(command, fail):
    [letter_id] = fail(subject="drop")
    refused = command("dead", "drop", letter_id, input="n\n")
    kept = documents(command("dead", "list", "--reason", "drop is off", "--json"))
    dropped = command("dead", "drop", letter_id, "--yes")

    assert (refused.exit_code, len(kept)) == (1, 1)
    assert dropped.stdout.splitlines()[-1] == "1 dropped"
    assert command("dead", "show", letter_id).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["replay", "some-id", "--all"],
        ["replay", "--all", "--service", "probe"],
        ["drop"],
        ["replay", "--all", "--rate", "fast"],
        ["list", "--since", "yesterday"],
    ],
)
def test_what_is_not_clear_is_refused_in_one_line(command, arguments):
    result = command("dead", *arguments)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")


def test_a_subscription_is_paused_and_resumed(command):
    paused = command("subscriptions", "pause", "probe.noop", "--reason", "we move house")
    listed = command("subscriptions", "list", "--paused")
    resumed = command("subscriptions", "resume", "probe.noop")
    [now] = documents(command("subscriptions", "list", "--json"))

    assert paused.stdout == "probe.noop is paused: we move house\n"
    assert "we move house" in listed.stdout and "probe.recorded" not in listed.stdout
    assert resumed.stdout == "probe.noop is on\n"
    assert {one["task"]: one["paused"] for one in now}["probe.noop"] is None
    assert command("subscriptions", "resume", "no.body").exit_code == 1
