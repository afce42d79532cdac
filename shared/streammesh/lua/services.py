"""What the scripts take that keep services, their keys and their dead letters, and the one that sets keys aside."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Each, Flag, Key, KeyList, Number, Record, Text, TextList


class RegisterManifestScript(Arguments):
    """Store a manifest and make its groups."""

    manifests: Key
    sealed: Key
    domains: Key
    version: Key
    joined: Key
    service: Text
    manifest: Text
    changed: Text
    is_open: Flag
    prefix: Text
    start: Text
    before: Text
    is_checked: Flag
    streams: TextList


class JoinedDomain(Record):
    """One domain that a service is to have a group in."""

    stream: Key
    routed: Key
    domain: Text


class JoinGroupScript(Arguments):
    """Make a service's group where it is missing, unless the service was taken away."""

    manifests: Key
    version: Key
    joined: Key
    group: Text
    start: Text
    is_service: Flag
    domains: Each[JoinedDomain]


class RemoveManifestScript(Arguments):
    """Begin to take a service away."""

    manifests: Key
    sealed: Key
    version: Key
    alive: Key
    retiring: Key
    service: Text
    fresh: Number
    changed: Text


class ForgottenSubscription(Record):
    """One subscription of a service that is taken away."""

    held: Key
    flow: Key
    task: Text


class ForgottenDomain(Record):
    """One domain that a service which is taken away had a group in."""

    stream: Key
    domain: Text


class ForgetServiceScript(Arguments):
    """End what remove_manifest.lua began."""

    manifests: Key
    retiring: Key
    alive: Key
    open_tasks: Key
    last_seen: Key
    joined: Key
    holding: Key
    paused: Key
    failures: Key
    editions: Key
    sealed: Key
    service: Text
    queues: KeyList
    subscriptions: Each[ForgottenSubscription]
    domains: Each[ForgottenDomain]


class ShowLifeScript(Arguments):
    """Note that a process is alive."""

    alive: Key
    last_seen: Key
    editions: Key
    format: Key
    name: Text
    forget_after: Number
    role: Text
    mine: Number
    edition: Text


class ReadFormatScript(Arguments):
    """Whether a process may work in a mesh."""

    format: Key
    mine: Number


class RaiseFormatScript(Arguments):
    """Note that a mesh was migrated by one step."""

    format: Key
    mine: Number
    oldest: Number


class MarkShardScript(Arguments):
    """Note which shard of which mesh this is, or read it."""

    format: Key
    shards: Number
    shard: Number
    birth: Text
    is_whole: Flag


class NoteMoveScript(Arguments):
    """Note that a shard is being filled, that it is filled, or that it has moved."""

    format: Key
    step: Text
    mesh: Text
    shards: Number
    shard: Number
    birth: Text


class NoteRefusalScript(Arguments):
    """Note why a worker was refused, or that one was not."""

    refusals: Key
    service: Text
    reason: Text
    most: Number
    kept: Number


class NoteActionScript(Arguments):
    """Note what an operator did."""

    audit: Key
    begun: Text
    action: Text
    kept: Number


class CreateApiKeyScript(Arguments):
    """Store an API key."""

    api_keys: Key
    revoked: Key
    manifests: Key
    webhooks_version: Key
    name: Text
    hash: Text
    record: Text
    how: Text
    now: Number
    claims_its_name: Flag


class OldApiKey(Record):
    """One key that another one takes the place of."""

    hash: Text
    read: Text
    ending: Text


class RotateApiKeyScript(Arguments):
    """Give a key's name another key."""

    api_keys: Key
    revoked: Key
    webhooks_version: Key
    hash: Text
    record: Text
    now: Text
    remembered: Number
    old_keys: Each[OldApiKey]


class RevokeApiKeysScript(Arguments):
    """End API keys."""

    api_keys: Key
    revoked: Key
    last_uses: Key
    webhooks_version: Key
    now: Text
    remembered: Number
    hashes: TextList


class ReplayedTask(Record):
    """What the replay of a task needs beside its letter."""

    row: Key
    event_row: Key
    notifications: Key
    open_tasks: Key
    due: Key
    due_entries: Key
    cancellable: Key
    wait: Number
    kept: Text
    changed: Text
    body: Text
    source: Text
    event: Text
    event_type: Text
    subject: Text
    service: Text


class ReplayDeadLetterScript(Arguments):
    """Give a dead letter another life."""

    dead: Key
    index: Key
    entries: Key
    target: Key
    id: Text
    form: Text
    tasks: Each[ReplayedTask]


class DropDeadLettersScript(Arguments):
    """Drop dead letters."""

    dead: Key
    index: Key
    entries: Key
    ids: TextList


class SetAsideKey(Record):
    """One key, where what has another type than it should goes."""

    key: Key
    aside: Key
    kind: Text


class SetAsideScript(Arguments):
    """Move what has the wrong type out of the way."""

    lifetime: Text
    misplaced: Each[SetAsideKey]


class LookBesideScript(Arguments):
    """Read what is known about a service's editions."""

    manifests: Key
    editions: Key
    task_row: Key
    service: Text
