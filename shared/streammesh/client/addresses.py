"""What a client asks for, as URLs: the API's own, paths that hold ids, parameters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote, urlsplit

from streammesh.client.errors import InvalidAddress

Filter = str | Sequence[str] | datetime | None


def checked_url(url: str) -> str:
    """Return the API's URL without a slash at its end. Raises InvalidAddress."""
    try:
        found = urlsplit(url)
        good = found.scheme in ("http", "https") and bool(found.hostname) and (found.port or 1) > 0
        good = good and not (found.query or found.username or found.password)
    except (ValueError, TypeError, AttributeError):
        good = False
    if not good:
        given = "one with a password" if "@" in str(url) else repr(str(url)[:40])
        raise InvalidAddress(f"the URL of the API should be like https://mesh.example, not {given}")
    return url.rstrip("/")


def segment(text: str) -> str:
    """Return an id as one segment of a path, whatever characters it has."""
    return quote(text, safe="")


def query_of(**given: Filter) -> list[tuple[str, str]]:
    """Return parameters without those that are left out; a list becomes several of one name."""
    found: list[tuple[str, str]] = []
    for name, value in given.items():
        values = [value] if isinstance(value, str | datetime) else value or ()
        found += [(name, text_of(one)) for one in values]
    return found


def texts_of(value: str | Sequence[str]) -> list[str]:
    """Return one text, or several, as the API takes several: a list."""
    return [value] if isinstance(value, str) else list(value)


def text_of(value: datetime | str) -> str:
    """Return a moment, or a text that says one, as the API takes it."""
    return value.isoformat() if isinstance(value, datetime) else value
