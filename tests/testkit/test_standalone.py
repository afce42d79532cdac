"""`streammesh new-worker --standalone`: a repository that passes its tests, and that a mesh finds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from streammesh import __version__
from streammesh.cli.found_programs import NothingToRun, find_programs, find_workers
from streammesh.cli.new_worker import CannotMake, write_repository

NAME = "billing_worker"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    write_repository(NAME, root)
    return root / NAME


@pytest.mark.timeout(300)
def test_its_tests_pass_one_of_them_in_a_mesh_of_its_own(repository: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0 and "3 passed" in ran.stdout, ran.stdout[-3000:] + ran.stderr


def test_its_files_are_what_they_should_be(repository: Path) -> None:
    about = tomllib.loads((repository / "pyproject.toml").read_text())
    for line in (*about["project"]["dependencies"], *about["project"]["optional-dependencies"]["dev"]):
        assert Requirement(line).specifier.contains(__version__), line
    container = yaml.safe_load((repository / "compose.yml").read_text())["services"][NAME]
    assert container["environment"]["MESH_REDIS_URL"].startswith("${MESH_REDIS_URL:-redis://")
    steps = yaml.safe_load((repository / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    assert steps[-1] == {"run": "python -m pytest"}
    image = (repository / "Dockerfile").read_text()
    assert f'CMD ["python", "-m", "{NAME}"]' in image
    assert "ENV PATH=/venv/bin:$PATH " in image, "pip would have to replace packages of the base image's own"
    assert image.index("python3 -m venv /venv") < image.index("pip install")
    assert "$" not in (repository / NAME / "handlers.py").read_text()


def test_a_mesh_runs_it_beside_the_mesh_s_own_services(repository: Path) -> None:
    found = {one.name: one for one in find_programs(repository)}
    assert {"api", "dispatcher", "scheduler", NAME} <= set(found)
    assert (found[NAME].module, found[NAME].service, found[NAME].path) == (NAME, NAME, repository)
    assert found["api"].path != repository


def test_a_folder_may_do_without_some_of_the_mesh_s_own_services(tmp_path: Path) -> None:
    about = tmp_path / "pyproject.toml"
    about.write_text('[tool.streammesh]\nwithout = ["report_worker", "archiver"]\n')
    found = {one.name for one in find_programs(tmp_path)}
    assert {"api", "dispatcher", "scheduler"} <= found and not {"report_worker", "archiver"} & found
    about.write_text('[tool.streammesh]\nwithout = ["api"]\n')
    with pytest.raises(NothingToRun, match="without: api cannot be left out; what can is archiver, email"):
        find_programs(tmp_path)


def test_nothing_is_written_over(repository: Path) -> None:
    with pytest.raises(CannotMake, match="is there already"):
        write_repository(NAME, repository.parent)


def test_one_file_and_what_pyproject_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text('service = Service("shop_worker")\n')
    [found] = find_workers(tmp_path)
    assert (found.module, found.service) == ("worker", "shop_worker")

    (tmp_path / "src" / "mail").mkdir(parents=True)
    (tmp_path / "src" / "mail" / "__main__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.streammesh]\nworkers = ["mail"]\n')
    [found] = find_workers(tmp_path)
    assert (found.module, found.service, found.path) == ("mail", None, tmp_path / "src")

    (tmp_path / "pyproject.toml").write_text('[tool.streammesh]\nworkers = ["nobody"]\n')
    with pytest.raises(NothingToRun, match="no module 'nobody'"):
        find_workers(tmp_path)
