"""Keys at start: nobody outside can reach an API that has none, and a developer gets one without asking."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

import structlog
from streammesh.api_keys import EVERYTHING, ApiKeys
from streammesh.errors import ApiKeyExists, ApiKeyRevoked, InvalidApiKey, MeshError
from streammesh.redisio.retry import until_back_async

from services.api.settings import ApiSettings

log = structlog.get_logger(__name__)

DEVELOPMENT = "dev"
OPERATOR = "admin"


class CannotStart(MeshError):
    """The API may not or cannot start as it is configured; the text says what to do."""


async def ensure_keys(api_keys: ApiKeys, settings: ApiSettings) -> str | None:
    """Make sure that the API may open its door; answers a development key that was just made, to be shown once.

    Raises CannotStart when it would be exposed without any key, or Redis is away for `start_timeout`.
    """
    deadline = monotonic() + settings.start_timeout.total_seconds()

    def away(error: Exception) -> None:
        if monotonic() > deadline:
            raise CannotStart(f"MESH_REDIS_URL: Redis cannot be reached: {error}") from None

    return await until_back_async("API keys", lambda: _ensure(api_keys, settings), away)


async def _ensure(api_keys: ApiKeys, settings: ApiSettings) -> str | None:
    if settings.admin_key:
        await bring_operators(api_keys, settings.admin_key.get_secret_value())
    if settings.is_exposed:
        if await api_keys.count() == 0:
            raise CannotStart(
                f"API_HOST: {settings.host} can be reached from outside and there is no API key yet; make one with"
                " `streammesh keys create NAME --admin`, set API_ADMIN_KEY, or listen on 127.0.0.1"
            )
        return None
    file = settings.dev_key_file
    if file is None:
        if await api_keys.count():
            return None
        return await _development_key(api_keys, "first")
    known = file.read_text("utf-8").strip() if file.is_file() else ""
    if known and await api_keys.verify(known):
        return None
    if await api_keys.count() and DEVELOPMENT not in {key.name for key in await api_keys.list()}:
        return None  # somebody made keys on purpose; they are the ones to use
    secret = await _development_key(api_keys, "replace")
    if secret:
        _write_privately(file, secret)
    return secret


async def _development_key(api_keys: ApiKeys, how: str) -> str | None:
    try:
        return await api_keys.create(
            DEVELOPMENT,
            publish=EVERYTHING,
            subscribe=EVERYTHING,
            admin=True,
            how="replace" if how == "replace" else "first",
        )
    except ApiKeyExists:
        return None  # another process of this mesh was quicker


async def bring_operators(api_keys: ApiKeys, secret: str) -> bool:
    """Make sure that the operator's own key is there, unless it was revoked: that lasts. Answers whether it is.

    Raises CannotStart when it can be none.
    """
    if await api_keys.verify(secret):
        return True
    try:
        await api_keys.create(
            OPERATOR, publish=EVERYTHING, subscribe=EVERYTHING, admin=True, secret=secret, how="replace"
        )
    except ApiKeyRevoked:
        log.error(
            "api.admin_key_was_revoked",
            advice="API_ADMIN_KEY was revoked or rotated and is worth nothing; set another one",
        )
        return False
    except InvalidApiKey as error:
        raise CannotStart(f"API_ADMIN_KEY: {error}") from None
    return True


def _write_privately(file: Path, secret: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(secret + "\n")
    draft.replace(file)
