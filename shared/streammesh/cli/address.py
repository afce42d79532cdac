"""Finds the mesh that a command talks to: options, else the environment, else the one that `up` runs here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streammesh.errors import MeshError
from streammesh.local_mesh import PLACE, running_here

if TYPE_CHECKING:
    from streammesh.cli.settings import ClientSettings


class NoAddress(MeshError):
    """It is not known which mesh is meant, or with which key; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """An API and the key to it."""

    url: str
    key: str = field(repr=False)


def find_address(
    url: str | None, key: str | None, settings: ClientSettings, place: Path = PLACE
) -> ApiAddress:
    """The API and the key to use. Raises NoAddress.

    The key of a mesh that runs here is sent to that mesh only, never to another URL.
    """
    url = url or settings.url
    key = key or settings.key
    if url is None:
        here = running_here(place)
        if here is None:
            raise NoAddress(
                "no mesh to talk to: give --url and --key, set STREAMMESH_URL and STREAMMESH_KEY, or run"
                " `streammesh up` in this folder"
            )
        url, key = here["api_url"], key or _key_in(Path(here["key_file"]))
    elif key is None:
        here = running_here(place)
        if here is not None and here["api_url"] == url.rstrip("/"):
            key = _key_in(Path(here["key_file"]))
    if not url.startswith(("http://", "https://")):
        raise NoAddress(f"the URL of the API should start with http:// or https://, not {url[:40]!r}")
    if not key:
        raise NoAddress("an API key is needed: give --key or set STREAMMESH_KEY")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise NoAddress("the API key has characters that no key has; was it copied whole?")
    return ApiAddress(url.rstrip("/"), key)


def _key_in(file: Path) -> str | None:
    try:
        return file.read_text("utf-8").strip()
    except OSError:
        return None
