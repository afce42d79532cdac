"""The kinds of values that settings have beyond pydantic's own, each checked as it is read; and what is said of a wrong one."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ValidationError
from pydantic_settings import BaseSettings

from streammesh.durations import parse_duration
from streammesh.redis_url import ESCAPES

STORE_SCHEMES = ("file", "s3", "gs", "az")
RESULT_SCHEMES = ("postgresql",)
HISTORY_FILE = "sqlite:///"
BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")


def percent(value: object) -> object:
    """`"85%"` as 85; anything else unchanged."""
    return value.strip().removesuffix("%").strip() if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Percent = Annotated[int, BeforeValidator(percent)]


def checked_url(value: str, schemes: tuple[str, ...]) -> str:
    """A URL with a host. Raises ValueError, which holds nothing of it: what is misread may be the password."""
    try:
        parts = urlsplit(value.strip())
        port = parts.port
    except ValueError:
        raise ValueError(f"has a host or a port that cannot be read; {ESCAPES}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"should be a URL that starts with one of {', '.join(s + '://' for s in schemes)}")
    if (
        parts.scheme in RESULT_SCHEMES and parts.netloc.count("@") > 1
    ):  # its driver ends the password at the first
        raise ValueError(f"has more than one `@` before its host; {ESCAPES}")
    if not parts.hostname or port == 0 or "@" in parts.path + parts.query or parts.fragment:
        raise ValueError(f"should name a host after the `://` or the `@`; {ESCAPES}")
    return value.strip()


def each_url(value: str) -> list[str]:
    """Return the URLs that a value names, with spaces between; one that has spaces in it is one."""
    urls = value.split()
    return urls if urls and all("://" in url for url in urls) else [value.strip()]


def checked_history(value: str) -> str:
    """A history's URL. Raises ValueError as `checked_url` does."""
    if value.startswith(HISTORY_FILE):
        if not value.removeprefix(HISTORY_FILE).strip() or "?" in value:
            raise ValueError("should name a file: sqlite:///var/history.db, or sqlite:////srv/history.db")
        return value
    if value.startswith("sqlite:"):
        raise ValueError("should have three slashes before a file: sqlite:///var/history.db")
    return checked_url(value, (*RESULT_SCHEMES, "sqlite"))


def checked_store(value: str) -> str:
    """A folder, or an object store's URL: `s3://bucket/prefix`. Raises ValueError as `checked_url` does."""
    if not value.strip():
        raise ValueError("should be a folder such as var/store, or a URL such as s3://bucket/prefix")
    if (
        value.partition(":")[0] in STORE_SCHEMES and "://" not in value
    ):  # s3:/bucket would be a folder of that name
        return checked_url("", STORE_SCHEMES)
    if "://" not in value or value.startswith("file://"):
        return value
    return checked_url(value, STORE_SCHEMES)


StoreUrl = Annotated[str, AfterValidator(checked_store)]
OptionalStoreUrl = Annotated[
    str | None, AfterValidator(lambda value: checked_store(value) if value and value.strip() else None)
]


def explain(error: ValidationError, settings: type[BaseSettings]) -> str:
    """One line that names the variable and says what it should be, without its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # about several together, which it names
        return text
    name, *inner = (str(part) for part in first["loc"])
    place = f" (entry {'.'.join(inner)}, counted from 0)" if inner else ""
    return f"{variable_of(name, settings)}{place}: {text}"


def variable_of(name: str, settings: type[BaseSettings]) -> str:
    """The environment variable of a field, which may be called by its alias already."""
    field = settings.model_fields.get(name)
    if field is None:
        return name.upper()
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = str(alias.choices[0])
    return (
        alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{name}"
    ).upper()
