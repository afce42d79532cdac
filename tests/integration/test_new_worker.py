"""`streammesh new-worker` and `streammesh check`: from nothing to a worker that runs in the mesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copyfile

import pytest
from streammesh.cli.commands import app
from streammesh.redisio.heartbeat import alive
from streammesh.testing.conditions import wait_until
from typer.testing import CliRunner

from tests.harness.processes import ROOT, MeshProcess

SERVICES: list[str] = []
NAME = "billing_worker"


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(() if arguments[0] == "-c" else ("-m",)), *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=150,  # on a machine with other work
        check=False,
    )


def streammesh(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "streammesh.cli", *arguments)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one new worker."""
    root = tmp_path_factory.mktemp("tree")
    (root / "services").mkdir()
    (root / "services" / "__init__.py").touch()
    made = streammesh(root, "new-worker", NAME)
    assert made.returncode == 0, made.stderr
    return root


def test_its_tests_pass_as_they_are(tree):
    options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    ran = run(tree, "pytest", "-q", *options, f"services/{NAME}")
    assert ran.returncode == 0, ran.stdout[-3000:]


def test_it_keeps_the_house_rules(tree):
    config = ["--config", str(ROOT / "pyproject.toml")]
    lint = run(tree, "ruff", "check", "-q", "--no-cache", *config, "services")
    order = run(tree, "ruff", "format", "--check", "-q", "--no-cache", *config, "services")
    assert (lint.returncode, order.returncode) == (0, 0), lint.stdout + order.stdout


@pytest.mark.timeout(300)
def test_it_leaves_the_checks_of_the_repository_green(tmp_path):
    """As `make check` after `streammesh new-worker` in a clone; the rest of it does not look at services."""
    listed = run(ROOT, "-c", "import subprocess; subprocess.run(['git', 'ls-files', '-z'], check=True)")
    if listed.returncode:
        pytest.skip("not a clone: git does not say which files belong to it")
    for name in filter(None, listed.stdout.split("\0")):
        if (
            name.startswith(("services/", "deploy/", "tests/architecture/", "examples/", "shared/", "docs/"))
            or "/" not in name
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "tests" / "__init__.py").touch()
    made = streammesh(tmp_path, "new-worker", NAME)
    assert made.returncode == 0 and "COMPOSE_FILE" in made.stdout

    wanted = "env_example or compose or container or team or image_holds"
    options = ["-q", "-p", "no:cacheprovider", "-k", f"({wanted}) and not (email or report or api)"]
    rules = run(tmp_path, "pytest", *options, "tests/architecture/test_deployment.py")
    assert rules.returncode == 0, rules.stdout[-3000:]
    for other in ("shipping", "mesh_worker"):  # a gerund, and a class that is called as one of the kit's
        assert streammesh(tmp_path, "new-worker", other).returncode == 0
    rules = run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "tests/architecture/test_names.py")
    assert rules.returncode == 0, rules.stdout[-3000:]
    types = run(tmp_path, "mypy", "--no-error-summary", "--follow-imports=silent", f"services/{NAME}")
    assert types.returncode == 0, types.stdout + types.stderr


def test_nothing_stands_against_its_joining(tree):
    said = streammesh(tree, "check", NAME)
    found = json.loads(streammesh(tree, "check", NAME, "--json").stdout)

    assert said.returncode == 0
    assert said.stdout.splitlines() == [
        "billing.requested -> billing_worker.handle_request (BillingRequested)",
        "billing_worker may join; pool: async",
    ]
    assert found["problems"] == []
    assert found["subscriptions"][0]["schema"]["required"] == ["amount"]


async def test_it_joins_a_mesh_that_runs(tree, mesh, ask):
    with MeshProcess(NAME, f"services.{NAME}", mesh.env, mesh.folder, root=tree):

        async def shows_life() -> bool:
            return bool(await alive(ask.redis, ask.mesh.keys, NAME))

        await wait_until("the new worker shows life", shows_life, seconds=30)
        event_id = await ask.publish("billing.requested", {"amount": 10})
        [task] = await ask.ended(event_id)
        refused = await ask.run("billing.requested", {"amount": 1001})

    assert (task.state, task.result) == ("succeeded", {"amount": 10})
    assert [event["type"] for event in task.events] == ["billing.handled"]
    assert "task.progress" in await ask.told(event_id)
    assert (refused.state, refused.error["reason"]) == ("failed", "1001 is above the limit")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("Billing", 2, "use lower-case letters"),
        ("class", 2, "class_worker"),
        ("redis", 2, "redis_worker"),
        ("tests", 2, "tests_worker"),
        ("../evil", 2, "use lower-case letters"),
        ("1st", 2, "use lower-case letters"),
        (NAME, 1, "is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tree, name, code, words, monkeypatch):
    before = sorted(tree.rglob("*"))
    monkeypatch.chdir(tree)
    made = CliRunner().invoke(app, ["new-worker", name])

    assert (made.exit_code, made.stdout) == (code, "")
    assert made.stderr.startswith("error: ") and words in made.stderr
    assert [path for path in sorted(tree.rglob("*")) if path not in before] == []


def test_outside_a_repository_it_is_said_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["new-worker", NAME])
    assert (made.exit_code, "--folder" in made.stderr) == (1, True)


WRONG = {
    "service = Service('other_worker')\n@service.on('a.b')\ndef x(): ...": "call both the same",
    "service = Service('bad_worker')": "subscribes to nothing",
    "service = Service('bad_worker')\n@service.on('a.b\\n')\ndef x(): ...": "is not an event type or a glob",
    "service = Service('bad_worker')\n@service.on('a.b')\ndef x(*all): ...": "/handlers.py:3: x: a handler takes",
    "service = Service('bad_worker')\n@service.on('a.b', retries='3')\ndef x(): ...": "/handlers.py:3: retries='3'",
    "service = Service('bad_worker')\n@service.on\ndef x(): ...": "/handlers.py:3: write @bad",
    "service = Service('bad_worker')\n\n@service.on('a.b', where={'n': {'exists': 1}, 'a_b': 1})\ndef x(): ...": "/handlers.py:4: where['a_b'] can never",
    "service = Service('bad_worker')\n@service.on('a.b', where={'data.n': {'above': 1}})\ndef x(): ...": "operators",
    "\nraise RuntimeError('broken')": "handlers.py:3: RuntimeError: broken",
    "import no_such_module": "ModuleNotFoundError",
    "raise SystemExit(2)": "read settings at first use",
    "other = 1": "there is no `service = Service(",
    "def (": "invalid syntax",
    "from services.email_worker import smtp_sender": "handlers.py:2: imports services.email_worker",
    "from services import email_worker": "another team's",
    "from ..email_worker import smtp_sender": "another team's",
}


CHECK_ALL = """
import json, sys
from pathlib import Path
from streammesh.cli.check import check_worker
print(json.dumps([check_worker(name, Path.cwd()).problems for name in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is found about each wrong worker; all in one process, since starting one takes a second."""
    root = tmp_path_factory.mktemp("wrong")
    names = []
    for number, code in enumerate(WRONG):
        names.append(f"bad{number}_worker")
        folder = root / "services" / names[-1]
        folder.mkdir(parents=True)
        code = code.replace("bad_worker", names[-1])
        (folder / "handlers.py").write_text(f"from streammesh import Service\n{code}\n")
    checked = subprocess.run(
        [sys.executable, "-c", CHECK_ALL, *names],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=150,  # on a machine with other work
        check=True,
    )
    return dict(zip(WRONG, json.loads(checked.stdout), strict=True))


@pytest.mark.parametrize(("code", "words"), WRONG.items(), ids=list(WRONG.values()))
def test_what_would_be_refused_is_told(problems, code, words):
    assert any(words in problem for problem in problems[code]), problems[code]
    assert any(problem.endswith("settings.py is missing") for problem in problems[code])


def test_check_says_in_its_exit_code_that_something_would_be_refused(tmp_path):
    (tmp_path / "services" / "bad_worker").mkdir(parents=True)
    checked = streammesh(tmp_path, "check", "bad_worker")
    assert (checked.returncode, checked.stderr) == (1, "")
    assert "problem: services/bad_worker/handlers.py is missing" in checked.stdout.splitlines()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    checked = streammesh(tmp_path, "check", NAME)
    assert (checked.returncode, checked.stdout) == (
        1,
        f"problem: there is no folder services/{NAME} and no package {NAME}; no worker is here\n",
    )
