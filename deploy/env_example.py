"""Writes `.env.example`: every setting there is, with its meaning and its default, taken from the settings classes.

python -m deploy.env_example > .env.example
"""

from __future__ import annotations

import importlib
import json
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings
from streammesh.cli.settings import MEANINGS, PREFIX, ClientSettings

from deploy.redis_users import CONTAINERS, variable_of

ROOT = Path(__file__).parents[1]
HEAD = """\
# Settings. Copy this file to .env and change what you need; what is commented out shows the default.
# Durations are 500ms, 15s, 30m, 24h, 7d. Written by `python -m deploy.env_example`.
"""
# What docker-compose.yml itself asks for: (name, default, meaning). No default: Compose refuses to start without.
COMPOSE: list[tuple[str, str | None, str]] = [
    ("REDIS_PASSWORD", None, "The password of Redis: letters, digits, - and _."),
    ("HISTORY_PASSWORD", None, "The password of the history's PostgreSQL: letters, digits, - and _."),
    ("API_ADMIN_KEY", None, "The API key that may do everything: 24 letters or more, any you like."),
    ("FLOWER_BASIC_AUTH", None, "Who may look at Flower, as name:password."),
    (
        "REDIS_MAXMEMORY",
        "1gb",
        "Memory limit of Redis's data; 0 is none. Near it publishing answers 503, see MESH_MEMORY_MARK.",
    ),
    (
        "REDIS_MEMORY",
        "2560m",
        "Memory limit of Redis's container: twice REDIS_MAXMEMORY and some, for when its file is written anew.",
    ),
    ("HISTORY_MEMORY", "1g", "Memory limit of the history's container."),
    ("HISTORY_IMAGE", "postgres:17-alpine", "The PostgreSQL image of the history: PostgreSQL 13 or later."),
    ("SERVICE_MEMORY", "512m", "Memory limit of each service's container."),
    ("REPORT_MEMORY", "2g", "Memory limit of a container of report_worker."),
    ("FLOWER_READ_ONLY", "true", "false lets Flower stop workers and revoke tasks, and its API send tasks."),
    ("FLOWER_URL_PREFIX", "", "What stands before all paths of Flower, behind a proxy."),
    ("FLOWER_ENABLE_EVENTS", "true", "Lets Flower ask workers to report each task; costs throughput."),
    ("MAIL_PORT", "8025", "Port of the page with caught e-mail on 127.0.0.1."),
    ("FLOWER_PORT", "5555", "Port of Flower on 127.0.0.1."),
    ("STOP_GRACE_PERIOD", "30s", "How long a container may take to stop; longer than MESH_DRAIN."),
    ("BASE_IMAGE", "python:3.13-slim", "What the services' images are built on."),
    ("REDIS_IMAGE", "redis:8-alpine", "The Redis image: Redis 7.0 or later, or Valkey 8 or later."),
    ("PROXY_IMAGE", "caddy:2-alpine", "The proxy's image, with deploy/compose/proxy.yml."),
    ("PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0", "Prometheus, with deploy/compose/monitoring.yml."),
    (
        "PROMETHEUS_PORT",
        "9090",
        "Where Prometheus answers on this machine, with deploy/compose/monitoring.yml.",
    ),
    *(
        (variable_of(name), "", f"The password of {name}'s own user of Redis, with deploy/compose/users.yml.")
        for name in CONTAINERS
    ),
    ("GRAFANA_IMAGE", "grafana/grafana:12.1.0", "Grafana, with deploy/compose/monitoring.yml."),
    ("GRAFANA_PORT", "3000", "Where Grafana answers on this machine, with deploy/compose/monitoring.yml."),
    ("JAEGER_IMAGE", "jaegertracing/jaeger:2.10.0", "Jaeger, with deploy/compose/monitoring.yml."),
    ("JAEGER_PORT", "16686", "Where Jaeger answers on this machine, with deploy/compose/monitoring.yml."),
    ("MAIL_IMAGE", "axllent/mailpit:v1.31.3", "The mail catcher's image."),
    ("IMAGE_PREFIX", "streammesh/", "What the names of the services' images begin with."),
]


def as_text(value: object) -> str:
    """A default as one would write it into the file."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            # 24h reads better than 1d where a day is a number of hours, but one spelling is enough
            if seconds and seconds % length == 0:
                return f"{int(seconds // length)}{unit}"
        return f"{int(seconds * 1000)}ms"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return json.dumps(list(value) if isinstance(value, set | frozenset | tuple) else value)
    return str(value)


def settings_classes() -> list[type[BaseSettings]]:
    """Every settings class: the kit's first, then the services' and the deployment's own by name."""
    found: list[type[BaseSettings]] = []
    kit = sorted(
        (ROOT / "shared").glob("streammesh/**/settings.py"), key=lambda path: (len(path.parts), path)
    )
    # A team's worker with a compose.yml of its own says its settings there.
    own = sorted(
        path
        for path in (ROOT / "services").glob("*/settings.py")
        if not path.with_name("compose.yml").exists()
    )
    for path, base in [(path, ROOT / "shared") for path in kit] + [(path, ROOT) for path in own]:
        module = importlib.import_module(".".join(path.relative_to(base).with_suffix("").parts))
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, BaseSettings)
            and value.__module__ == module.__name__
        ]
    return found


def variables(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """(name, default, meaning) of each environment variable that a settings class reads."""
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        variable = field.validation_alias if isinstance(field.validation_alias, str) else f"{prefix}{name}"
        default = "" if field.is_required() else as_text(field.get_default(call_default_factory=True))
        yield variable.upper(), default, field.description or ""


def entry(name: str, default: str | None, meaning: str) -> str:
    comment = textwrap.fill(meaning, 108, initial_indent="# ", subsequent_indent="# ") if meaning else ""
    line = f"{name}=" if default is None else f"#{name}={default}"
    return f"{comment}\n{line}\n" if comment else f"{line}\n"


def section(title: str) -> str:
    return f"\n# {'-' * 4} {title} {'-' * (100 - len(title))}\n\n"


def render() -> str:
    """The whole text of `.env.example`."""
    client = ClientSettings()
    commands = [
        (f"{PREFIX}{name}".upper(), as_text(getattr(client, name)), meaning)
        for name, meaning in MEANINGS.items()
    ]
    out = [HEAD, section("docker compose"), "\n".join(entry(*item) for item in COMPOSE)]
    out += [section("the `streammesh` command"), "\n".join(entry(*item) for item in commands)]
    written = {name: default or "" for name, default, _ in (*COMPOSE, *commands)}
    for settings in settings_classes():
        room = settings.__module__.removesuffix(".settings").replace(".", "/")
        new = [item for item in variables(settings) if item[0] not in written]
        for name, default, _ in variables(settings):
            if written.setdefault(name, default) != default:
                raise SystemExit(f"{name}: {room} has another default ({default}) than {written[name]}")
        if new:
            title = "the whole mesh" if room == "streammesh" else room
            out += [section(title), "\n".join(entry(*item) for item in new)]
    return "".join(out)


if __name__ == "__main__":
    print(render(), end="")
