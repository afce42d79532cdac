"""What the templates make is what Celery's own publisher would have made."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streammesh.events import envelope
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery, Subscription
from streammesh.transport.codec import decode, encode
from streammesh.worker.app import make_app
from streammesh.worker.message_capture import CapturingProducer
from streammesh.worker.message_encoder import HARD_AFTER_SOFT, Encoder

SETTINGS = MeshSettings(_env_file=None)
APP = make_app("dispatcher", SETTINGS)
ENCODER = Encoder(APP, SETTINGS)


def sent_by_celery(subscription, task_id, event, priority):
    """The entry that `send_task` would queue."""
    producer = CapturingProducer()
    timeout = subscription.timeout
    APP.send_task(
        subscription.task,
        args=[event.to_dict()],
        kwargs={},
        task_id=task_id,
        producer=producer,
        queue=subscription.service,
        declare=[],
        retry=False,
        ignore_result=True,
        priority=priority,
        soft_time_limit=timeout,
        time_limit=None if timeout is None else timeout + HARD_AFTER_SOFT,
        argsrepr="<event>",
        kwargsrepr="{}",
    )
    [(_, message)] = producer.take()
    return encode(message)


def comparable(header):
    """A header without what differs from call to call, or says only who the producer is."""
    value = orjson.loads(header)
    for name in ("reply_to", "argsrepr", "kwargsrepr"):  # send_task copies the last two here as well
        value["properties"].pop(name, None)
    value["headers"].pop("origin", None)
    return value


@settings(deadline=None)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    timeout=st.none() | st.floats(0.1, 600),
    priority=st.integers(0, 9),
)
def test_a_template_filled_in_is_what_celery_would_have_sent(data, timeout, priority):
    event = envelope.make("order.placed", data, source="shop", subject='with "quotes" and \\')
    subscription = Subscription("mail", "mail.send", "order.placed", timeout=timeout)
    delivery = Delivery(subscription, "7d3c1f6c-7a0e-5d1c-9c3e-6d1c2b7a9e10")

    ours = ENCODER.encode(delivery, event.to_json(), priority)
    theirs = sent_by_celery(subscription, delivery.task_id, event, priority)

    assert comparable(ours.header) == comparable(theirs[b"h"])
    assert orjson.loads(ours.body) == orjson.loads(theirs[b"b"])
    assert ours.queue == Keys("mesh").queue("mail", priority)


def test_the_worker_reads_it_back():
    event = envelope.make("order.placed", {"n": 1}, source="shop")
    delivery = Delivery(
        Subscription("mail", "mail.send", "order.placed"), "7d3c1f6c-7a0e-5d1c-9c3e-6d1c2b7a9e10"
    )
    encoded = ENCODER.encode(delivery, event.to_json(), 5)

    message = decode({b"h": encoded.header, b"b": encoded.body}, "mail", "1-0")

    assert message["headers"]["id"] == delivery.task_id
    assert message["headers"]["task"] == "mail.send"
    assert message["parsed"][0] == [event.to_dict()]


def test_no_payload_stands_where_logs_and_flower_look():
    event = envelope.make("order.placed", {"secret": "swordfish"}, source="shop")
    delivery = Delivery(
        Subscription("mail", "mail.send", "order.placed"), "7d3c1f6c-7a0e-5d1c-9c3e-6d1c2b7a9e10"
    )

    assert b"swordfish" not in ENCODER.encode(delivery, event.to_json(), 5).header


@pytest.mark.parametrize("priority", [None, 9])
def test_a_subscription_may_say_its_own_priority(priority):
    event = envelope.make("order.placed", {}, source="shop")
    wants = Subscription("mail", "mail.send", "order.placed", priority=priority)
    encoded = ENCODER.encode(Delivery(wants, "7d3c1f6c-7a0e-5d1c-9c3e-6d1c2b7a9e10"), event.to_json(), 2)

    assert orjson.loads(encoded.header)["properties"]["priority"] == (2 if priority is None else 9)
