"""What the scripts take that keep webhooks and their deliveries."""

from __future__ import annotations

from streammesh.lua.signature import Arguments, Each, Flag, Key, KeyList, Number, Record, Text, TextList


class StoreWebhookScript(Arguments):
    """Store a webhook, if it still is what it was."""

    webhooks: Key
    version: Key
    place: Key
    due: Key
    failing: Key
    behind: Key
    disabled: Key
    state: Key
    queue: Key
    webhook: Text
    expected: Text
    definition: Text
    enabled: Flag
    why: Text
    start: Text
    most: Number
    changed: Text


class StoreUrlWorkerScript(Arguments):
    """Store or remove a service whose worker is a URL, and its manifest with it, if it still is what it was."""

    workers: Key
    manifests: Key
    sealed: Key
    domains: Key
    version: Key
    joined: Key
    service: Text
    expected: Text
    document: Text
    most: Number
    told: Text
    manifest: Text
    changed: Text
    is_open: Flag
    prefix: Text
    start: Text
    streams: TextList


class RemoveWebhookScript(Arguments):
    """Remove a webhook and all that is kept of it."""

    webhooks: Key
    version: Key
    due: Key
    failing: Key
    behind: Key
    disabled: Key
    webhook: Text
    changed: Text
    own: KeyList


class SeekWebhookScript(Arguments):
    """Have a webhook read the notifications again from a position on."""

    webhooks: Key
    place: Key
    behind: Key
    state: Key
    webhook: Text
    position: Text
    changed: Text


class QueuedDelivery(Record):
    """One notification that is to be delivered."""

    delivery: Text
    position: Text
    body: Text


class RoutedWebhook(Record):
    """One webhook, and what of a page of notifications is for it."""

    state: Key
    queue: Key
    entries: Key
    webhook: Text
    deliveries: Each[QueuedDelivery]


class RouteWebhooksScript(Arguments):
    """Queue a page of notifications for all webhooks that want them."""

    version: Key
    place: Key
    due: Key
    failing: Key
    behind: Key
    known: Text
    after: Text
    reached: Text
    most: Number
    most_bytes: Number
    changed: Text
    wanting: Each[RoutedWebhook]


class CatchUpWebhookScript(Arguments):
    """Queue a page of notifications for one webhook that is behind."""

    version: Key
    place: Key
    due: Key
    failing: Key
    behind: Key
    state: Key
    queue: Key
    entries: Key
    known: Text
    webhook: Text
    after: Text
    reached: Text
    most: Number
    most_bytes: Number
    changed: Text
    deliveries: Each[QueuedDelivery]


class QueueWebhookScript(Arguments):
    """Queue some deliveries for one webhook, whatever it was told before."""

    webhooks: Key
    due: Key
    failing: Key
    state: Key
    queue: Key
    entries: Key
    webhook: Text
    most: Number
    most_bytes: Number
    changed: Text
    deliveries: Each[QueuedDelivery]


class DeliveryResult(Record):
    """What an attempt came to."""

    delivery: Text
    outcome: Text
    wait: Number
    attempt: Text


class SettleWebhookScript(Arguments):
    """Settle attempts of one webhook, and take what is due next."""

    webhooks: Key
    due: Key
    failing: Key
    state: Key
    queue: Key
    entries: Key
    attempts: Key
    webhook: Text
    token: Text
    claims: Flag
    lease: Number
    room: Number
    under_way: Number
    ordered: Flag
    hold: Number
    kept: Number
    results: Each[DeliveryResult]
