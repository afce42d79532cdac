"""Which mesh the command line talks to: environment variables `STREAMMESH_*` and `.env`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from streammesh.settings import Duration


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
    retry_for: Duration = Field(
        timedelta(seconds=2),
        description="For how long it asks again where the API does not answer, or says to come again.",
    )


class UpSettings(BaseSettings):
    """What `streammesh up` itself is told. `API_PORT` is the API's own setting."""

    model_config = SettingsConfigDict(
        env_prefix="API_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
