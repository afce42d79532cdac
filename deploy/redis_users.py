"""A user of Redis for each container of Compose, for `deploy/compose/users.yml`.

python -m deploy.redis_users                     # writes deploy/redis/users.acl
python -m deploy.redis_users --passwords         # prints a password for each, as `.env` has them
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from streammesh.acl_rules import KINDS, users
from streammesh.keys import Keys

FILE = Path(__file__).parent / "redis" / "users.acl"
WORKERS = ("email_worker", "report_worker")
GENERATED = (
    "# Made by `python -m deploy.redis_users`. start.sh puts in the password that the environment has under each name,",
    "# and MESH_NAMESPACE for `mesh`.",
)
PASSWORD_BYTES = 24


def variable_of(container: str) -> str:
    """Return the name of the variable with a container's password."""
    return f"REDIS_PASSWORD_{container.upper()}"


def user_of(container: str) -> str:
    """Return the name of a container's user."""
    return f"mesh-worker-{container}" if container in WORKERS else f"mesh-{container}"


CONTAINERS = (*KINDS, "flower", *WORKERS)


def lines() -> list[str]:
    """Return one line for each user, with the name of a variable in the place of its password."""
    keys = Keys()
    named = [*KINDS, *WORKERS]
    made = users(keys, WORKERS, [f"@{variable_of(container)}@" for container in named])
    # Flower asks workers and queues, as the scheduler's own worker of Celery may, and hears what workers report.
    flower = made[KINDS.index("scheduler")]
    orders = f"&{keys.fanout(0)}celery.pidbox"
    for old, new in (
        (variable_of("scheduler"), variable_of("flower")),
        (user_of("scheduler"), user_of("flower")),
        (orders, f"{orders} &{keys.fanout(0)}celeryev/*"),
    ):
        flower = flower.replace(old, new)
    return [*made, flower]


def passwords() -> list[str]:
    """Return a new password for each, as lines of `.env`."""
    return [f"{variable_of(one)}={secrets.token_urlsafe(PASSWORD_BYTES)}" for one in CONTAINERS]


def render() -> str:
    """Return the file's text."""
    return "\n".join((*GENERATED, *lines())) + "\n"


def main(args: list[str]) -> None:
    """Write the file, or print passwords."""
    if args == ["--passwords"]:
        sys.stdout.write("\n".join(passwords()) + "\n")
    else:
        FILE.write_text(render(), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
