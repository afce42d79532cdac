"""What Flower here insists on; every other `FLOWER_*` variable is an option of Flower itself."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class FlowerSettings(BaseSettings):
    """Flower's own settings that must not be left to its defaults."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    basic_auth: SecretStr = Field(
        description="Who may look at Flower: name:password, several with commas; passwords of 8 letters or more."
    )

    @field_validator("basic_auth")
    @classmethod
    def _basic_auth(cls, value: SecretStr) -> SecretStr:
        pairs = value.get_secret_value().split(",")
        if not all(re.fullmatch(r"[^:\s]+:\S{8,}", pair) for pair in pairs):
            raise ValueError("should be name:password, with at least 8 letters of password")
        return value
