"""API keys: who may publish what and be told what. Only their hashes are stored.

A key is 256 random bits, so one SHA-256 without salt is enough: there is no dictionary to try. It is
found by its hash; a secret is never compared with a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
import redis.asyncio

from streammesh import lua, names
from streammesh.clock import rfc3339, to_ms
from streammesh.errors import ApiKeyExists, ApiKeyRevoked, InvalidApiKey
from streammesh.keys import Keys
from streammesh.lua.services import CreateApiKeyScript, OldApiKey, RevokeApiKeysScript, RotateApiKeyScript

PREFIX = "smk_"  # so that a key is known for one where it should not be, in a log or a repository
SHORTEST = 24  # characters of a key that an operator brings
LONGEST = 256
EVERYTHING = ("*",)
LONGEST_SOURCE = 1_024
REVOKED_KEPT = 10_000  # revoked keys that are remembered
ROTATE_TRIES = 5
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
    sources: tuple[str, ...] = ()  # globs over sources beside its own name
    expires_ms: int | None = None  # it is worth nothing from then on, ms since the epoch
    digest: str = field(default="", repr=False)

    def may_publish(self, event_type: str) -> bool:
        """Whether it may publish events of this type."""
        return self.admin or any(names.matches(glob, event_type) for glob in self.publish)

    def may_subscribe(self, event_type: str) -> bool:
        """Whether it may read events of this type and what came of them."""
        return self.admin or any(names.matches(glob, event_type) for glob in self.subscribe)

    def may_publish_as(self, source: str) -> bool:
        """Whether events of this source may be its own. Names of services are for the API to refuse besides."""
        return source == self.name or self.admin or any(names.matches(glob, source) for glob in self.sources)

    def claims(self, source: str) -> bool:
        """Whether the source was given to it by name: then it may be a service's."""
        return source in self.sources

    def has_expired(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return self.expires_ms is not None and self.expires_ms <= now_ms

    @property
    def may_subscribe_to_any(self) -> bool:
        """Whether there can be an event that it may read."""
        return self.admin or bool(self.subscribe)

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
        for field_name in ("publish", "subscribe", "sources"):
            globs = value.get(field_name, [])
            if not isinstance(globs, list) or not all(isinstance(glob, str) for glob in globs):
                raise TypeError(f"{field_name} is no list of globs")
        rate = value.get("rate")
        if not isinstance(value["name"], str) or not isinstance(value.get("created", ""), str):
            raise TypeError("its name is no text")
        if rate is not None and (not isinstance(rate, int) or isinstance(rate, bool) or rate < 1):
            raise TypeError("its rate is no number of events a second")
        return ApiKey(
            name=value["name"],
            publish=tuple(value.get("publish", ())),
            subscribe=tuple(value.get("subscribe", ())),
            admin=value.get("admin") is True,
            rate=value.get("rate"),
            created=value.get("created", ""),
            sources=tuple(value.get("sources", ())),
            expires_ms=None if value.get("expires_ms") is None else int(value["expires_ms"]),
            digest=digest,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidApiKey(f"the record of an API key is broken: {error!r}") from None


class ApiKeys:
    """Creates, lists, revokes and verifies the keys of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.api_keys()
        self._revoked, self._used, self._manifests = (
            keys.api_keys_revoked(),
            keys.api_keys_used(),
            keys.manifests(),
        )
        self._version = keys.webhooks_version()

    async def create(
        self,
        name: str,
        *,
        publish: Iterable[str] = (),
        subscribe: Iterable[str] = (),
        admin: bool = False,
        rate: int | None = None,
        sources: Iterable[str] = (),
        expires: timedelta | None = None,
        secret: str | None = None,
        how: How = "new",
    ) -> str:
        """Make a key and return it; this is the only time that it is seen.

        `how`: `new` refuses a name that is taken, `replace` ends the keys that had it, `first` refuses
        when the mesh has any key. An operator may bring the `secret`. Atomic. Raises InvalidApiKey for
        what cannot be a name, a glob, a rate or a secret, or is a service's name that `sources` does not
        hold, ApiKeyExists when it is refused, and ApiKeyRevoked when this secret was revoked before.
        """
        now = datetime.now(UTC)
        key = ApiKey(
            name=name,
            publish=tuple(publish),
            subscribe=tuple(subscribe),
            admin=admin,
            rate=rate,
            created=rfc3339(now),
            sources=tuple(sources),
            expires_ms=_end_of_life(now, expires),
        )
        secret = PREFIX + secrets.token_urlsafe(32) if secret is None else secret
        _check(key, secret)
        if name == names.MESH and not key.claims(name):
            raise _reserved(name)
        call = CreateApiKeyScript(
            api_keys=self._key,
            revoked=self._revoked,
            manifests=self._manifests,
            webhooks_version=self._version,
            name=name,
            hash=digest_of(secret),
            record=_record(key),
            how=how,
            now=to_ms(now),
            claims_its_name=key.claims(name),
        ).call(bytes)
        answer = await lua.run(self._client, call)
        if answer == b"reserved":
            raise _reserved(name)
        if answer == b"revoked":
            raise ApiKeyRevoked("this key was revoked, and stays so; bring another")
        if answer == b"taken":
            taken = (
                "the mesh has API keys already" if how == "first" else f"there is an API key {name!r} already"
            )
            raise ApiKeyExists(taken)
        return secret

    async def rotate(self, name: str, overlap: timedelta) -> str:
        """Make another key of the same name and scopes, and have the old ones end after `overlap`; answers the new one.

        Raises InvalidApiKey when there is no key of this name, and when others changed it again and again.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        for _ in range(ROTATE_TRIES):
            now = datetime.now(UTC)
            now_ms, ends_ms = to_ms(now), to_ms(now + overlap)
            old = [(key, raw) for key, raw in await self._stored() if key.name == name]
            valid = sorted(
                (key for key, _ in old if not key.has_expired(now_ms)), key=lambda key: key.created
            )
            if not valid:
                raise InvalidApiKey(f"there is no API key {name!r}; `streammesh keys list` shows them")
            fresh = replace(valid[-1], created=rfc3339(now), digest="", expires_ms=_later_end(valid[-1]))
            old_keys = []
            for key, raw in old:
                end = ends_ms if key.expires_ms is None else min(key.expires_ms, ends_ms)
                ending = b"" if end <= now_ms else _record(replace(key, expires_ms=end))
                old_keys.append(OldApiKey(hash=key.digest, read=raw, ending=ending))
            call = RotateApiKeyScript(
                api_keys=self._key,
                revoked=self._revoked,
                webhooks_version=self._version,
                hash=digest_of(secret),
                record=_record(fresh),
                now=now_ms,
                remembered=REVOKED_KEPT,
                old_keys=old_keys,
            ).call(bool)
            if await lua.run(self._client, call):
                return secret
        raise InvalidApiKey(f"the API key {name!r} is being changed by somebody else; try again")

    async def list(self) -> list[ApiKey]:
        """Every key by name, without its secret; nobody has that."""
        return sorted((key for key, _ in await self._stored()), key=lambda key: (key.name, key.created))

    async def _stored(self) -> Sequence[tuple[ApiKey, bytes]]:
        found = []
        for digest, record in (await self._client.hgetall(self._key)).items():
            shown = digest.decode("utf-8", "replace")
            try:
                found.append((parse(shown, record), record))
            except InvalidApiKey:
                found.append((ApiKey(name="(broken record)", digest=shown), record))
        return found

    async def last_uses(self) -> dict[str, int]:
        """Hash of a key -> about when it was last used, ms since the epoch."""
        stored = await self._client.hgetall(self._used)
        return {digest.decode("utf-8", "replace"): int(ms) for digest, ms in stored.items() if ms.isdigit()}

    async def used(self, digest: str, now_ms: int) -> None:
        """Remember that a key was used."""
        await self._client.hset(self._used, digest, now_ms)

    async def count(self) -> int:
        """How many keys there are."""
        return int(await self._client.hlen(self._key))

    async def revoke(self, name: str) -> bool:
        """End every key with this name; answers whether there was one. An API notices within seconds."""
        ended = [key.digest for key in await self.list() if key.name == name]
        if not ended:
            return False
        call = RevokeApiKeysScript(
            api_keys=self._key,
            revoked=self._revoked,
            last_uses=self._used,
            webhooks_version=self._version,
            now=to_ms(datetime.now(UTC)),
            remembered=REVOKED_KEPT,
            hashes=ended,
        ).call(bool)
        return await lua.run(self._client, call)

    async def verify(self, secret: str) -> ApiKey | None:
        """What a key allows, None when it is not one (any more)."""
        return await self.by_digest(digest_of(secret))

    async def valid_of(self, digests: Sequence[str], now_ms: int) -> set[str]:
        """Which of these hashes stand for keys that are still valid; in one round trip."""
        valid = set()
        for digest, record in zip(digests, await self._client.hmget(self._key, digests), strict=True):
            try:
                if record and not parse(digest, record).has_expired(now_ms):
                    valid.add(digest)
            except InvalidApiKey:
                continue
        return valid

    async def by_digest(self, digest: str) -> ApiKey | None:
        """As `verify`, from the key's hash."""
        record = await self._client.hget(self._key, digest)
        key = parse(digest, record) if record else None
        if key is None or key.has_expired(to_ms(datetime.now(UTC))):
            return None
        return key if hmac.compare_digest(key.digest, digest) else None


def _record(key: ApiKey) -> bytes:
    record = asdict(key)
    del record["digest"]
    return orjson.dumps(record)


def _end_of_life(now: datetime, expires: timedelta | None) -> int | None:
    if expires is None:
        return None
    if expires <= timedelta():
        raise InvalidApiKey("a key that expires lasts for more than 0 seconds, such as 90d")
    try:
        return to_ms(now + expires)
    except OverflowError:
        raise InvalidApiKey("a key that expires ends before the year 10000") from None


def _later_end(key: ApiKey) -> int | None:
    """When the follower of a key ends: it has as long a life as the key had."""
    if key.expires_ms is None:
        return None
    born = to_ms(datetime.fromisoformat(key.created.replace("Z", "+00:00")))
    return to_ms(datetime.now(UTC)) + key.expires_ms - born


def _reserved(name: str) -> InvalidApiKey:
    return InvalidApiKey(
        f"name {name!r} is a service's, under which it publishes; take another, or say with --source {name} that"
        " this key may publish as the service"
    )


def is_secret(text: str) -> bool:
    """Whether it can be a key that an operator brings."""
    return SHORTEST <= len(text) <= LONGEST and _SECRET.fullmatch(text) is not None


def _check(key: ApiKey, secret: str) -> None:
    if not _NAME.fullmatch(key.name):
        raise InvalidApiKey(
            f"name {key.name!r}: use lower-case letters, digits, dots, - and _; it is the source of its events"
        )
    for glob in (*key.publish, *key.subscribe):
        if not names.is_type(glob):
            raise InvalidApiKey(f"{glob!r} is not an event type or a glob over types, such as user.*")
    for glob in key.sources:
        if not 0 < len(glob) <= LONGEST_SOURCE or not glob.isprintable() or " " in glob:
            raise InvalidApiKey(f"{glob!r} is not a source or a glob over sources, such as shop or /shops/*")
    if key.rate is not None and not 1 <= key.rate <= 1_000_000:
        raise InvalidApiKey("a rate is a number of events a second from 1 to 1,000,000")
    if not is_secret(secret):
        raise InvalidApiKey(f"a key has {SHORTEST} to {LONGEST} printable ASCII characters and no spaces")
