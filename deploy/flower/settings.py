"""What Flower here insists on; every other `FLOWER_*` variable is an option of Flower itself."""

from __future__ import annotations

import re
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class FlowerSettings(BaseSettings):
    """Flower's own settings that must not be left to its defaults."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    basic_auth: SecretStr | None = Field(
        None,
        description="Who may look at Flower: name:password, several with commas; passwords of 8 letters or more.",
    )
    behind_iap: bool = Field(
        False,
        description="true where Google's Identity-Aware Proxy alone reaches it: then it asks for no password.",
    )
    read_only: bool = Field(
        True, description="false lets Flower stop workers and revoke tasks, and its API send tasks."
    )
    port: int = Field(
        5555,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("FLOWER_PORT", "PORT"),
        description="Where it listens; PORT, as Cloud Run sets it, where this is not set.",
    )
    url_prefix: str = Field(
        "",
        pattern=r"^/?([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?/?$",
        description="What stands before all its paths, behind a proxy.",
    )

    @field_validator("basic_auth")
    @classmethod
    def _basic_auth(cls, value: SecretStr | None) -> SecretStr | None:
        pairs = value.get_secret_value().split(",") if value and value.get_secret_value() else []
        if not all(re.fullmatch(r"[^:\s]+:\S{8,}", pair) for pair in pairs):
            raise ValueError("should be name:password, with at least 8 letters of password")
        return value if pairs else None

    @model_validator(mode="after")
    def _somebody_asks_who_it_is(self) -> Self:
        if self.basic_auth is None and not self.behind_iap:
            raise ValueError(
                "FLOWER_BASIC_AUTH: should be name:password; or FLOWER_BEHIND_IAP true, where it is"
            )
        return self

    @property
    def health_url(self) -> str:
        """Where it says that it is well, as seen from its own host."""
        prefix = self.url_prefix.strip("/")
        return f"http://127.0.0.1:{self.port}{f'/{prefix}' if prefix else ''}/healthcheck"

    @property
    def options(self) -> list[str]:
        """What Flower is started with; its command line goes before its variables."""
        options = [f"--port={self.port}", f"--read_only={str(self.read_only).lower()}"]
        if prefix := self.url_prefix.strip("/"):
            options.append(f"--url_prefix={prefix}")
        if self.basic_auth is not None:  # Flower does not read `.env`
            options.append(f"--basic_auth={self.basic_auth.get_secret_value()}")
        return options
