"""What may be set, and what a wrong value says."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from streammesh.settings import load_settings

from services.email_worker.settings import EmailSettings, ReportStoreSettings, SmtpServer, parse_smtp_url

PAGE = Path(__file__).parents[3] / "docs" / "email.md"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://127.0.0.1:1025", SmtpServer("127.0.0.1", 1025, "plain")),
        ("smtp://mail", SmtpServer("mail", 25, "plain")),
        ("smtp://[::1]:2525/", SmtpServer("::1", 2525, "plain")),
        ("smtp://u:p@localhost:1025", SmtpServer("localhost", 1025, "plain", "u", "p")),
        ("smtp+starttls://u:p@mail.example.com", SmtpServer("mail.example.com", 587, "starttls", "u", "p")),
        ("smtps://mail.example.com", SmtpServer("mail.example.com", 465, "tls")),
        (
            "smtps://u%40x.com:p%2Fq%3A@m.example.com:9",
            SmtpServer("m.example.com", 9, "tls", "u@x.com", "p/q:"),
        ),
    ],
)
def test_a_url_names_the_server_and_the_way_to_it(url: str, server: SmtpServer) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "smtp://"),
        ("mail.example.com:25", "smtp://"),
        ("http://mail.example.com", "smtp://"),
        ("smtp://", "smtp://"),
        ("smtp://mail:99999", "port"),
        ("smtps://u:p/w@mail.example.com", "port"),
        ("smtps://mail.example.com/x", "%2F"),
        ("smtp://u:p@mail.example.com", "in the clear"),
    ],
)
def test_a_wrong_url_says_what_it_should_be(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_smtp_url(url)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EMAIL_SMTP_URL", "smtp://someone:hunter2@mail.example.com"),
        ("EMAIL_FROM_ADDRESS", "nobody"),
        ("EMAIL_FROM_ADDRESS", "a@example.com, b@example.com"),
        ("EMAIL_FROM_ADDRESS", "jörg@example.com"),
        ("EMAIL_FROM_ADDRESS", f"{'x' * 41} <a@example.com>"),
        ("EMAIL_REPLY_TO", "nobody"),
        ("EMAIL_PUBLIC_URL", "javascript:alert(1)"),
        ("EMAIL_PUBLIC_URL", "https://mesh.example?x=1"),
        ("EMAIL_TLS_CA", "/nowhere/ca.pem"),
        ("EMAIL_CONNECT_TIMEOUT", "soon"),
        ("EMAIL_IDLE_CLOSE", "0"),
        ("EMAIL_ATTACH_LIMIT_BYTES", "-1"),
        ("EMAIL_HELO_NAME", "two words"),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line_that_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        load_settings(EmailSettings)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"{variable}: ") and said.count("\n") == 1
    assert "hunter2" not in said


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EmailSettings.model_fields:
        monkeypatch.setenv(f"EMAIL_{name.upper()}", "")
    monkeypatch.setenv("REPORT_STORE_URL", "")
    assert load_settings(EmailSettings) == EmailSettings.model_construct()
    assert load_settings(ReportStoreSettings).store_url == "var/store"


def test_a_password_is_not_shown() -> None:
    settings = EmailSettings(smtp_url=SecretStr("smtps://someone:hunter2@mail.example.com"))
    assert "hunter2" not in f"{settings!r} {settings.server!r}"
    assert settings.server.password == "hunter2"


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError):
        EmailSettings().product = "other"  # type: ignore[misc]


def test_the_store_is_the_report_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_STORE_URL", "s3://bucket/reports")
    assert load_settings(ReportStoreSettings).store_url == "s3://bucket/reports"


def test_the_page_about_email_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `((?:EMAIL|REPORT)_\w+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    code = {
        f"{settings.model_config.get('env_prefix')}{name.upper()}": field.default
        for settings in (EmailSettings, ReportStoreSettings)
        for name, field in settings.model_fields.items()
    }
    assert sorted(name for name, _ in rows) == sorted(code)
    for name, default in rows:
        if default.startswith("`"):
            assert default == f"`{shown(code[name])}`", name
        else:
            assert code[name] is None, name


def shown(value: object) -> str:
    """A default as one would write it in the environment."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return str(value).lower()
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def test_a_sender_may_have_a_name_with_any_letters() -> None:
    settings = EmailSettings(
        from_address='"Müller & Söhne" <post@bücher.example>', reply_to="help@example.com"
    )
    assert (settings.sender.name, settings.sender.address) == ("Müller & Söhne", "post@xn--bcher-kva.example")
    assert settings.answers is not None and settings.answers.address == "help@example.com"
    assert EmailSettings(reply_to="").answers is None


def test_the_public_url_has_no_slash_at_its_end() -> None:
    assert EmailSettings(public_url="https://mesh.example/base/").public_url == "https://mesh.example/base"
