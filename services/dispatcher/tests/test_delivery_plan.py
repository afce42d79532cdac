"""What a batch of entries becomes for one service."""

from __future__ import annotations

from streammesh.events import envelope
from streammesh.events.group_reader import Entry
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.tasks.handoff import Encoded

from services.dispatcher.delivery_plan import plan_batch

MAIL = Subscription("mail", "mail.welcome", "user.registered")
AUDIT = Subscription("audit", "audit.all", "user.*")
ROUTES = Routes([Manifest("mail", subscriptions=(MAIL,)), Manifest("audit", subscriptions=(AUDIT,))])


def encode(delivery, raw, priority):
    return Encoded(delivery, f"queue-{delivery.subscription.service}", (b"h",), raw)


def entry(event_type="user.registered", position="1-0"):
    return Entry("user", position, envelope.make(event_type, {}, source="tests").to_json())


def test_a_lane_gets_its_own_deliveries_and_knows_how_many_there_are_in_all():
    plan = plan_batch([entry()], ROUTES, "mail", encode)["user"]

    [handover] = plan.handovers
    assert handover.wanted == 2
    assert [e.delivery.subscription for e in handover.deliveries] == [MAIL]


def test_an_event_that_the_service_does_not_want_is_handed_over_with_nothing():
    plan = plan_batch([entry("user.left")], ROUTES, "mail", encode)["user"]

    [handover] = plan.handovers
    assert (handover.wanted, list(handover.deliveries)) == (1, [])


def test_what_is_no_envelope_is_broken_and_the_rest_goes_on():
    entries = [Entry("user", "1-0", None), Entry("user", "2-0", b"{"), entry(position="3-0")]

    plan = plan_batch(entries, ROUTES, "mail", encode)["user"]

    assert [b.entry.position for b in plan.broken] == ["1-0", "2-0"]
    assert [h.entry for h in plan.handovers] == ["3-0"]


def test_domains_are_planned_apart():
    other = Entry("order", "1-0", envelope.make("order.placed", {}, source="tests").to_json())

    plans = plan_batch([entry(), other], ROUTES, "mail", encode)

    assert set(plans) == {"user", "order"}


def test_what_is_larger_than_allowed_is_broken_however_good_it_is():
    plan = plan_batch([entry()], ROUTES, "mail", encode, most_bytes=50)["user"]

    [broken] = plan.broken
    assert "too large" in broken.reason
    assert plan.handovers == []


def test_an_event_that_cannot_be_encoded_is_broken_and_the_rest_goes_on():
    def picky(delivery, raw, priority):
        if b'"bad"' in raw:
            raise RuntimeError("who would have thought")
        return encode(delivery, raw, priority)

    bad = Entry("user", "1-0", envelope.make("user.registered", {}, source="tests", id="bad").to_json())
    plan = plan_batch([bad, entry(position="2-0")], ROUTES, "mail", picky)["user"]

    assert [(b.entry.position, "thought" in b.reason) for b in plan.broken] == [("1-0", True)]
    assert [h.entry for h in plan.handovers] == ["2-0"]
