"""Which mesh the command line talks to: environment variables `STREAMMESH_*`, `.env`, files of secrets.

Read by hand, since the library that reads all other settings takes a third of the time that a command has to start.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from streammesh.durations import parse_duration
from streammesh.local_mesh import secrets_folder

PREFIX = "STREAMMESH_"
MEANINGS = {
    "url": "The API that the `streammesh` command talks to; empty for one started by `up`.",
    "key": "The API key that it sends.",
    "retry_for": "For how long it asks again where the API does not answer, or says to come again.",
}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the API is and who asks. What is empty is taken from a mesh that `streammesh up` runs here."""

    url: str | None = None
    key: str | None = field(default=None, repr=False)
    retry_for: timedelta = timedelta(seconds=2)


def load_client_settings() -> ClientSettings:
    """Return what was said. Raises SystemExit(2), after one line that names the variable, for what cannot be."""
    try:
        given = _given()
    except NotADirectoryError as error:
        _end(str(error))
    except (OSError, UnicodeDecodeError) as error:
        _end(f"the settings cannot be read: {error}")
    try:
        retry_for = parse_duration(given.pop("retry_for", 2))
    except ValueError as error:
        _end(f"{PREFIX}RETRY_FOR: {error}")
    assert isinstance(retry_for, timedelta)
    return ClientSettings(**given, retry_for=retry_for)


def _given() -> dict[str, str]:
    """What is set and not empty: in the environment, else in `.env`, else in a file of secrets."""
    file: dict[str, str | None] = {}
    if Path(".env").is_file():
        from dotenv import dotenv_values

        file = dotenv_values(".env")
    folder = secrets_folder(os.environ.get("MESH_SECRETS_DIR"))
    found: dict[str, str] = {}
    for name in MEANINGS:
        variable = f"{PREFIX}{name}".upper()
        secret = folder / variable.lower() if folder else None
        text = os.environ.get(variable) or file.get(variable)
        if not text and secret and secret.is_file():
            text = secret.read_text("utf-8").strip()
        if text:
            found[name] = text
    return found


def _end(reason: str) -> NoReturn:
    sys.stderr.write(f"{reason}\n")
    raise SystemExit(2)
