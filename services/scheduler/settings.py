"""The scheduler's own settings: environment variables `SCHEDULER_*` and `.env`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.setting_kinds import Duration, checked_url

SHIPPED = Path(__file__).with_name("schedules.toml")


class SchedulerSettings(BaseSettings):
    """What the scheduler needs beside the mesh's settings. One instance per process."""

    model_config = SettingsConfigDict(
        env_prefix="SCHEDULER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    schedules_file: Path | None = Field(
        None, description="TOML file of schedules, followed while it is edited; empty for the one that ships."
    )

    @field_validator("schedules_file", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def schedules(self) -> Path:
        """The file that is followed."""
        return self.schedules_file or SHIPPED


class AlertSettings(BaseSettings):
    """Who is told of dead letters and paused subscriptions: environment variables `ALERT_*` and `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="ALERT_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    webhook_url: SecretStr | None = Field(
        None, description='Is sent {"text": ...} about dead letters and paused subscriptions; Slack takes it.'
    )
    every: Duration = Field(timedelta(seconds=10), description="At most one alert is raised in this time.")

    @field_validator("webhook_url", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("webhook_url")
    @classmethod
    def _http(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            checked_url(value.get_secret_value(), ("http", "https"))
        return value
