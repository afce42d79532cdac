"""Which mesh the command line talks to: environment variables `STREAMMESH_*` and `.env`."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Where the API is and who asks. What is empty is taken from a mesh that `streammesh up` runs here."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMMESH_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    url: str | None = Field(
        None, description="The API that the `streammesh` command talks to; empty for one started by `up`."
    )
    key: SecretStr | None = Field(None, description="The API key that it sends.")
