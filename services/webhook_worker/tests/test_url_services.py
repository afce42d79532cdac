"""Which services with a URL run: those whose owner has the right to them at that moment."""

from __future__ import annotations

from streammesh.api_keys import ApiKeys
from streammesh.webhooks.definition import Secret
from streammesh.webhooks.seal import Seal
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.url_workers import UrlSubscription, UrlWorker, store_url_worker

from services.webhook_worker.url_services import UrlServices


async def test_a_service_stops_when_its_owner_loses_the_right_and_goes_on_when_he_has_it_again(
    mesh_redis, mesh_keys, monkeypatch, capsys
):
    class Recorded(UrlServices):
        async def _start(self, name: str, raw: bytes, pause: float) -> None:
            running.add(name)

    running: set[str] = set()
    keys = ApiKeys(mesh_redis, mesh_keys)
    await keys.create("shop", subscribe=["bill.*"], sources=["billing"])
    await keys.create("boss", admin=True)

    def worker(service: str, owner: str, event_type: str = "bill.asked") -> UrlWorker:
        return UrlWorker(
            service,
            "https://x.example/",
            (UrlSubscription(event_type, "handle"),),
            (Secret(new_secret()),),
            owner=owner,
        )

    stored = {
        "billing": worker("billing", "shop"),
        "everything": worker("everything", "boss", "*"),
        "earlier": worker("earlier", ""),  # made before owners were kept
        "orphan": worker("orphan", "nobody"),
    }
    for name, one in stored.items():
        assert await store_url_worker(mesh_redis, mesh_keys, name, one, b"") == "stored"
    services = Recorded(mesh_redis, mesh_keys, keys, 1, Seal())

    async def running_now() -> set[str]:
        running.clear()
        await services.run_once()
        return set(running)

    assert await running_now() == {"billing", "everything", "earlier"}
    await keys.create("shop", subscribe=["order.*"], sources=["billing"], how="replace")
    assert await running_now() == {"everything", "earlier"} == await running_now()
    assert capsys.readouterr().out.count("url_worker.refused") == 2  # each is said once
    await keys.create("shop", subscribe=["bill.*"], sources=["billing"], how="replace")
    await keys.revoke("boss")
    assert await running_now() == {"billing", "earlier"}
