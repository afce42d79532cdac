"""Structured logs: one format for the mesh, Celery, uvicorn and everything else in the process.

Events are named, not worded (`log.info("task.succeeded", ...)`); ids are bound once per unit of
work with `structlog.contextvars`. Payloads, keys and passwords are never logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from streammesh.group_place import group_place
from streammesh.settings import MeshSettings

# Loggers that come with their own handlers; they are told to hand everything to the root instead.
FOREIGN = (
    "celery",
    "celery.task",
    "celery.redirected",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "kombu",
)
QUIET = {
    "httpx": logging.WARNING,
    # Two lines a task; the kit says itself what became of a delivery.
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.WARNING,
    "asyncio": logging.WARNING,
    "kombu.connection": logging.WARNING,
}
_unit_of_work: ContextVar[Mapping[str, str]] = ContextVar("unit_of_work", default=MappingProxyType({}))
_SECRET_URL = re.compile(r"(\w+://)([^/@\s:]*):([^/@\s]+)@")


class _UnitOfWork:
    """A class, since this is entered for every attempt and a generator takes three times as long."""

    __slots__ = ("_ids", "_token")

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _unit_of_work.set(self._ids)

    def __exit__(self, *_: object) -> None:
        _unit_of_work.reset(self._token)


def working_on(**ids: str) -> AbstractContextManager[None]:
    """Within, every log line of this context carries these ids. Cheap: nothing is copied until a line is logged."""
    return _UnitOfWork(ids)


def also(**ids: str) -> AbstractContextManager[None]:
    """Within, log lines of this context carry these ids beside those that they carry already."""
    return _UnitOfWork({**_unit_of_work.get(), **ids})


def work_on(**ids: str) -> None:
    """The same for all that this context does from now on: an asyncio task that has one unit of work."""
    _unit_of_work.set(ids)


def _say_what_for(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    for name, value in _unit_of_work.get().items():
        entry.setdefault(name, value)
    return entry


def _say_which_process(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """Of several processes of a service on this machine."""
    place = group_place()
    if place is not None:
        entry.setdefault("process", place.number)
    return entry


def _hide_passwords(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    for name, value in entry.items():
        if isinstance(value, str) and "://" in value:
            entry[name] = _SECRET_URL.sub(r"\1\2:***@", value)
    return entry


def configure(settings: MeshSettings, service: str) -> None:
    """Send every log line of this process to standard error, in the format of the settings. Call once at start."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _say_what_for,
        _say_which_process,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _hide_passwords,
    ]
    if settings.log_format == "json":
        final: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    else:
        final = [
            _short_time,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=24,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            settings.log_level
        ),  # what is not shown costs nothing
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_foreign_noise],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if settings.log_level == "debug" else level)
    logging.captureWarnings(True)
    structlog.contextvars.bind_contextvars(service=service)


def _to_json(entry: Any, **_: Any) -> str:
    try:
        return orjson.dumps(entry, default=str).decode()
    except TypeError:  # what no JSON can hold as it is, such as half a surrogate pair: written out
        return json.dumps(entry, default=str, skipkeys=True)


def _short_time(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """The console shows who and what; the date and the logger's name are for machines."""
    entry["timestamp"] = entry.get("timestamp", "")[11:23]
    entry.pop("logger", None)
    entry.pop("service", None)
    return entry


def _drop_foreign_noise(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """Celery puts whole task contexts into `extra`; their ids are enough."""
    data = entry.pop("data", None)
    if isinstance(data, dict) and "id" in data:
        entry.setdefault("task_id", data["id"])
    if entry.get("logger") == "py.warnings":  # path:line: Category: text, and then the source line
        entry["event"] = str(entry["event"]).strip().splitlines()[0]
    for name in ("color_message", "context", "taskName"):
        entry.pop(name, None)
    return entry
