from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request

import pytest
import stripe

import sandbox
from sandbox.courier import RETRY_AFTER_S
from tests.sandbox.drive import SECRET, client, deliver_all, open_session, paid_intent

ALL_OF_ONE_PAYMENT = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "checkout.session.completed",
    "charge.updated",
]


@pytest.fixture
def live(listener):
    """A sandbox that delivers to a listening shop by itself."""
    made = sandbox.create_sandbox(webhook_url=listener.url, webhook_secret=SECRET)
    made.start()
    yield made
    made.close()


def headers_and_bodies(box):
    """What one try of everything that is due would put on the wire."""
    sent = []
    for delivery in box.due():
        box.attempt(delivery, lambda body, headers: sent.append((body, headers)) or 200)
    return sent


def test_events_reach_the_shop_signed_and_in_order(live, listener):
    session = open_session(client(live).v1)
    live.pay(session)

    assert listener.wait_for(5) == ALL_OF_ONE_PAYMENT
    completed = listener.events[3]
    assert completed.data.object.id == session
    assert completed.api_version == "2026-10-28.endive"
    assert (completed.livemode, completed.pending_webhooks) == (False, 1)
    assert listener.refused == []


def test_an_event_of_a_call_names_the_request_and_key_that_caused_it(box, api):
    api.customers.create({"name": "Maya"}, {"idempotency_key": "k1"})

    (event,) = deliver_all(box)
    assert event["request"]["id"] == box.requests[-1]["id"]
    assert event["request"]["idempotency_key"] == "k1"


def test_without_a_2xx_an_event_comes_again_later_and_later(box, api):
    api.customers.create({"name": "Maya"})

    (first,) = deliver_all(box, status=500)
    assert deliver_all(box) == []
    box.advance(RETRY_AFTER_S[0])
    (second,) = deliver_all(box, status=None)
    box.advance(RETRY_AFTER_S[0])
    assert deliver_all(box) == []
    box.advance(RETRY_AFTER_S[1])
    (third,) = deliver_all(box, status=200)

    assert first["id"] == second["id"] == third["id"]
    box.advance(86_400)
    assert deliver_all(box) == []


def test_a_shop_that_breaks_while_it_listens_is_told_again(box, api):
    api.customers.create({"name": "Maya"})

    def break_down(body, headers):
        raise SystemExit

    with pytest.raises(SystemExit):
        box.attempt(box.due()[0], break_down)
    box.advance(RETRY_AFTER_S[0])

    assert [e["type"] for e in deliver_all(box)] == ["customer.created"]


def test_after_three_days_of_silence_an_event_is_given_up(box, api):
    api.customers.create({"name": "Maya"})

    tries = 0
    while sent := deliver_all(box, status=503):
        tries += len(sent)
        at = box.next_time()
        if at is not None:
            box.advance(at - box.now() + 1)

    assert tries == len(RETRY_AFTER_S) + 1
    assert 2 * 86_400 < sum(RETRY_AFTER_S) < 4 * 86_400
    assert [e.pending_webhooks for e in api.events.list().data] == [1]


def test_each_try_is_signed_at_its_own_time(box, api, monkeypatch):
    box.clock = lambda: 1_000_000.0
    api.customers.create({"name": "Maya"})
    signed_at = []

    def refuse(body, headers):
        signed_at.append(headers["Stripe-Signature"].split(",")[0])
        return 500

    for _ in range(2):
        for delivery in box.due():
            box.attempt(delivery, refuse)
        box.clock = lambda: 1_009_000.0

    assert signed_at == ["t=1000000", "t=1009000"]


def test_a_moved_clock_moves_what_happens_but_not_the_signature(box, api):
    """The shop's clock did not move, and a signature from its future would be refused."""
    box.advance(10 * 86_400)
    api.customers.create({"name": "Maya"})

    ((body, headers),) = headers_and_bodies(box)
    stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
    signed_at = int(headers["Stripe-Signature"].split(",")[0].removeprefix("t="))
    assert abs(signed_at - time.time()) < 60


def test_while_a_secret_is_rolled_both_verify():
    box = sandbox.create_sandbox(
        webhook_url="http://127.0.0.1:9/", webhook_secret="whsec_old, whsec_new", deliver=False
    )
    box.start()
    client(box).v1.customers.create({"name": "Maya"})

    ((body, headers),) = headers_and_bodies(box)
    box.close()

    for secret in ("whsec_old", "whsec_new"):
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], secret)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], "whsec_other")


def test_an_endpoint_hears_only_what_it_asked_for(box, api, listener):
    endpoint = api.webhook_endpoints.create(
        {"url": listener.url, "enabled_events": ["payment_intent.succeeded"]}
    )
    assert endpoint.secret.startswith("whsec_")
    paid_intent(box, api)

    types = [d.event_type for d in box.due() if d.url == listener.url]
    assert types == ["payment_intent.succeeded"]


def test_endpoints_can_be_listed_changed_disabled_and_deleted(box, api):
    (ours,) = api.webhook_endpoints.list().data
    assert "secret" not in ours
    other = api.webhook_endpoints.create({"url": "http://a.test/", "enabled_events": ["*"]})
    api.webhook_endpoints.update(other.id, {"disabled": True, "metadata": {"a": "1"}})

    api.customers.create({"name": "Maya"})

    assert [d.url for d in box.due()] == [ours.url]
    assert api.webhook_endpoints.retrieve(other.id).status == "disabled"
    assert api.webhook_endpoints.delete(other.id).deleted is True
    assert [e.id for e in api.webhook_endpoints.list().data] == [ours.id]


def test_the_event_list_tells_what_was_delivered_from_what_was_not(box, api):
    first = api.customers.create({"name": "heard"})
    deliver_all(box)
    box.advance(10)
    second = api.customers.create({"name": "missed"})
    deliver_all(box, status=500)

    def about(**params):
        return [e.data.object.id for e in api.events.list(params).data]

    assert about(delivery_success=True) == [first.id]
    assert about(delivery_success=False) == [second.id]
    assert about() == [second.id, first.id]
    assert about(created={"gte": second.created}) == [second.id]
    assert about(types=["customer.created"], limit=1) == [second.id]
    assert about(type="customer.*") == [second.id, first.id]
    assert about(type="charge.*") == []
    newest = api.events.list({"limit": 1}).data[0]
    assert about(starting_after=newest.id) == [first.id]
    assert api.events.retrieve(newest.id).data.object.id == second.id


def test_events_are_kept_for_thirty_days(box, api):
    api.customers.create({"name": "Maya"})
    event = api.events.list().data[0].id
    box.advance(30 * 86_400 + 1)

    assert api.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError):
        api.events.retrieve(event)


def test_flush_sends_at_once_what_would_have_come_later(box, api):
    box.chaos.delay_s = 600
    api.customers.create({"name": "Maya"})
    assert deliver_all(box) == []

    sent = []
    assert box.flush(lambda body, headers: sent.append(json.loads(body)) or 200) == 1
    assert [e["type"] for e in sent] == ["customer.created"]
    box.advance(600)
    assert deliver_all(box) == []


def test_nothing_is_sent_while_the_ledger_is_locked(box, api):
    """A shop asks Stripe while it handles a webhook; that call must not wait for the webhook."""
    session = open_session(api)
    box.pay(session)
    seen = []

    def ask(body, headers):
        seen.append(api.checkout.sessions.retrieve(session).status)
        return 200

    box.attempt(box.due()[0], ask)
    assert seen == ["complete"]


def test_the_command_serves_delivers_and_keeps_its_ledger(tmp_path, listener):
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--webhook-url", listener.url]
    command += ["--webhook-secret", SECRET, "--journal", str(tmp_path / "ledger")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        api = stripe.StripeClient("sk_test_x", base_addresses={"api": url.split("/_sandbox")[0]})
        api.v1.customers.create({"name": "Maya"})
        assert listener.wait_for(1) == ["customer.created"]
        with urllib.request.urlopen(url) as page:
            assert b"Switchboard" in page.read()
        process.terminate()
        assert process.wait(5) == 0
    assert "customer" in (tmp_path / "ledger").read_text()
