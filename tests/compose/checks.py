"""What must hold of the running containers, each check a function whose name is the sentence it proves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import httpx

from tests.compose.engine import ROOT, docker
from tests.compose.front_door import FrontDoor
from tests.compose.mesh import Mesh
from tests.compose.other_repository import NAME, health_of, joined

SERVICES = ("api", "archiver", "dispatcher", "email_worker", "report_worker", "scheduler", "webhook_worker")
WORKERS = ("email_worker", "report_worker")


def require(condition: object, text: str) -> None:
    """Raise AssertionError with the text unless the condition holds."""
    if not condition:
        raise AssertionError(text)


def every_image_holds_one_service_and_the_kit(mesh: Mesh) -> str:
    listing = "import os, streammesh; print(*sorted(n for n in os.listdir('/app/services') if n[0] != '_'))"
    for service in (*SERVICES, "flower"):
        found = docker("run", "--rm", "--entrypoint", "python", mesh.images[service], "-c", listing)
        require(found.split() == [service], f"the image of {service} holds {found.split()}")
    return f"{len(SERVICES) + 1} images"


def every_container_is_healthy(mesh: Mesh) -> str:
    counted = 0
    for service, described in mesh.project.config().items():
        if described.get("profiles"):
            continue
        wanted = described.get("deploy", {}).get("replicas", 1)
        states = [item["State"]["Health"]["Status"] for item in mesh.containers(service)]
        require(states == ["healthy"] * wanted, f"{service}: {states}, wanted {wanted} healthy")
        counted += wanted
    return f"{counted} containers"


def the_status_is_ok(mesh: Mesh) -> str:
    said: dict[str, object] = {}

    def is_ok() -> bool:
        said.update(json.loads(mesh.project.compose("run", "--rm", "-T", "tools", "status", "--json")))
        return said["status"] == "ok"

    mesh.wait_for(is_ok, "a status without findings")
    return f"{said['dispatchers']} dispatchers, {said['beats']} Beat, {said['apis']} API"


def every_process_is_unprivileged(mesh: Mesh) -> str:
    for container in mesh.containers():
        name = mesh.service_of(container)
        status = mesh.inside(container, "cat", "/proc/1/status")
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        require("0" not in values["Uid"].split(), f"{name} runs as root")
        require(int(values["CapEff"], 16) == 0, f"{name} has capabilities: {values['CapEff']}")
        require(values["NoNewPrivs"] == "1", f"{name} may gain privileges")
    return "no root, no capabilities, none to be gained"


def no_root_file_system_can_be_written(mesh: Mesh) -> str:
    for container in mesh.containers():
        name = mesh.service_of(container)
        for folder in ("", "/app") if name in SERVICES else ("", "/usr"):
            done = mesh.attempt(container, "touch", f"{folder}/written")
            require(done.returncode != 0, f"{name} could write to {folder}/")
            require("Read-only" in done.stderr, f"{name}: {done.stderr.strip()}")
    return "read-only file system"


def python_is_process_one(mesh: Mesh) -> str:
    for service in (*SERVICES, "flower"):
        for container in mesh.containers(service):
            command = mesh.inside(container, "cat", "/proc/1/cmdline").split("\0")
            require(command[0].endswith("python"), f"{service}: process 1 is {command[:2]}")
    return "signals reach the service"


def ports_are_open_on_loopback_only(mesh: Mesh) -> str:
    bound = [
        (mesh.service_of(container), port["HostIp"])
        for container in mesh.containers()
        for ports in container["NetworkSettings"]["Ports"].values()
        for port in ports or []
    ]
    require(bound, "nothing is published at all")
    require({ip for _, ip in bound} == {"127.0.0.1"}, f"published: {bound}")
    require("redis" not in {service for service, _ in bound}, "Redis is published")
    return ", ".join(sorted({service for service, _ in bound}))


def redis_wants_its_password_and_keeps_what_it_has(mesh: Mesh) -> str:
    [redis] = mesh.containers("redis")
    refused = mesh.inside(redis, "env", "-u", "REDISCLI_AUTH", "redis-cli", "XLEN", "any")
    require("NOAUTH" in refused, f"without a password Redis said: {refused.strip()}")
    for name, wanted in (
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
    ):
        value = mesh.inside(redis, "redis-cli", "CONFIG", "GET", name).split()[-1]
        require(value == wanted, f"{name} is {value}")
    return "NOAUTH; appendonly everysec, noeviction"


def a_worker_from_a_repository_of_its_own_joins_and_goes(mesh: Mesh) -> str:
    with joined(mesh.project) as team, FrontDoor(mesh.api_url, mesh.api_key) as door:
        found = health_of(team)
        require(found == {"health": "healthy", "root": False, "capabilities": 0}, f"it is {found}")
        notes = door.follow(door.publish("billing.requested", {"amount": 10}))
        ended = [note["type"] for note in notes]
        require("task.succeeded" in ended, f"was told: {ended}")
        team.compose("stop")
        [container] = team.containers()
        require(container["State"]["ExitCode"] == 0, f"its exit code is {container['State']['ExitCode']}")
    mesh.project.compose("run", "--rm", "-T", "tools", "services", "remove", NAME)
    return f"{NAME} ran billing.requested, drained and was removed"


def flower_wants_its_password(mesh: Mesh) -> str:
    for path in ("/", "/tasks", "/api/workers", "/api/queues/length"):
        without = httpx.get(mesh.flower_url + path).status_code
        require(without == 401, f"{path} without a password answers {without}")
        wrong = httpx.get(mesh.flower_url + path, auth=("watcher", "wrong")).status_code
        require(wrong == 401, f"{path} with a wrong password answers {wrong}")
    with httpx.Client(base_url=mesh.flower_url, auth=mesh.flower_auth) as flower:
        require(flower.get("/").status_code == 200, "its page does not open with the password")
        sent = flower.post("/api/task/send-task/email_worker.any", json={"args": []})
        require(sent.status_code == 403, f"a task could be sent past the mesh: {sent.status_code}")
        stop = flower.post("/api/worker/shutdown/any@any")
        require(stop.status_code == 403, f"a worker could be stopped: {stop.status_code}")
    return "401 without, 200 with; sending tasks and stopping workers are refused"


def flower_shows_queues_workers_and_tasks(mesh: Mesh) -> str:
    wanted = 2 * len(WORKERS) + 1  # the scheduler works as well

    def workers() -> list[str]:
        shown = flower.get("/workers", params={"json": "1"}).json()["data"]
        return [worker["hostname"] for worker in shown if worker["status"]]

    def tasks() -> set[str]:
        return {task["name"] for task in flower.get("/api/tasks").json().values()}

    with (
        httpx.Client(base_url=mesh.flower_url, auth=mesh.flower_auth, timeout=20) as flower,
        FrontDoor(mesh.api_url, mesh.api_key) as door,
    ):
        answer = flower.get("/api/queues/length")
        require(answer.status_code == 200, f"queue lengths: {answer.status_code} {answer.text[-300:]}")
        queues = {queue["name"] for queue in answer.json()["active_queues"]}
        require({*WORKERS, "scheduler"} <= queues, f"it shows the queues {queues}")
        mesh.wait_for(lambda: len(workers()) >= wanted, f"{wanted} workers that are online in Flower")
        door.follow(
            door.publish("user.registered", {"user_id": 5, "email": "eve@example.com", "name": "Eve"})
        )
        mesh.wait_for(lambda: "email_worker.send_welcome" in tasks(), "the task in Flower")
        return f"queues {', '.join(sorted(queues))}; {len(workers())} workers online"


def nothing_is_amiss_in_the_logs(mesh: Mesh) -> str:
    lines = mesh.project.compose("logs", "--no-color", *SERVICES, "flower").splitlines()
    bad = [
        line for line in lines if "Traceback" in line or '"level":"error"' in line or "py.warnings" in line
    ]
    require(not bad, "\n".join(bad[:5]))
    return f"no error, no warning of Python's in {len(lines)} lines"


def the_demo_runs_against_it(mesh: Mesh) -> str:
    command = [sys.executable, "-m", "streammesh.cli", "demo", "--url", mesh.api_url]
    env = os.environ | {"STREAMMESH_KEY": mesh.api_key}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=120)
    print(
        "".join(f"          | {line}\n" for line in (done.stdout + done.stderr).splitlines()),
        end="",
        flush=True,
    )
    require(done.returncode == 0, f"it exited {done.returncode}")
    return "exit code 0"


def an_event_becomes_an_email_and_the_client_is_told(mesh: Mesh) -> str:
    with FrontDoor(mesh.api_url, mesh.api_key) as door:
        event = door.publish("user.registered", {"user_id": 42, "email": "ada@example.com", "name": "Ada"})
        notes = door.follow(event)
    require("task.succeeded" in [note["type"] for note in notes], f"was told: {notes}")
    mesh.wait_for(lambda: "ada@example.com" in mesh.caught_mail(), "the e-mail at the catcher")
    return f"{len(notes)} notifications, e-mail to ada@example.com caught"


def an_uploaded_file_becomes_a_pdf_and_an_attachment(mesh: Mesh) -> str:
    rows = "".join(f"{country},{value}\n" for value in range(40) for country in ("DE", "AT", "JP"))
    with FrontDoor(mesh.api_url, mesh.api_key) as door:
        report = door.upload_report(
            "country,total\n" + rows, group_by="country", recipient="boss@example.com"
        )
        told = [note["type"] for note in door.follow(report, timeout=60)]
        require("task.succeeded" in told, f"was told: {told}")
        pdf = door.pdf(report)
    require(pdf.startswith(b"%PDF-"), f"begins with {pdf[:20]!r}")
    mesh.wait_for(lambda: "boss@example.com" in mesh.caught_mail(), "the report's e-mail")
    # The worker reads the PDF from a volume that it cannot write to.
    caught = mesh.caught_mail().replace(" ", "")
    require("application/pdf" in caught or '"Attachments":1' in caught, "nothing is attached to it")
    return f"{len(pdf):,} bytes of PDF, downloaded and attached"


def both_replicas_of_the_email_worker_take_part(mesh: Mesh) -> str:
    names = {item["Config"]["Hostname"] for item in mesh.containers("email_worker")}
    require(len(names) == 2, f"there are {len(names)}")
    workers: set[str] = set()
    with FrontDoor(mesh.api_url, mesh.api_key) as door:
        for attempt in range(20):
            data = {"email": f"user{attempt}@example.com", "name": "User"}
            events = [
                door.publish("user.registered", {"user_id": 100 * attempt + n, **data}) for n in range(20)
            ]
            for event in events:
                workers |= door.workers_of(door.follow(event))
            hosts = {name for name in names for worker in workers if name in worker}
            if hosts == names:
                return f"both had tasks after {20 * (attempt + 1)} events"
    raise AssertionError(f"only {workers} had tasks, not both of {names}")


def a_restart_of_redis_loses_nothing(mesh: Mesh) -> str:
    with FrontDoor(mesh.api_url, mesh.api_key) as door:
        before = door.publish("user.registered", {"user_id": 7, "email": "before@example.com", "name": "B"})
        mesh.project.compose("restart", "redis")
        started = time.monotonic()
        mesh.wait_for(lambda: door.known(before), "the event after the restart")
        mesh.wait_for(lambda: door.ready(), "readiness after the restart")
        after = door.publish("user.registered", {"user_id": 8, "email": "after@example.com", "name": "A"})
        for event in (before, after):
            told = [note["type"] for note in door.follow(event, timeout=60)]
            require("task.succeeded" in told, f"was told: {told}")
    return f"all was well {time.monotonic() - started:.1f} s after it was back"


def what_ends_while_the_history_is_away_is_in_it_afterwards(mesh: Mesh) -> str:
    with FrontDoor(mesh.api_url, mesh.api_key) as door:
        mesh.project.compose("kill", "history")
        event = door.publish("user.registered", {"user_id": 9, "email": "away@example.com", "name": "A"})
        told = [note["type"] for note in door.follow(event)]
        require("task.succeeded" in told, f"without its history it said: {told}")
    mesh.project.compose("start", "history")
    started = time.monotonic()
    mesh.wait_for(
        lambda: mesh.in_history(event) == "completed|succeeded", "the ended event in the history", 120
    )
    return f"{time.monotonic() - started:.1f} s after it was back"


def no_secret_is_in_a_log_or_a_command_line(mesh: Mesh) -> str:
    secrets = {
        "REDIS_PASSWORD": mesh.redis_password,
        "HISTORY_PASSWORD": mesh.history_password,
        "FLOWER_BASIC_AUTH": mesh.flower_auth[1],
        "API_ADMIN_KEY": mesh.api_key,
    }
    logs = mesh.project.compose("logs", "--no-color")
    for name, secret in secrets.items():
        where = next((line.split("|")[0].strip() for line in logs.splitlines() if secret in line), None)
        require(where is None, f"{name} is in the log of {where}")
    for container in mesh.containers():
        command = mesh.inside(container, "cat", "/proc/1/cmdline")
        leaked = [name for name, secret in secrets.items() if secret in command]
        require(not leaked, f"{leaked} on the command line of {mesh.service_of(container)}")
    return f"{len(logs.splitlines()):,} lines of log"


def everything_stops_by_itself(mesh: Mesh) -> str:
    started = time.monotonic()
    mesh.project.compose("stop")
    took = time.monotonic() - started
    ended = {mesh.service_of(item): item["State"]["ExitCode"] for item in mesh.containers()}
    require(set(ended.values()) == {0}, f"exit codes: {ended}")
    require(took < 30, f"it took {took:.0f} s")
    return f"in {took:.1f} s, exit code 0 each"


CHECKS: list[Callable[[Mesh], str]] = [
    every_image_holds_one_service_and_the_kit,
    every_container_is_healthy,
    the_status_is_ok,
    every_process_is_unprivileged,
    no_root_file_system_can_be_written,
    python_is_process_one,
    ports_are_open_on_loopback_only,
    redis_wants_its_password_and_keeps_what_it_has,
    the_demo_runs_against_it,
    an_event_becomes_an_email_and_the_client_is_told,
    an_uploaded_file_becomes_a_pdf_and_an_attachment,
    both_replicas_of_the_email_worker_take_part,
    a_worker_from_a_repository_of_its_own_joins_and_goes,
    flower_wants_its_password,
    flower_shows_queues_workers_and_tasks,
    nothing_is_amiss_in_the_logs,
    a_restart_of_redis_loses_nothing,
    what_ends_while_the_history_is_away_is_in_it_afterwards,
    no_secret_is_in_a_log_or_a_command_line,
    everything_stops_by_itself,
]
