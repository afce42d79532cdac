"""Nothing is sent into our own network: by name, by number, by an address in another's clothes, after a change."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from streammesh.errors import InvalidWebhook
from streammesh.webhooks.addresses import check_url, is_refused, parse_networks

from services.webhook_worker.sender import MOST_ANSWERED, WebhookSender
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.verdict import ReceiverAnswer, judge

LOOPBACK = parse_networks(["127.0.0.0/8"])
REFUSED = "it leads into a network that nothing is sent to"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "::ffff:0:7f00:1",
        "200::1",
        "4000::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "garbage",
    ],
)
def test_an_address_of_no_public_network_is_refused(address):
    assert is_refused(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"]
)
def test_a_public_address_is_not_refused(address):
    assert not is_refused(address)


@pytest.mark.parametrize(
    "host",
    [
        *("2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518", "10.1", "0", "127.0.0.2."),
        *(
            "%31%32%37.0.0.2",
            "[v1.x]",
            "a..b",
            "a" * 64 + ".example",
            "b." * 127 + "b.b",
            "localhost.",
            "x.example:0",
        ),
    ],
)
def test_a_url_that_leads_inwards_in_another_writing_or_to_no_host_is_refused_at_the_door(host):
    with pytest.raises(InvalidWebhook):
        check_url(f"https://{host}/")


@pytest.mark.parametrize(
    "host", ["shop.example.", "134744072", "under_score.example", "[2606:4700::1111]", "1e100.net"]
)
def test_a_url_whose_host_is_seldom_but_public_is_taken(host):
    assert check_url(f"https://{host}/") == f"https://{host}/"


def test_a_network_that_is_named_is_open_and_no_other():
    assert not is_refused("127.0.0.1", LOOPBACK) and not is_refused("::ffff:127.0.0.1", LOOPBACK)
    assert is_refused("10.0.0.1", LOOPBACK) and is_refused("::1", LOOPBACK)


class Rebinding(AbstractResolver):
    """Answers another address each time; the last one for ever."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(self, host, port=0, family=0):
        host_address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [{"hostname": host, "host": host_address, "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self):
        pass


@asynccontextmanager
async def sending(allowed=LOOPBACK, seconds=5.0, resolver=None):
    sender = WebhookSender(allowed, seconds, resolver)
    yield sender
    await sender.close()


async def test_a_name_that_leads_inwards_is_refused_and_nothing_is_connected_to(receiver):
    port = receiver.url.rpartition(":")[2]
    async with sending((), resolver=Rebinding("127.0.0.1")) as sender:
        for url in (f"http://innocent.example:{port}/", f"http://127.0.0.1:{port}/", f"http://[::1]:{port}/"):
            answer = await sender.post(url, b"{}", {})
            assert (answer.status, answer.error) == (None, REFUSED)
    assert not receiver.requests


async def test_what_a_name_leads_to_is_judged_again_where_the_socket_is_made(receiver, monkeypatch):
    """A resolver that lets it pass: the connection is refused all the same."""
    monkeypatch.setattr("services.webhook_worker.sender.PublicResolver", lambda _, inner: inner)
    port = receiver.url.rpartition(":")[2]
    async with sending((), resolver=Rebinding("127.0.0.1")) as sender:
        answer = await sender.post(f"http://innocent.example:{port}/", b"{}", {})
    assert answer.error == REFUSED and not receiver.requests


async def test_a_redirect_is_not_followed(receiver):
    receiver.answer = lambda _: web.Response(status=307, headers={"location": f"{receiver.url}/elsewhere"})
    async with sending() as sender:
        answer = await sender.post(f"{receiver.url}/here", b"{}", {})
    assert answer.status == 307 and not answer.arrived and len(receiver.requests) == 1


async def test_an_answer_without_end_is_read_to_a_bound(receiver):
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                sent += 65_536
        except (ConnectionError, asyncio.CancelledError):
            return response

    receiver.answer = endless
    async with sending() as sender:
        answer = await sender.post(receiver.url, b"{}", {})
    assert answer.arrived and len(answer.body) == MOST_ANSWERED + 1 and sent < 50_000_000


async def test_an_answer_that_does_not_come_or_end_is_waited_for_no_longer_than_the_time(receiver):
    async def slow(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(3)
        return response

    receiver.answer = slow
    began = time.monotonic()
    async with sending(seconds=0.2) as sender:
        answer = await sender.post(receiver.url, b"{}", {})
    assert answer.error == "it did not answer in time" and time.monotonic() - began < 2


SETTINGS = WebhookSettings(_env_file=None)
OVERFLOWING = (
    f"Fri, 27 Nov 2026 12:00:30 +{'9' * 20}",
    f"Fri, 27 Nov {'9' * 11} 12:00:30 GMT",
)


def test_waits_grow_and_end_after_a_day():
    failed = ReceiverAnswer(500, "it answered 500")

    def wait(attempts, age_ms=0):
        return judge(
            failed, attempts=attempts, failures=0, age_ms=age_ms, settings=SETTINGS, spread=lambda *_: 1
        )

    assert [wait(n).wait_ms // 1000 for n in range(8)] == [5, 20, 80, 320, 1280, 5120, 14_400, 14_400]
    assert wait(0, 86_399_000).outcome == "gone"
    assert wait(10**6).wait_ms == 14_400_000


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("Fri, 27 Nov 2026 12:00:30 GMT", 30),
        ("Fri, 27 Nov 2020 12:00:30 GMT", 0),
        ("9" * 400, 86_400),
    ],
)
def test_retry_after_is_taken_as_seconds_or_as_a_date(said, seconds):
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    settings = WebhookSettings(_env_file=None, retry_for=timedelta(days=9))
    verdict = judge(
        ReceiverAnswer(503, "x", said), attempts=0, failures=0, age_ms=0, settings=settings, now=noon
    )
    assert verdict.wait_ms == verdict.hold_ms == max(1, seconds * 1000)


@pytest.mark.parametrize("said", ["soon", "-1", "", "٣", *OVERFLOWING])
def test_what_retry_after_says_besides_is_not_believed(said):
    verdict = judge(ReceiverAnswer(429, "x", said), attempts=0, failures=0, age_ms=0, settings=SETTINGS)
    assert 4_000 < verdict.wait_ms < 6_000 and verdict.hold_ms == 0
