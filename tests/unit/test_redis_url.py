"""Redis URLs: what they say, and one line without the password for what cannot be read."""

from __future__ import annotations

from importlib import import_module

import pytest
from streammesh.redis_url import parse_redis_url
from streammesh.redisio.pools import shown
from streammesh.settings import MeshSettings, load_settings

SECRET = "s3cr3t"
ODD = "p@ss:w/rd#?%&;,+ü"
ENCODED = "p%40ss%3Aw%2Frd%23%3F%25&;,+%C3%BC"


def test_a_fixed_server():
    url = parse_redis_url("redis://user:pass@cache.example/3")
    assert (url.kind, url.hosts, url.db, url.tls) == ("fixed", (("cache.example", 6379),), 3, False)
    assert (url.username, url.password) == ("user", "pass")


@pytest.mark.parametrize(
    ("text", "hosts", "service"),
    [
        ("redis+sentinel://a,b:1,c:2/main?db=2", (("a", 26379), ("b", 1), ("c", 2)), "main"),
        ("rediss+cluster://a,b:7001,[::1]:7002", (("a", 6379), ("b", 7001), ("::1", 7002)), ""),
        ("redis://[fe80::1]:7000", (("fe80::1", 7000),), ""),
    ],
)
def test_hosts_are_taken_apart(text, hosts, service):
    url = parse_redis_url(text)
    assert (url.hosts, url.service) == (hosts, service)
    assert url.tls == text.startswith("rediss")


@pytest.mark.parametrize("tail", ["a:1", "a:1,b:2/main"])
def test_any_character_may_stand_in_a_password(tail):
    scheme = "redis+sentinel" if "/" in tail else "redis"
    url = parse_redis_url(f"{scheme}://us%3Aer:{ENCODED}@{tail}")
    assert (url.username, url.password) == ("us:er", ODD)


def test_sentinels_may_have_a_password_of_their_own():
    url = parse_redis_url("redis+sentinel://:a@s/main?sentinel_password=p%40ss+&sentinel_username=w")
    assert (url.password, url.sentinel_username, url.sentinel_password) == ("a", "w", "p@ss+")


def test_a_socket_has_a_path():
    assert parse_redis_url("unix:///run/redis.sock?db=2").path == "/run/redis.sock"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{SECRET}@host:abc",
        f"redis://:{SECRET}@host:0",
        f"redis://:{SECRET}@host:99999",
        f"redis://:{SECRET}/x@host:6379",
        f"redis://:{SECRET}#x@host:6379",
        f"redis://:{SECRET}?x@host:6379",
        f"redis://:{SECRET}%zz@host",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@ho st",
        f"redis://:{SECRET}@host/abc",
        f"redis://:{SECRET}@host/-1",
        f"redis://:{SECRET}@host/99999999999999999999",
        f"redis://:{SECRET}@one,two/0",
        f"redis://:{SECRET}@host?ssl_cert_reqs=none",
        f"redis+sentinel://:{SECRET}@host:1",
        f"redis+sentinel://:{SECRET}@host:1,/main",
        f"redis+cluster://:{SECRET}@host:1?db=1",
        f"unix://:{SECRET}@relative.sock",
        f"http://:{SECRET}@host",
        f"redis:/{SECRET}@host",
        f"{SECRET}",
        "redis://",
        "",
        "redis://[::1",
        "redis://host:６３７９",
    ],
)
def test_a_wrong_url_is_one_line_that_names_the_variable_and_not_the_password(text, monkeypatch, capsys):
    monkeypatch.setenv("MESH_REDIS_URL", text)
    with pytest.raises(SystemExit) as ended:
        load_settings(MeshSettings)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("MESH_REDIS_URL: ") and said.count("\n") == 1
    assert SECRET not in said and "Traceback" not in said


@pytest.mark.parametrize(
    "text",
    [
        f"amqp://u:{SECRET}@host:abc//",
        f"amqp://u:{SECRET}/x@host:5672//",
        f"redis://:{SECRET}#@host",
        f"amqp://u:{SECRET}@",
        f"kafka://u:{SECRET}@h",
    ],
)
def test_so_is_a_wrong_url_of_another_broker(text, monkeypatch, capsys):
    monkeypatch.setenv("MESH_BROKER_URL", text)
    with pytest.raises(SystemExit):
        load_settings(MeshSettings)
    said = capsys.readouterr().err
    assert said.startswith("MESH_BROKER_URL: ") and said.count("\n") == 1
    assert SECRET not in said


@pytest.mark.parametrize(
    "text",
    [
        f"redis://u:{SECRET}@host/0",
        f"redis+sentinel://u:{SECRET}@a,b/main?sentinel_password={SECRET}",
        f"rediss+cluster://u:{SECRET}@a,b",
        f"unix://u:{SECRET}@/run/redis.sock",
    ],
)
def test_people_are_shown_no_password(text):
    assert SECRET not in shown(text)
    assert SECRET not in repr(parse_redis_url(text))


@pytest.mark.parametrize(
    ("module", "settings", "variable", "text"),
    [
        ("services.api.settings", "StoreSettings", "REPORT_STORE_URL", f"s3://a:{SECRET}@:::"),
        ("services.api.settings", "StoreSettings", "REPORT_STORE_URL", f"foo://:{SECRET}@x"),
        ("services.email_worker.settings", "ReportStoreSettings", "REPORT_STORE_URL", f"gs://{SECRET}:x"),
        ("services.email_worker.settings", "EmailSettings", "EMAIL_SMTP_URL", f"smtp://u:{SECRET}@h:abc"),
        ("services.email_worker.settings", "EmailSettings", "EMAIL_PUBLIC_URL", f"http://u:{SECRET}@h:abc"),
        ("services.scheduler.settings", "AlertSettings", "ALERT_WEBHOOK_URL", f"https://u:{SECRET}@h:abc/"),
    ],
)
def test_so_is_a_wrong_url_of_a_service(module, settings, variable, text, monkeypatch, capsys):
    monkeypatch.setenv(variable, text)
    with pytest.raises(SystemExit):
        load_settings(getattr(import_module(module), settings))
    said = capsys.readouterr().err
    assert said.startswith(f"{variable}: ") and said.count("\n") == 1
    assert SECRET not in said
