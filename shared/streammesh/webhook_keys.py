"""The keys of webhooks and of workers that are a URL: type, meaning, lifetime; a part of `keys.Keys`. Pure."""

from __future__ import annotations


class WebhookKeys:
    """What `Keys` has of them."""

    __slots__ = ()
    prefix: str

    def webhooks(self) -> str:
        """HASH. Webhook id -> what it is, its secrets too, as JSON. Bounded: `webhooks.store.MOST`."""
        return f"{self.prefix}webhooks"

    def webhooks_version(self) -> str:
        """STRING. Another number after every change of `webhooks`."""
        return f"{self.prefix}webhooks-version"

    def webhooks_place(self) -> str:
        """STRING. The position up to which notifications were queued for every webhook that is not behind."""
        return f"{self.prefix}webhooks-place"

    def webhooks_due(self) -> str:
        """ZSET. Webhook id -> when, in ms, it is to be looked at: something is due, or a lease ends."""
        return f"{self.prefix}webhooks-due"

    def webhooks_failing(self) -> str:
        """ZSET. As `webhooks_due`, of those whose last delivery failed, or that never took one."""
        return f"{self.prefix}webhooks-failing"

    def webhooks_behind(self) -> str:
        """SET. Webhooks that read the notifications at a place of their own: new, replayed, full or disabled ones."""
        return f"{self.prefix}webhooks-behind"

    def webhooks_disabled(self) -> str:
        """HASH. Webhook that the mesh disabled -> since when and why, as JSON. Leaves when it is enabled."""
        return f"{self.prefix}webhooks-disabled"

    def webhooks_changed(self) -> str:
        """CHANNEL. Rung when a webhook changed, or when one that waited for nothing has something to deliver."""
        return f"{self.prefix}webhooks-changed"

    def url_workers(self) -> str:
        """HASH. Service whose worker is a URL -> what it is, its secrets too, as JSON. Bounded: `url_workers.MOST`."""
        return f"{self.prefix}url-workers"

    def webhook(self, webhook: str) -> str:
        """HASH. Where one webhook stands: lease, failures in a row, its own place. Leaves with the webhook."""
        return f"{self.prefix}webhook:{webhook}"

    def webhook_queue(self, webhook: str) -> str:
        """ZSET. Delivery -> when, in ms, it is due. Bounded by number and bytes; what is beyond stays in the stream."""
        return f"{self.prefix}webhook-queue:{webhook}"

    def webhook_entries(self, webhook: str) -> str:
        """HASH. Delivery -> when it was queued, in ms, and its body; `n <delivery>` -> attempts. Leaves with it."""
        return f"{self.prefix}webhook-entries:{webhook}"

    def webhook_attempts(self, webhook: str) -> str:
        """STREAM. The last attempts of one webhook, field `a` = one as JSON. About 1,000 entries."""
        return f"{self.prefix}webhook-attempts:{webhook}"
