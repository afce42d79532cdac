"""`python -m tests.compose`: builds the images, starts the mesh with Compose, and tries it from outside.

BASE_IMAGE, REDIS_IMAGE, HISTORY_IMAGE and MAIL_IMAGE say what to build on and what to run beside it, as in
docker-compose.yml; BUILD_NETWORK is passed to `docker build --network`. Where nothing can be pulled,
`deploy/compose-test/base_images.sh` makes the first three. Everything is removed at the end, also after a failure.
Ends 0 when every check passed, 1 when one failed, 2 where the test cannot be run at all.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import time

from tests.compose import engine
from tests.compose.checks import CHECKS
from tests.compose.engine import Project, Unavailable
from tests.compose.mesh import Mesh

OWN_MAIL = "deploy/compose-test/own_mail.yml"


def say(text: str) -> None:
    print(text, flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_project() -> tuple[Project, list[str]]:
    """A project with fresh secrets and free ports, and what had to be replaced or left out here."""
    env = {
        "BASE_IMAGE": os.environ.get("BASE_IMAGE", "python:3.13-slim"),
        "REDIS_IMAGE": os.environ.get("REDIS_IMAGE", "redis:8-alpine"),
        "HISTORY_IMAGE": os.environ.get("HISTORY_IMAGE", "postgres:17-alpine"),
        "IMAGE_PREFIX": "streammesh-test/",
        "REDIS_PASSWORD": secrets.token_urlsafe(24),
        "HISTORY_PASSWORD": secrets.token_urlsafe(24),
        "API_ADMIN_KEY": secrets.token_urlsafe(24),
        "FLOWER_BASIC_AUTH": f"watcher:{secrets.token_urlsafe(24)}",
        **{name: str(free_port()) for name in ("API_PORT", "FLOWER_PORT", "MAIL_PORT")},
    }
    for name in ("BASE_IMAGE", "REDIS_IMAGE", "HISTORY_IMAGE"):
        if not engine.obtain(env[name]):
            raise Unavailable(
                f"the image {env[name]} can be neither found nor pulled. Make one with "
                f"deploy/compose-test/base_images.sh and name it in {name}."
            )
    project = Project(f"streammesh-test-{os.getpid()}", env)
    skipped = []
    mail = os.environ.get("MAIL_IMAGE") or project.config()["mail"]["image"]
    if engine.obtain(mail):
        env["MAIL_IMAGE"] = mail
    else:
        project.files.append(OWN_MAIL)
        skipped.append(
            f"the mail catcher {mail} cannot be pulled here: the kit's own takes its place, without a page"
        )
    return project, skipped


def build_images(project: Project) -> dict[str, str]:
    """Build every image once; service -> image."""
    services = {name: item for name, item in project.config().items() if "build" in item}
    for image, arguments in {item["image"]: item["build"]["args"] for item in services.values()}.items():
        started = time.monotonic()
        engine.build(image, arguments)
        size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", image))
        say(f"  built {image}  {size / 1e6:.0f} MB  {time.monotonic() - started:.1f} s")
    return {name: item["image"] for name, item in services.items()}


def run_checks(mesh: Mesh) -> tuple[int, int]:
    passed = failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            found = check(mesh)
        except Exception as error:  # one check that fails, however, must not keep the others from running
            failed += 1
            say(f"  FAILED  {name}\n          {type(error).__name__}: {error}")
        else:
            passed += 1
            say(f"  passed  {name}: {found}  ({time.monotonic() - started:.1f} s)")
    return passed, failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.compose", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the mesh running at the end")
    options = parser.parse_args()
    try:
        say(f"compose test with {engine.versions()}")
        project, skipped = new_project()
    except Unavailable as reason:
        say(f"cannot run: {reason}")
        return 2
    for missing in skipped:
        say(f"  skipped: {missing}")
    images = build_images(project)
    env = project.env
    mesh = Mesh(
        project=project,
        images=images,
        api_url=f"http://127.0.0.1:{env['API_PORT']}",
        api_key=env["API_ADMIN_KEY"],
        flower_url=f"http://127.0.0.1:{env['FLOWER_PORT']}",
        flower_auth=("watcher", env["FLOWER_BASIC_AUTH"].partition(":")[2]),
        redis_password=env["REDIS_PASSWORD"],
        history_password=env["HISTORY_PASSWORD"],
        mail_url=None if OWN_MAIL in project.files else f"http://127.0.0.1:{env['MAIL_PORT']}",
    )
    failed = 1
    try:
        started = time.monotonic()
        project.compose("up", "--detach", "--wait", "--no-build", "--wait-timeout", "180")
        say(f"  up and healthy after {time.monotonic() - started:.1f} s")
        passed, failed = run_checks(mesh)
        say(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    except RuntimeError as error:
        say(f"the mesh did not start: {error}")
    finally:
        if failed:
            say(project.compose("ps", "--all") + project.compose("logs", "--no-color", "--tail", "40"))
        if options.keep:
            say(f"left running: {mesh.api_url}; remove it with docker compose -p {project.name} down -v")
        else:
            project.compose("down", "--volumes", "--remove-orphans")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
