"""The mesh's settings: environment variables `MESH_*` and `.env`, read once, checked at the door.

A service adds its own class with its own prefix and loads it with `load_settings`.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from streammesh.local_mesh import PLACE, running_here, secrets_folder
from streammesh.redis_url import parse_redis_url
from streammesh.setting_kinds import (
    BROKER_SCHEMES,
    RESULT_SCHEMES,
    Duration,
    OptionalStoreUrl,
    Percent,
    checked_history,
    checked_url,
    each_url,
    explain,
    variable_of,
)

_FIELD = re.compile(r'field "(\w+)"')


class MeshSettings(BaseSettings):
    """What every part of the mesh needs to know. One instance per process, made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Where Redis is: redis://, rediss:// (TLS), redis+sentinel://host,host/service, "
        "redis+cluster://host,host, unix://. With shards on servers of their own their URLs, with spaces between.",
    )
    shards: int = Field(
        1,
        ge=1,
        le=64,
        description="Parts of the mesh, each in one Redis primary: the same for every process, and for ever.",
    )
    shard: int | None = Field(
        None, ge=0, description="Which shard alone a process serves, from 0. Empty: all."
    )
    redis_tls_ca: Path | None = Field(None, description="CA file that signed the server's certificate.")
    redis_tls_cert: Path | None = Field(None, description="Client certificate, for mutual TLS.")
    redis_tls_key: Path | None = Field(None, description="Key of the client certificate.")
    redis_timeout: Duration = Field(
        timedelta(seconds=3), description="How long one Redis command may take before it counts as away."
    )
    memory_mark: Percent = Field(
        85,
        ge=10,
        le=100,
        description="Percent of Redis's maxmemory at which publishing is refused, so that what was accepted has room "
        "to be worked off; 100 leaves it to Redis itself.",
    )
    allow_eviction: bool = Field(
        False,
        description="Go on though Redis is set to evict keys when it is full (maxmemory-policy): accepted events vanish then.",
    )
    broker_url: str | None = Field(
        None,
        description="Another broker for Celery: amqp:// or amqps:// (RabbitMQ), redis:// or rediss:// (Celery's own "
        "lists in Redis). Empty: streams in the mesh's Redis, which is the fastest and loses least.",
    )
    broker_tls_ca: Path | None = Field(
        None,
        description="CA file that signed the certificate of that broker, where it is not publicly trusted.",
    )
    result_url: str | None = Field(
        None,
        description="Where results of plain Celery tasks and of workflows' parts are kept: postgresql://. Empty: the "
        "mesh's Redis. Needs the extra streammesh[postgres].",
    )
    namespace: str = Field(
        "mesh",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$",
        description="Prefix of every key, so that several meshes can share one Redis.",
    )
    retention: Duration = Field(timedelta(days=7), description="How long events are kept.")
    result_ttl: Duration = Field(
        timedelta(days=1), description="How long an ended task's record is kept, where there is no history."
    )
    history_url: str | None = Field(
        None,
        description="Where what has ended is kept for MESH_RETENTION: postgresql://, or sqlite:///file. For the archiver, "
        "the API and the report worker. One for each shard, with spaces between. Empty: Redis alone remembers. Needs the extra streammesh[history].",
    )
    history: bool = Field(
        False,
        description="That the mesh has a history, for processes that are not told MESH_HISTORY_URL, which says so itself.",
    )
    hot: Duration = Field(
        timedelta(minutes=10),
        description="How long Redis keeps what has ended and is in the history; without one MESH_RETENTION and "
        "MESH_RESULT_TTL say it.",
    )
    dedup_window: Duration = Field(
        timedelta(hours=24),
        description="How long at least the same (source, id) is a duplicate; as long as retention if that is longer.",
    )
    lease: Duration = Field(
        timedelta(seconds=15), description="After this long without a sign of life a task is taken over."
    )
    max_event_bytes: int = Field(262_144, ge=1024, le=4_194_304, description="Largest event, in bytes.")
    max_result_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=4_194_304,
        description="Largest result of a handler, in bytes of JSON; what is larger belongs into a store.",
    )
    store_url: OptionalStoreUrl = Field(
        None,
        description="Where results of steps beyond 64 KiB are kept: s3://bucket/prefix (also gs://, az://), or a folder that "
        "all workers share. Empty: they are refused. Needs the extra streammesh[store].",
    )
    max_queued: int = Field(
        10_000, ge=1, description="A lane stops handing over while its queue holds this many tasks."
    )
    notifications_kept: int = Field(200_000, ge=100, description="About how many notifications are kept.")
    notifications_age: Duration = Field(timedelta(days=7), description="How old a notification may become.")
    pubsub: bool = Field(True, description="Publish each notification to plain Redis subscribers as well.")
    dead_letters_kept: int = Field(
        100_000, ge=100, description="Most dead letters kept per service; the oldest go first."
    )
    unknown_task_timeout: Duration = Field(
        timedelta(hours=1),
        description="A task that no worker of its service knows is put back for this long, then a dead letter.",
    )
    service_key: str = Field(
        "",
        repr=False,
        description="Secret of a service's workers: nobody else registers its name from then on.",
    )
    takeover: bool = Field(False, description="For one start: take the service's name over; who had it ends.")
    breaker_failures: int = Field(
        20,
        ge=0,
        description="After this many dead letters in a row a subscription is paused; 0 never pauses one.",
    )
    max_held: int = Field(
        100_000,
        ge=1,
        description="This many tasks of a paused subscription are set aside; then its service's lane waits.",
    )
    concurrency: int = Field(
        0, ge=0, description="Tasks one worker process group runs at once; 0 lets the kind of pool decide."
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes of a service that its command starts, under one parent; each runs MESH_CONCURRENCY tasks "
        "at once. A prefork pool has processes of its own, and goes by MESH_CONCURRENCY alone.",
    )
    max_memory_per_child: int = Field(
        1024,
        ge=0,
        description="MiB that a process of a prefork pool may hold after a task; a larger one is replaced. 0: no bound.",
    )
    max_memory: int = Field(
        1024,
        ge=0,
        description="MiB that a worker of any other pool (async, threads, solo) may hold, or 85% of its container's "
        "limit; one that is larger drains and ends with exit code 75, to be started again. 0: no bound.",
    )
    drain: Duration = Field(
        timedelta(seconds=20), description="How long a stopping worker may finish what it runs."
    )
    health_host: str = Field(
        "127.0.0.1", description="Address on which each process answers /livez, /readyz, /metrics."
    )
    health_port: int = Field(
        0, ge=0, le=65_535, description="Port of /livez and /readyz; 0 takes a free one, which the log names."
    )
    metrics: bool = Field(
        True, description="Count and measure, and answer /metrics (Prometheus) beside /livez, /readyz."
    )
    traces_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/]+(/[^\s]*)?)?$",
        description="Address of an OTLP receiver over HTTP (http://collector:4318) that spans are sent to; empty: none are made.",
    )
    traces_share: float = Field(
        1.0, ge=0, le=1, description="Of the traces that begin here, how many are sampled: 0 to 1."
    )
    stuck_after: Duration = Field(
        timedelta(minutes=5),
        description="An event loop or consumer that did not turn for this long is dead: /livez says so.",
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with a file for each secret, named as its variable (mesh_redis_url, api_admin_key); else "
        "/run/secrets where it is there. A variable goes before its file. Not read from .env.",
    )
    timezone: str = Field("UTC", description="IANA time zone of schedules that name none.")
    log_format: Literal["console", "json"] = Field("console", description="console or json.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )

    _whole: MeshSettings | None = PrivateAttr(None)

    @property
    def whole(self) -> MeshSettings:
        """The settings of the whole mesh, where these are one shard's."""
        return self._whole or self

    def of_shard(self, number: int) -> MeshSettings:
        """Return the settings as one shard has them: a mesh of its own. A mesh without shards is its only one.

        Raises ValueError where there is no such shard.
        """
        if not 0 <= number < self.shards:
            raise ValueError(f"there is no shard {number}: the mesh has {self.shards}, counted from 0")
        if self.shards == 1:
            return self
        urls = each_url(self.redis_url)
        history = each_url(self.history_url)[number] if self.history_url else None
        changes = {
            "redis_url": urls[number % len(urls)],
            "history_url": history,
            "shards": 1,
            "shard": number,
        }
        made = self.model_copy(update={**changes, "namespace": f"{self.namespace}.{number}"})
        made._whole = self
        return made

    @property
    def remembered(self) -> timedelta:
        """How long what became of an event is known, and its identity with it."""
        return max(self.retention, self.dedup_window)

    @property
    def notifications_bound(self) -> int:
        """`notifications_kept` as scripts want it: below 0 where nothing is published beside the stream."""
        return self.notifications_kept if self.pubsub else -self.notifications_kept

    @property
    def has_history(self) -> bool:
        """Whether what has ended is archived outside Redis; then it leaves Redis no sooner than that."""
        return self.history or self.history_url is not None

    @property
    def hot_kept(self) -> timedelta:
        """How long what is in the history lies in Redis too: `hot`, and no longer than the history keeps it."""
        return min(self.hot, self.retention)

    @property
    def outcome_kept(self) -> timedelta:
        """How long the record of an ended task lies in Redis. With a history the archiver shortens it to `hot`."""
        return max(self.result_ttl, self.retention) if self.has_history else self.result_ttl

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        for url in each_url(value):
            parse_redis_url(url)
        return " ".join(each_url(value))

    @model_validator(mode="after")
    def _shards(self) -> MeshSettings:
        servers, stores = (
            len(each_url(self.redis_url)),
            len(each_url(self.history_url)) if self.history_url else 0,
        )
        if servers not in (1, self.shards):
            wanted = "name one server, or one for each shard"
            raise ValueError(
                f"MESH_REDIS_URL: names {servers} servers and MESH_SHARDS is {self.shards}: {wanted}"
            )
        if stores not in (0, self.shards):
            raise ValueError(
                f"MESH_HISTORY_URL: names {stores} and MESH_SHARDS is {self.shards}: name one for each"
            )
        if self.shard is not None and self.shard >= self.shards:
            raise ValueError(
                f"MESH_SHARD: is {self.shard}, and there are {self.shards} (MESH_SHARDS), counted from 0"
            )
        return self

    @field_validator("broker_url")
    @classmethod
    def _broker_url(cls, value: str | None) -> str | None:
        return checked_url(value, BROKER_SCHEMES) if value else None

    @field_validator("result_url")
    @classmethod
    def _result_url(cls, value: str | None) -> str | None:
        return checked_url(value, RESULT_SCHEMES) if value else None

    @field_validator("history_url")
    @classmethod
    def _history_url(cls, value: str | None) -> str | None:
        return " ".join(map(checked_history, each_url(value))) if value and value.strip() else None

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("should be an IANA time zone such as Europe/Berlin or Asia/Tokyo") from None
        return value

    @field_validator(
        "retention",
        "result_ttl",
        "dedup_window",
        "hot",
        "notifications_age",
        "lease",
        "redis_timeout",
        "stuck_after",
    )
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=100):
            raise ValueError("should be at least 100ms")
        return value


S = TypeVar("S", bound=BaseSettings)


def load_settings(settings: type[S], *, join: bool = True, whole: bool = False) -> S:
    """Read one settings class: environment, then `.env`, then files named like the variables in `MESH_SECRETS_DIR`.

    With `join`, where no Redis is named and `streammesh up` runs in this folder, what it gives its services counts.
    Of a mesh of several shards the settings are those of `MESH_SHARD`, or of the first, where all lies that the mesh has
    once; `whole` is for who serves all shards.
    Raises SystemExit(2), after one line on standard error that names the variable and what it should be.
    """
    try:
        if join:
            _join_mesh_here()
        folder = _secrets_folder()
        made = settings(_secrets_dir=folder) if folder else settings()
        if isinstance(made, MeshSettings) and not whole:
            return cast("S", made.of_shard(made.shard or 0))
        return made
    except ValidationError as error:
        reason = explain(error, settings)
    except SettingsError as error:  # a list or table that is not JSON; it names the field and no value
        field = _FIELD.search(str(error))
        reason = f'{variable_of(field[1], settings) if field else error}: should be JSON, such as ["a", "b"]'
    except (OSError, UnicodeDecodeError) as error:
        reason = f"the settings cannot be read: {error}"
    sys.stderr.write(f"{reason}\n")
    raise SystemExit(2)


def _secrets_folder() -> Path | None:
    try:
        return secrets_folder(os.environ.get("MESH_SECRETS_DIR"))
    except NotADirectoryError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def _join_mesh_here() -> None:
    """Set the variables of a mesh that `streammesh up` runs in this folder, unless a Redis is named."""
    chosen = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    folder = _secrets_folder()
    if "MESH_REDIS_URL" in chosen or (folder and (folder / "mesh_redis_url").exists()):
        return
    if found := running_here():
        for name, value in found["environment"].items():
            if name not in chosen:
                os.environ[name] = str(value)
        sys.stderr.write(f"joining the mesh that runs here, see {PLACE}\n")


def serve_first_shard() -> None:
    """Have this process, and what it starts, serve the first shard alone: what the mesh has once is there."""
    if load_settings(MeshSettings, whole=True).shard is None:
        os.environ["MESH_SHARD"] = "0"


@lru_cache(maxsize=1)
def mesh_settings() -> MeshSettings:
    """The process's `MeshSettings`, read at first use; for places that Celery calls without arguments."""
    return load_settings(MeshSettings)
