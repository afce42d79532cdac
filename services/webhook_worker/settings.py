"""The webhook worker's own settings: environment variables `WEBHOOK_*` and `.env`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.setting_kinds import Duration
from streammesh.webhooks.addresses import Network, parse_networks
from streammesh.webhooks.seal import Seal, parse_keys


class WebhookSettings(BaseSettings):
    """What the webhook worker needs beside the mesh's settings. One instance per process."""

    model_config = SettingsConfigDict(
        env_prefix="WEBHOOK_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    allow_private: list[str] = Field(
        [],
        description="Networks of your own that URLs may lead to, as a JSON list such as "
        '["127.0.0.0/8", "::1/128"]; for development. Else only public addresses are sent to.',
    )
    secret_keys: list[SecretStr] = Field(
        [],
        description="Keys that secrets of webhooks and URL workers are sealed with in Redis, as a JSON list of 32 bytes in "
        "base64 each: the first seals, each opens. Without any they are kept as they are.",
    )
    timeout: Duration = Field(
        timedelta(seconds=15),
        description="How long one URL may take to answer a delivery, its name included.",
    )
    concurrency: int = Field(
        16, ge=1, le=256, description="Deliveries under way at once to one URL that takes them."
    )
    max_requests: int = Field(
        2_000, ge=16, le=50_000, description="Deliveries under way at once in one process."
    )
    retry_first: Duration = Field(
        timedelta(seconds=5),
        description="Wait before the second attempt; each wait after is four times as long.",
    )
    retry_longest: Duration = Field(timedelta(hours=4), description="Longest wait between two attempts.")
    retry_for: Duration = Field(
        timedelta(hours=24), description="A delivery that failed for this long is given up."
    )
    disable_after: Duration = Field(
        timedelta(days=3), description="A webhook of which every delivery failed for this long is disabled."
    )

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        try:
            parse_networks(value)
        except ValueError as error:
            raise ValueError(f"should be networks such as 10.0.0.0/8: {error}") from None
        return value

    @field_validator("secret_keys")
    @classmethod
    def _seal_keys(cls, value: list[SecretStr]) -> list[SecretStr]:
        parse_keys([one.get_secret_value() for one in value])
        return value

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(minutes=2):
            raise ValueError("should be from 100ms to 2m")
        return value

    @field_validator("retry_first", "retry_longest", "retry_for", "disable_after")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=10):
            raise ValueError("should be at least 10ms")
        return value

    @property
    def allowed(self) -> tuple[Network, ...]:
        """The networks that are open."""
        return parse_networks(self.allow_private)

    @property
    def seal(self) -> Seal:
        """What seals and opens the secrets of webhooks and of services with a URL."""
        return Seal(parse_keys([one.get_secret_value() for one in self.secret_keys]))

    @property
    def lease(self) -> timedelta:
        """How long a webhook is a process's own without a word of it: longer than any request."""
        return 2 * self.timeout + timedelta(seconds=1)
