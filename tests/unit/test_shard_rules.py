"""A limit by something else than the partition key does not start in a mesh of several shards."""

from __future__ import annotations

from typing import Any

from streammesh.flow.limits import Flow
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.worker.shard_rules import bound_to_shard, fits_shards


def manifest(**options: Any) -> Manifest:
    return Manifest("mail", subscriptions=(Subscription("mail", "mail.send", "user.made", **options),))


def test_a_limit_by_another_key_is_refused_with_several_shards_only(capsys):
    wanted = manifest(flow=Flow(key="data.tenant", concurrency=2))

    assert fits_shards(wanted, 1)
    assert not fits_shards(wanted, 3)
    assert 'say key="partitionkey"' in capsys.readouterr().out
    assert fits_shards(manifest(flow=Flow(key="partitionkey", concurrency=2)), 3)


def test_what_holds_within_each_shard_is_said(capsys):
    assert bound_to_shard(manifest(flow=Flow(total=5))) == ["mail.send"]
    assert fits_shards(manifest(flow=Flow(total=5)), 3)
    assert "manifest.within_shard" in capsys.readouterr().out
    assert not bound_to_shard(manifest(waits={"order.paid": ["data.order"]}))
    assert not bound_to_shard(manifest(cancel_on={"order.gone": ["data.order", "data.order"]}))
