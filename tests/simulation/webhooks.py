"""Webhooks: two webhook workers, receivers outside that fail and are slow, people who disable, replay and remove."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import redis.asyncio
from streammesh.api_keys import ApiKeys
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.redisio.channel_watch import watch
from streammesh.redisio.client import open_async
from streammesh.roles import keep_on
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import WebhookStore, body_of
from streammesh.webhooks.url_workers import UrlSubscription, UrlWorker, read_url_worker, store_url_worker

from services.webhook_worker.__main__ import LOOK_EVERY
from services.webhook_worker.crew import Crew
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.verdict import GONE, ReceiverAnswer
from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.forgetting import Forgotten
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.world import World

declare(
    "a delivery came twice",
    "a delivery arrived that had failed before",
    "deliveries to one webhook were made by two webhook workers",
    "a webhook had joined the others and was behind again",
    "a webhook was disabled because its receiver was gone",
    "a webhook was disabled while it was behind",
    "a webhook had changed when a change of it was to be stored",
    "a service behind a URL had changed when a change of it was to be stored",
)
OWN = WebhookSettings(
    _env_file=None, timeout="500ms", concurrency=3, retry_first="100ms", retry_longest="1s", retry_for="1h",
    disable_after="1h",
)  # fmt: skip
TYPES = ("user.registered", "bill.paid")
PLAIN, ORDERED, NARROW, REMOVED = "plain", "ordered", "narrow", "removed"


class Receivers:
    """All URLs there are, outside the mesh: what each took, from whom, and what it answers next."""

    def __init__(self) -> None:
        self.took: defaultdict[str, list[str]] = defaultdict(list)  # webhook -> deliveries, in order
        self._refused: set[str] = set()
        self._from: defaultdict[str, set[str]] = defaultdict(set)
        self.gone_once: set[str] = set()  # webhooks whose receiver answers once that it is gone

    def answer(self, webhook: str, delivery: str, host: str) -> int:
        """Return the status with which a request is answered."""
        if webhook in self.gone_once:
            self.gone_once.remove(webhook)
            return GONE
        if random.randrange(6) == 0:
            self._refused.add(delivery)
            return 500
        took, hosts = self.took[webhook], self._from[webhook]
        sometimes("a delivery came twice", delivery in took)
        sometimes("a delivery arrived that had failed before", delivery in self._refused)
        took.append(delivery)
        hosts.add(host)
        sometimes("deliveries to one webhook were made by two webhook workers", len(hosts) > 1)
        return 204


class SimulatedSender:
    """What stands in for the HTTP client of one process."""

    most_answered = 65_536

    def __init__(self, receivers: Receivers, host: str) -> None:
        self._receivers, self._host = receivers, host

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> ReceiverAnswer:
        """Make a request; its answer may be lost on the way back."""
        await asyncio.sleep(random.choice((0.0, 0.01, 0.05)))
        webhook = url.removeprefix("https://").partition(".")[0]
        status = self._receivers.answer(webhook, headers["webhook-id"], self._host)
        if random.randrange(12) == 0:
            await asyncio.sleep(OWN.timeout.total_seconds())
            return ReceiverAnswer(None, "it did not answer in time")
        await asyncio.sleep(random.choice((0.0, 0.02)))
        return ReceiverAnswer(status, None if status < 300 else f"it answered {status}")

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def webhook_worker(world: World, receivers: Receivers) -> Any:
    """Return a role: the crew of a webhook worker, as it is wired in production, without its HTTP client."""

    async def role(host: str) -> None:
        clients = [open_async(world.settings, "hooks", blocking=blocking) for blocking in (False, True, True)]
        sender: Any = SimulatedSender(receivers, host)
        crew = Crew(clients[0], clients[1], world.keys, OWN, sender)
        patience = world.settings.redis_timeout
        channel = world.keys.webhooks_changed()
        watcher = keep_on("watcher", lambda: watch(clients[2], channel, crew.changed, LOOK_EVERY, patience))
        await asyncio.gather(watcher, *crew.roles())

    return role


def made(name: str, **options: Any) -> Webhook:
    """Return a webhook."""
    return Webhook(name, f"https://{name}.example/", "shop", secrets=(Secret(new_secret()),), **options)


def add(keys: Keys, webhook: Webhook) -> Errand:
    """Return an errand: a webhook is stored, to be told all from the beginning on."""

    async def errand(client: redis.asyncio.Redis) -> None:
        store = WebhookStore(client, keys)
        if await store.one(webhook.id) is None and await store.put(webhook) != "stored":
            raise NotYet

    return errand


def switch(keys: Keys, name: str, on: bool) -> Errand:
    """Return an errand: a webhook is enabled or disabled."""

    async def errand(client: redis.asyncio.Redis) -> None:
        store = WebhookStore(client, keys)
        stored = await store.one(name)
        if stored is None:
            raise NotYet
        if stored.webhook.enabled == on:
            return
        sometimes("a webhook was disabled because its receiver was gone", bool(stored.webhook.disabled_why))
        (standing,) = await store.standings([name])
        sometimes("a webhook was disabled while it was behind", not on and standing.behind is not None)
        changed = replace(stored.webhook, enabled=on, disabled_why=None)
        done = await store.put(changed, stored.raw)
        sometimes("a webhook had changed when a change of it was to be stored", done == "moved")
        if done != "stored":
            raise NotYet

    return errand


def describe(keys: Keys, name: str, words: str, pause: float) -> Errand:
    """Return an errand: a webhook is looked at, thought about for a while, and given another description."""

    async def errand(client: redis.asyncio.Redis) -> None:
        store = WebhookStore(client, keys)
        stored = await store.one(name)
        if stored is None:
            raise NotYet
        if words in stored.webhook.description:
            return
        await asyncio.sleep(pause)
        changed = replace(stored.webhook, description=f"{stored.webhook.description} {words}")
        done = await store.put(changed, stored.raw)
        sometimes("a webhook had changed when a change of it was to be stored", done == "moved")
        if done != "stored":
            raise NotYet

    return errand


def seek(keys: Keys, name: str, position: str) -> Errand:
    """Return an errand: a webhook is to be told again all after a position."""

    async def errand(client: redis.asyncio.Redis) -> None:
        store = WebhookStore(client, keys)
        (standing,) = await store.standings([name])
        sometimes("a webhook had joined the others and was behind again", standing.behind is None)
        await store.seek(name, position)

    return errand


def tell_again(keys: Keys, name: str) -> Errand:
    """Return an errand: the first notifications are told again by their ids."""

    async def errand(client: redis.asyncio.Redis) -> None:
        store = WebhookStore(client, keys)
        stored = await store.one(name)
        if stored is None:
            raise NotYet
        page = await NotificationLog(client, keys).read("0-0", 4)
        mine = [note for note in page.notes if stored.webhook.wants(note)]
        await store.queue(stored.webhook, {note.id: body_of(note) for note in mine})

    return errand


def remove(keys: Keys, name: str) -> Errand:
    """Return an errand: a webhook is removed."""

    async def errand(client: redis.asyncio.Redis) -> None:
        await WebhookStore(client, keys).remove(name)

    return errand


def webhooks(*, events: int = 8, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: each notification that a webhook asked for is delivered to it, whoever is struck, and though
    it is disabled and enabled in between; to one in order, in order; of a removed one nothing is left."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, spared=("dispatcher-1",)) as world:
            keys, receivers = world.keys, Receivers()
            await world.plain(lambda client: ApiKeys(client, keys).create("shop", admin=True))
            sent = {name: [f"{name}{n}" for n in range(events // 2)] for name in TYPES}
            world.start("dispatcher", world.dispatcher)
            for name in ("webhook worker a", "webhook worker b"):
                world.start(name, webhook_worker(world, receivers))
            every = random.choice((0.02, 0.2))
            for name, ids in sent.items():
                world.start(f"publisher {name}", world.publisher(ids, name, lambda _: {}, every))
            if random.random() < 0.5:
                receivers.gone_once = {PLAIN, ORDERED}

            def pause() -> Errand:
                return wait(random.choice((0.0, 0.02, 0.1, 0.4)))

            thought = random.choice((0.0, 0.2))
            owner = [
                *(add(keys, made(PLAIN)), add(keys, made(NARROW, types=("bill.*",)))),
                *(describe(keys, NARROW, "by its owner", thought), pause()),
                *(switch(keys, PLAIN, False), pause(), switch(keys, PLAIN, True), pause()),
                *(seek(keys, PLAIN, "0-0"), tell_again(keys, NARROW)),
            ]
            other = [
                *(add(keys, made(ORDERED, ordered=True)), add(keys, made(REMOVED))),
                *(describe(keys, NARROW, "by another", thought), pause()),
                *(switch(keys, ORDERED, False), remove(keys, REMOVED), pause(), switch(keys, ORDERED, True)),
            ]
            world.start("operator a", operator(world, owner))
            world.start("operator b", operator(world, other))

            async def wanted(client: redis.asyncio.Redis) -> dict[str, list[str]]:
                told = [(at, fields[b"y"]) for at, _, fields in await checkers.notes(client, world)]
                every = [at for at, _ in told]
                narrow = [at for at, event_type in told if event_type.startswith(b"bill.")]
                found = {PLAIN: every, ORDERED: every, NARROW: narrow}
                return {name: [f"{name}_{at}" for at in places] for name, places in found.items()}

            async def enable(client: redis.asyncio.Redis) -> None:
                """What a receiver that was gone had disabled is enabled again."""
                if not world.is_busy():
                    for name in (PLAIN, ORDERED, NARROW):
                        try:
                            await switch(keys, name, True)(client)
                        except NotYet:
                            pass  # at the next look

            async def missing(client: redis.asyncio.Redis) -> str:
                found = await wanted(client)
                if len(found[PLAIN]) < 2 * (events // 2):
                    return f"{len(found[PLAIN])} notifications"
                left = {name: set(ids) - set(receivers.took[name]) for name, ids in found.items()}
                return "; ".join(f"{name} was not told {sorted(ids)}" for name, ids in left.items() if ids)

            async def check(client: redis.asyncio.Redis) -> None:
                for name, ids in (await wanted(client)).items():
                    firsts = list(dict.fromkeys(receivers.took[name]))
                    unasked = set(firsts) - set(ids)
                    assert not unasked, f"{name} was told {unasked}; {world.striker.history}"
                    assert name != ORDERED or firsts == ids, f"{firsts}, not {ids}; {world.striker.history}"
                narrow = await WebhookStore(client, keys).one(NARROW)
                said = narrow.webhook.description if narrow else ""
                assert "owner" in said, f"a change was lost, {said!r} is left; {world.striker.history}"
                assert "another" in said, f"a change was lost, {said!r} is left; {world.striker.history}"
                own = (keys.webhook, keys.webhook_queue, keys.webhook_entries, keys.webhook_attempts)
                left = [name for key in own for name in [key(REMOVED)] if await client.exists(name)]
                assert not left, f"of a removed webhook there is {left}; {world.striker.history}"

            try:
                await world.settle(missing, 120, enable)
            except Forgotten:
                await until_told(world, missing, enable)
                raise
            await world.plain(check)

    return run


async def until_told(world: World, missing: Any, meanwhile: Any) -> None:
    """Let virtual time pass until nobody misses what is left after the server forgot something."""
    left = "?"
    for _ in range(120):
        await world.plain(meanwhile)
        left = await world.plain(missing)
        if not left or left.endswith("notifications"):
            return
        world.check_unbroken()
        await asyncio.sleep(0.5)
    raise AssertionError(f"{left}; {world.striker.history}")


def url_services(*, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two people change one service behind a URL at once; each change that was answered counts."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, one_in=4) as world:
            added: Counter[str] = Counter()  # what was stored, as its owner was answered

            def widen(name: str) -> Errand:
                async def errand(client: redis.asyncio.Redis) -> None:
                    worker, raw = await read_url_worker(client, world.keys, "till")
                    wanted = worker.subscriptions if worker else ()
                    if any(one.name == name for one in wanted):
                        added[name] += 1
                        return  # stored by a call whose answer was lost
                    url = UrlWorker("till", "https://till.example/", (*wanted, UrlSubscription("a.b", name)))
                    done = await store_url_worker(client, world.keys, "till", url, raw)
                    moved = done == "moved"
                    sometimes(
                        "a service behind a URL had changed when a change of it was to be stored", moved
                    )
                    if done != "stored":
                        raise NotYet
                    added[name] += 1

                return errand

            names = {who: [f"{who}{n}" for n in range(3)] for who in "ab"}
            for who, wanted in names.items():
                errands = [widen(name) for name in wanted]
                world.start(f"operator {who}", operator(world, errands, pause=0.001))
            await world.until_errands_are_done()

            async def check(client: redis.asyncio.Redis) -> None:
                worker, _ = await read_url_worker(client, world.keys, "till")
                assert worker is not None
                found = sorted(one.name for one in worker.subscriptions)
                assert found == sorted(added), f"{found}, not {sorted(added)}; {world.striker.history}"

            await world.plain(check)

    return run
