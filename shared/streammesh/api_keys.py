"""API keys: who may publish what and be told what. Only their hashes are stored.

A key is 256 random bits, so one SHA-256 without salt is enough: there is no dictionary to try. It is
found by its hash; a secret is never compared with a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import redis.asyncio

from streammesh import lua, names
from streammesh.clock import rfc3339
from streammesh.errors import ApiKeyExists, InvalidApiKey
from streammesh.keys import Keys

PREFIX = "smk_"  # so that a key is known for one where it should not be, in a log or a repository
SHORTEST = 24  # characters of a key that an operator brings
LONGEST = 256
EVERYTHING = ("*",)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SECRET = re.compile(r"[\x21-\x7e]+")

How = Literal["new", "replace", "first"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a key allows: globs over event types that it may publish, and that it may read and be told about."""

    name: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    admin: bool = False
    rate: int | None = None  # events a second; None for what the API's settings say
    created: str = ""
    digest: str = field(default="", repr=False)

    def may_publish(self, event_type: str) -> bool:
        """Whether it may publish events of this type."""
        return self.admin or any(names.matches(glob, event_type) for glob in self.publish)

    def may_subscribe(self, event_type: str) -> bool:
        """Whether it may read events of this type and what came of them."""
        return self.admin or any(names.matches(glob, event_type) for glob in self.subscribe)

    @property
    def may_subscribe_to_all(self) -> bool:
        """Whether no event is hidden from it."""
        return self.admin or "*" in self.subscribe


def digest_of(secret: str) -> str:
    """What is stored of a key: its SHA-256, as 64 hex digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def parse(digest: str, record: bytes) -> ApiKey:
    """A stored record. Raises InvalidApiKey when it is broken."""
    try:
        value: dict[str, Any] = orjson.loads(record)
        return ApiKey(
            name=value["name"],
            publish=tuple(value.get("publish", ())),
            subscribe=tuple(value.get("subscribe", ())),
            admin=value.get("admin") is True,
            rate=value.get("rate"),
            created=value.get("created", ""),
            digest=digest,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidApiKey(f"the record of an API key is broken: {error!r}") from None


class ApiKeys:
    """Creates, lists, revokes and verifies the keys of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.api_keys()

    async def create(
        self,
        name: str,
        *,
        publish: Iterable[str] = (),
        subscribe: Iterable[str] = (),
        admin: bool = False,
        rate: int | None = None,
        secret: str | None = None,
        how: How = "new",
    ) -> str:
        """Make a key and return it; this is the only time that it is seen.

        `how`: `new` refuses a name that is taken, `replace` ends the keys that had it, `first` refuses
        when the mesh has any key. An operator may bring the `secret`. Atomic. Raises InvalidApiKey for
        what cannot be a name, a glob, a rate or a secret, and ApiKeyExists when it is refused.
        """
        key = ApiKey(
            name=name,
            publish=tuple(publish),
            subscribe=tuple(subscribe),
            admin=admin,
            rate=rate,
            created=rfc3339(datetime.now(UTC)),
        )
        secret = PREFIX + secrets.token_urlsafe(32) if secret is None else secret
        _check(key, secret)
        record = asdict(key)
        del record["digest"]
        call = lua.Call(
            lua.script("create_api_key"),
            [self._key],
            [name, digest_of(secret), orjson.dumps(record), how],
            bool,
        )
        if not await lua.run(self._client, call):
            taken = (
                "the mesh has API keys already" if how == "first" else f"there is an API key {name!r} already"
            )
            raise ApiKeyExists(taken)
        return secret

    async def list(self) -> list[ApiKey]:
        """Every key by name, without its secret; nobody has that."""
        stored = await self._client.hgetall(self._key)
        found = []
        for digest, record in stored.items():
            try:
                found.append(parse(digest.decode(), record))
            except InvalidApiKey:
                found.append(ApiKey(name="(broken record)", digest=digest.decode()))
        return sorted(found, key=lambda key: (key.name, key.created))

    async def count(self) -> int:
        """How many keys there are."""
        return int(await self._client.hlen(self._key))

    async def revoke(self, name: str) -> bool:
        """End every key with this name; answers whether there was one. An API notices within seconds."""
        ended = [key.digest for key in await self.list() if key.name == name]
        return bool(ended and await self._client.hdel(self._key, *ended))

    async def verify(self, secret: str) -> ApiKey | None:
        """What a key allows, None when it is not one (any more)."""
        return await self.by_digest(digest_of(secret))

    async def by_digest(self, digest: str) -> ApiKey | None:
        """As `verify`, from the key's hash."""
        record = await self._client.hget(self._key, digest)
        key = parse(digest, record) if record else None
        return key if key and hmac.compare_digest(key.digest, digest) else None


def _check(key: ApiKey, secret: str) -> None:
    if not _NAME.fullmatch(key.name):
        raise InvalidApiKey(
            f"name {key.name!r}: use lower-case letters, digits, dots, - and _; it is the source of its events"
        )
    for glob in (*key.publish, *key.subscribe):
        if not names.is_type(glob):
            raise InvalidApiKey(f"{glob!r} is not an event type or a glob over types, such as user.*")
    if key.rate is not None and not 1 <= key.rate <= 1_000_000:
        raise InvalidApiKey("a rate is a number of events a second from 1 to 1,000,000")
    if not SHORTEST <= len(secret) <= LONGEST or not _SECRET.fullmatch(secret):
        raise InvalidApiKey(f"a key has {SHORTEST} to {LONGEST} printable ASCII characters and no spaces")
