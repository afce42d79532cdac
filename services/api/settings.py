"""The API's own settings: environment variables `API_*`, `REPORT_STORE_URL` and `.env`."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.api_keys import LONGEST, SHORTEST, is_secret
from streammesh.setting_kinds import Duration, StoreUrl
from streammesh.webhooks.addresses import Network, parse_networks
from streammesh.webhooks.seal import Seal, parse_keys

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


class ApiSettings(BaseSettings):
    """What the API needs beside the mesh's settings. One instance per process."""

    model_config = SettingsConfigDict(
        env_prefix="API_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs API keys.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    admin_key: SecretStr | None = Field(
        None, description="An admin key of your own (24 characters or more), stored as a hash at start."
    )
    dev_key_file: Path | None = Field(
        None, description="Where the development key is written as well, readable by you alone."
    )
    rate: int = Field(
        0, ge=0, description="Events a second that one key may publish to one process; 0 for no limit."
    )
    max_concurrent: int = Field(
        12_000, ge=1, description="Requests served at once by one process, streams included."
    )
    max_streams: int = Field(5_000, ge=1, description="Notification streams open at once in one process.")
    max_streams_per_key: int = Field(
        1_000, ge=1, description="Notification streams open at once for one key in one process."
    )
    max_batch_bytes: int = Field(
        8_388_608, ge=1024, le=16_777_216, description="Largest body of a batch of events, in bytes."
    )
    max_upload_bytes: int = Field(
        33_554_432, ge=1024, le=1_073_741_824, description="Largest file uploaded for a report, in bytes."
    )
    upload_quota_bytes: int = Field(
        1_073_741_824, ge=0, description="Most bytes of uploads that the store keeps for one API key."
    )
    upload_quota_files: int = Field(
        1_000, ge=0, description="Most uploaded files that the store keeps for one API key."
    )
    local_domains: bool = Field(
        False,
        validation_alias="EMAIL_LOCAL_DOMAINS",
        description="Whether mail may go to hosts without a dot and below .local: those of your own network.",
    )
    recipients: list[str] = Field(
        [],
        validation_alias="EMAIL_RECIPIENTS",
        description='Who reports may be mailed to, as a JSON list of patterns such as ["*@example.com"]; empty: anybody.',
    )
    cors_origins: list[str] = Field(
        [],
        description="Origins whose pages may call the API from a browser, as a JSON list such as "
        '["https://shop.example"]; "*" for all of them.',
    )
    allow_private: list[str] = Field(
        [],
        validation_alias="WEBHOOK_ALLOW_PRIVATE",
        description="Networks of your own that URLs may lead to, as a JSON list such as "
        '["127.0.0.0/8", "::1/128"]; for development. Else only public addresses are sent to.',
    )
    secret_keys: list[SecretStr] = Field(
        [],
        validation_alias="WEBHOOK_SECRET_KEYS",
        description="Keys that secrets of webhooks and URL workers are sealed with in Redis, as a JSON list of 32 bytes in "
        "base64 each: the first seals, each opens. Without any they are kept as they are.",
    )
    heartbeat: Duration = Field(
        timedelta(seconds=15), description="How often a quiet notification stream shows that it is alive."
    )
    stall: Duration = Field(
        timedelta(seconds=30), description="A client that takes nothing for this long is disconnected."
    )
    key_refresh: Duration = Field(
        timedelta(seconds=2), description="How old a known key may be before it is looked up again meanwhile."
    )
    key_lifetime: Duration = Field(
        timedelta(seconds=5), description="A revoked key is refused after this at the latest."
    )
    start_timeout: Duration = Field(
        timedelta(seconds=30), description="How long to wait for Redis at start before giving up."
    )
    drain: Duration = Field(
        timedelta(seconds=10), description="How long open requests may take when the process is told to stop."
    )
    access_log: bool = Field(False, description="Log every request; costs about a tenth of the throughput.")

    @field_validator("heartbeat", "stall", "key_refresh", "key_lifetime")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=50):
            raise ValueError("should be at least 50ms")
        return value

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        try:
            parse_networks(value)
        except ValueError as error:
            raise ValueError(f"should be networks such as 10.0.0.0/8: {error}") from None
        return value

    @property
    def open_networks(self) -> tuple[Network, ...]:
        """The networks of one's own that webhooks may lead to."""
        return parse_networks(self.allow_private)

    @property
    def seal(self) -> Seal:
        """What seals and opens the secrets of webhooks and of services with a URL."""
        return Seal(parse_keys([one.get_secret_value() for one in self.secret_keys]))

    @field_validator("secret_keys")
    @classmethod
    def _seal_keys(cls, value: list[SecretStr]) -> list[SecretStr]:
        parse_keys([one.get_secret_value() for one in value])
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin[:80]!r} is no origin, such as https://shop.example, without a path"
                )
        return value

    @field_validator("admin_key")
    @classmethod
    def _admin_key(cls, value: SecretStr | None) -> SecretStr | None:
        secret = value.get_secret_value() if value else ""
        if secret and not is_secret(secret):
            raise ValueError(f"should be {SHORTEST} to {LONGEST} printable ASCII characters without spaces")
        return value

    @property
    def is_exposed(self) -> bool:
        """Whether anybody but this machine can reach it."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True


class StoreSettings(BaseSettings):
    """Where reports are; the report worker reads the same variable."""

    model_config = SettingsConfigDict(
        env_prefix="REPORT_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    store_url: StoreUrl = Field(
        "var/store",
        min_length=1,
        description="Where reports are kept: a local folder, or s3://bucket/prefix (also gs://, az://).",
    )
