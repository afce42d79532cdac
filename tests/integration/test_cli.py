"""The commands of those who publish and watch, against a mesh of real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from streammesh.api_keys import ApiKeys
from streammesh.cli.commands import app
from streammesh.embedded import free_port
from streammesh.lua import run
from streammesh.redisio.client import open_async
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call
from streammesh.testing.conditions import wait_until_sync
from typer.testing import CliRunner, Result

from tests.harness.processes import MeshProcess

SERVICES = ["tests.probe"]
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def api(mesh) -> Iterator[MeshProcess]:
    port = free_port()
    env = {**mesh.env, "API_PORT": str(port), "API_DEV_KEY_FILE": str(mesh.folder / "dev-key")}
    with MeshProcess("api", "services.api", env, mesh.folder) as process:
        process.url = f"http://127.0.0.1:{port}"
        wait_until_sync("the API is ready", lambda: ready(process), seconds=30)
        yield process


def ready(api: MeshProcess) -> bool:
    try:
        with urlopen(f"{api.url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture
def environment(api, mesh, monkeypatch, tmp_path) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    given = {
        "STREAMMESH_URL": api.url,
        "STREAMMESH_KEY": (mesh.folder / "dev-key").read_text().strip(),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


@pytest.fixture
def command(environment) -> Command:
    def run(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=input)

    return run


def documents(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def publish(command: Command, event_type: str = "probe.noop", *more: str) -> dict[str, Any]:
    result = command("publish", event_type, *more, "--json")
    assert result.exit_code == 0, result.output
    return documents(result)[0]


def test_an_event_is_published_and_followed_to_its_end(command):
    result = command("publish", "probe.slow", '{"seconds": 0.05}', "--subject", "n/1", "--wait")

    assert (result.exit_code, result.stderr) == (0, "")
    first, *told = result.stdout.splitlines()
    assert first.startswith("probe.slow  ")
    types = ["task.queued", "task.started", "task.progress", "task.succeeded", "event.completed"]
    assert [line.split()[1] for line in told] == types
    assert "50%  half way" in told[2]


def test_publish_says_in_its_exit_code_that_a_task_failed(command):
    result = command("publish", "probe.rejected", "{}", "--wait")

    assert result.exit_code == 4
    assert "it can never succeed" in result.stdout


def test_waiting_has_a_limit_and_says_for_what_it_waits(command):
    result = command("publish", "probe.slow", '{"seconds": 8}', "--wait", "--timeout", "3.5")

    assert result.exit_code == 6
    assert result.stderr.splitlines() == [
        "waiting: probe.slow is started",
        "not ended after 3.5 s: probe.slow is started",
    ]


def test_the_same_id_is_a_duplicate_and_other_content_under_it_is_refused(command):
    first = command("publish", "probe.noop", '{"n": 1}', "--id", "a/b ?x")
    again = command("publish", "probe.noop", '{"n": 1}', "--id", "a/b ?x")
    other = command("publish", "probe.noop", '{"n": 2}', "--id", "a/b ?x")

    assert "known already" not in first.stdout
    assert "known already" in again.stdout
    assert (other.exit_code, other.stdout) == (1, "")
    assert other.stderr.startswith("error: 409: ")


def test_data_comes_from_an_argument_a_file_or_standard_input(command, tmp_path):
    (tmp_path / "data.json").write_text('{"from": "file"}')
    ids = [
        publish(command, "probe.noop", '{"from": "argument"}')["id"],
        publish(command, "probe.noop", "@data.json")["id"],
        documents(command("publish", "probe.noop", "-", "--json", input='{"from": "stdin"}'))[0]["id"],
        publish(command)["id"],
    ]
    shown = [documents(command("event", event_id, "--json"))[0]["event"].get("data") for event_id in ids]
    assert shown == [{"from": "argument"}, {"from": "file"}, {"from": "stdin"}, None]


def test_further_attributes_can_be_set(command):
    sent = publish(
        command, "probe.noop", "{}", "--source", "shop", "--set", "priority=9", "--set", "correlationid=c=1"
    )
    envelope = documents(command("event", sent["id"], "--json"))[0]["event"]
    assert (sent["source"], envelope["priority"], envelope["correlationid"]) == ("shop", 9, "c=1")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("publish", "probe.noop", "{"), 2, "the data is not JSON"),
        (("publish", "probe.noop", "@nowhere.json"), 2, "nowhere.json: No such file"),
        (("publish", "probe.noop", "--set", "priority"), 2, "should be NAME=VALUE"),
        (("publish", "probe.noop", "--set", "id=1"), 2, "has an argument or option of its own"),
        (("publish", "x" * 257), 1, "422: /type: should have at most 256 characters"),
        (("publish", "probe.noop", "--set", "priority=11"), 1, "422: /priority"),
        (("publish", "probe.noop", "--key", "smk_wrong"), 1, "401: "),
        (("publish", "probe.noop", "--url", "http://127.0.0.1:1"), 3, "cannot be reached"),
        (("watch", "--url", "http://127.0.0.1:1"), 3, "cannot be reached"),
        (("watch", "--key", "smk_wrong"), 1, "401: "),
        (("watch", "--source", "shop"), 2, "needs --event"),
        (("watch", "--after", "yesterday"), 1, "400: "),
        (("event", "no-such-event"), 1, "404: There is no event 'no-such-event'"),
        (("tasks", "no-such-event"), 1, "404: "),
        (("task", "no-such-task"), 1, "404: There is no task 'no-such-task'"),
        (("event", "x", "--url", "ftp://mesh.example"), 2, "should start with http://"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(command, arguments, code, words):
    result = command(*arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr


def test_something_else_than_a_mesh_at_the_url_is_told(command, mesh):
    redis_port = mesh.server.url.rpartition(":")[2].partition("/")[0]
    result = command("event", "x", "--url", f"http://127.0.0.1:{redis_port}")
    assert result.exit_code in (1, 3)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_an_event_is_shown_with_its_tasks_and_what_they_led_to(command):
    sent = publish(command, "probe.followed", "{}", "--wait", "--subject", "n/2")

    shown = command("event", sent["id"]).stdout
    listed = command("tasks", sent["id"]).stdout
    [task] = documents(command("tasks", sent["id"], "--json"))[0]
    one = command("task", task["id"]).stdout

    assert "state      completed: Its one task ended." in shown
    assert "subject    n/2" in shown
    assert "led to probe.recorded  " in shown
    assert listed.splitlines()[1].startswith("probe.followed  succeeded")
    assert one.splitlines()[0].split() == ["task", "probe.followed", task["id"]]
    assert documents(command("task", task["id"], "--json"))[0]["state"] == "succeeded"


def test_it_is_shown_why_nothing_ran(command):
    ran = [
        command("publish", "nobody.wants", "{}", "--wait", "--json"),
        command("publish", "probe.filtered", '{"wanted": false}', "--wait", "--json"),
    ]
    assert [result.exit_code for result in ran] == [5, 5], "nothing ran is neither success nor failure"
    unwanted, filtered = (documents(result)[0]["id"] for result in ran)

    assert "unrouted: Nothing ran: no service subscribes to its type." in command("event", unwanted).stdout
    assert "not to probe.filtered: its `where` filter does not fit" in command("event", filtered).stdout
    assert command("tasks", unwanted).stdout.startswith("no tasks")


def test_where_two_sources_used_an_id_the_one_meant_is_named(command):
    for source in ("shop", "stock"):
        publish(command, "probe.noop", "{}", "--id", "twice", "--source", source, "--wait")

    ambiguous = command("event", "twice")
    named = command("event", "twice", "--source", "stock", "--json")
    watched = command("watch", "--event", "twice", "--source", "shop", "--json")

    assert (ambiguous.exit_code, "409: " in ambiguous.stderr) == (1, True)
    assert documents(named)[0]["source"] == "stock"
    assert {note["event"]["source"] for note in documents(watched)} == {"shop"}


def test_watching_one_event_tells_its_past_and_ends_with_it(command):
    event_id = publish(command, "probe.slow", '{"seconds": 0.05}', "--wait")["id"]

    everything = documents(command("watch", "--event", event_id, "--json"))
    some = documents(command("watch", "--event", event_id, "--type", "task.p*", "--json"))
    rest = documents(command("watch", "--event", event_id, "--after", everything[1]["id"], "--json"))
    nothing = command("watch", "--event", event_id, "--after", everything[-1]["id"])

    assert [note["type"] for note in some] == ["task.progress"]
    assert rest == everything[2:]
    assert (nothing.exit_code, nothing.stdout) == (0, "")


def test_watching_goes_on_from_a_position_and_ends_after_a_count(command):
    """By subject, too: what other tests began may end meanwhile."""
    first = publish(command, "probe.noop", "{}", "--wait", "--subject", "watched")["id"]
    begin = documents(command("watch", "--event", first, "--json"))[-1]["id"]
    later = [
        publish(command, "probe.noop", json.dumps({"n": n}), "--wait", "--subject", "watched")["id"]
        for n in range(3)
    ]
    watch = ("watch", "--after", begin, "--json", "--subject", "watched")

    ended = documents(command(*watch, "--type", "event.*", "--count", "3"))
    all_of_one = documents(command(*watch, "--count", "4"))
    of_service = documents(command("watch", "--after", begin, "--service", "probe", "--count", "9", "--json"))

    assert [note["event"]["id"] for note in ended] == later
    assert {note["event"]["id"] for note in all_of_one} == {later[0]}
    assert {note["task"]["service"] for note in of_service} == {"probe"}


def test_a_key_may_watch_only_what_it_is_for(command, mesh):
    async def limited() -> str:
        client = open_async(mesh.settings, "test")
        try:
            return await ApiKeys(client, mesh.keys).create(
                "limited", publish=["probe.*"], subscribe=["user.*"]
            )
        finally:
            await client.aclose()

    key = asyncio.run(limited())
    sent = command("publish", "probe.noop", "{}", "--key", key, "--json")
    other = command("publish", "user.registered", "{}", "--key", key)

    assert sent.exit_code == 0
    assert "403: " in other.stderr
    assert command("event", documents(sent)[0]["id"], "--key", key).exit_code == 1


def test_a_watch_goes_on_when_the_api_was_away_and_ends_with_ctrl_c(command, api, environment, tmp_path):
    said = tmp_path / "watch.jsonl"
    with said.open("wb") as out:
        watching = subprocess.Popen(
            [sys.executable, "-m", "streammesh.cli", "watch", "--type", "event.completed", "--json"],
            stdout=out,
            stderr=subprocess.PIPE,
            # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def told() -> list[str]:
        return [json.loads(line)["event"]["id"] for line in said.read_text().splitlines()]

    def told_after_publishing() -> str | None:
        """Until it listens, what is published goes by; so publish until something is told."""
        event_id = publish(command, "probe.noop", "{}", "--wait")["id"]
        return event_id if event_id in told() else None

    try:
        wait_until_sync("the watch listens", told_after_publishing, every=0.1)
        before = told()
        assert api.stop() == 0
        api.start()
        wait_until_sync("the API is ready again", lambda: ready(api), seconds=30)
        missed = publish(command, "probe.noop", "{}", "--wait")["id"]
        wait_until_sync("the watch tells what came after", lambda: missed in told())
        assert told()[: len(before)] == before and len(told()) == len(set(told()))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
        assert watching.stderr is not None
        said = watching.stderr.read().decode()
        assert said == "" or (said.startswith("the mesh is away (") and said.count("\n") == 1)
    finally:
        watching.kill()
        watching.wait()
        if watching.stderr:
            watching.stderr.close()


def test_status_says_what_is_wrong_and_its_exit_code_how_bad_it_is(command):
    told = command("status", "--json")
    shown = command("status")

    [found] = documents(told)
    assert (found["status"], told.exit_code, shown.exit_code) == ("degraded", 4, 4)
    assert "no-beat" in {one["code"] for one in found["findings"]}
    assert "no Beat is alive: nothing is scheduled" in shown.stdout and "probe" in shown.stdout
    assert command("status", "--url", "http://127.0.0.1:9", "--key", "smk_x").exit_code == 3


def test_services_are_listed_with_their_workers(command):
    [found] = documents(command("services", "list", "--json"))
    shown = command("services", "list")

    [probe] = [one for one in found if one["service"] == "probe"]
    assert probe["workers"] == 1 and probe["last_seen"] and probe["lag"] == 0
    assert shown.exit_code == 0 and shown.stdout.splitlines()[0].startswith("service")


def test_a_service_that_works_is_not_removed(command):
    refused = command("services", "remove", "probe")

    assert refused.exit_code == 1 and "1 of its workers live" in refused.stderr
    assert command("services", "remove", "nobody").exit_code == 1


async def test_a_service_that_left_is_removed(command, mesh):
    wants = Subscription("retired", "retired.never", "retired.never")
    async with mesh.client() as redis:
        await run(redis, register_call(mesh.keys, Manifest("retired", subscriptions=(wants,))))
        await asyncio.to_thread(publish, command, "retired.never")
        removed = await asyncio.to_thread(command, "services", "remove", "retired", "--drop")
        listed = documents(await asyncio.to_thread(command, "services", "list", "--json"))[0]

    assert removed.exit_code == 0 and removed.stdout.startswith("retired is removed; ")
    assert "retired" not in {one["service"] for one in listed}


def test_top_shows_services_and_schedules_are_switched(command):
    shown = command("top", "--count", "2", "--every", "0.2")
    assert shown.exit_code == 0, shown.output
    assert "probe" in shown.output and "gone in" in shown.output
    lines = command("top", "--count", "2", "--every", "0.2", "--json").output.splitlines()
    assert [row["service"] for row in json.loads(lines[-1])["services"]] == ["probe"]
    assert command("schedules", "list", "--json").output.strip() == "[]"
    assert command("schedules", "list").output.strip() == "no schedule is stored"
    refused = command("schedules", "disable", "nobody")
    assert refused.exit_code == 1 and "nobody" in refused.output
