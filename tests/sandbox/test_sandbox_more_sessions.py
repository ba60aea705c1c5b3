"""Checkout Sessions that subscribe, that save a card, and that are embedded in the shop's page."""

from __future__ import annotations

import time

import pytest
import stripe

from tests.sandbox.drive import a_session, deliver_all, event_types, http_call, open_session

DAY_S = 86_400
LINK = {"checkout_attempt_id": "attempt-1"}


def monthly(amount=1200, **changes):
    data = {
        "currency": "eur",
        "unit_amount": amount,
        "product_data": {"name": "Monthly coffee"},
        "recurring": {"interval": "month"},
        **changes,
    }
    return {"price_data": data, "quantity": 1}


def mug(amount=1830, quantity=2):
    data = {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Enamel mug"}}
    return {"price_data": data, "quantity": quantity}


def to_subscribe(api, *lines, data=None, **changes):
    """The id of an open session of mode subscription."""
    params = a_session(
        mode="subscription",
        line_items=list(lines) or [monthly()],
        subscription_data={"metadata": LINK, **(data or {})},
        **changes,
    )
    for name in ("payment_intent_data", "shipping_options"):
        params.pop(name)
    return api.checkout.sessions.create(params).id


def to_save(api, **changes):
    """The id of an open session of mode setup."""
    return api.checkout.sessions.create(
        {
            "mode": "setup",
            "currency": "eur",
            "success_url": "http://shop.test/ok",
            "setup_intent_data": {"metadata": LINK},
            **changes,
        }
    ).id


def read(api, id):
    paths = ["subscription", "invoice.payments", "setup_intent", "customer"]
    return api.checkout.sessions.retrieve(id, {"expand": paths})


# -- subscribing ----------------------------------------------------------------------------------


def test_once_paid_there_is_a_subscription_with_its_invoice_and_a_customer(box, api):
    id = to_subscribe(api, customer_email="maya@example.com")
    before = api.checkout.sessions.retrieve(id)
    assert (before.subscription, before.invoice, before.customer) == (None, None, None)

    assert box.pay(id)["outcome"] == "paid"

    session = read(api, id)
    subscription, invoice = session.subscription, session.invoice
    assert (session.status, session.payment_status, session.amount_total) == (
        "complete",
        "paid",
        1200,
    )
    assert session.payment_intent is None  # its money is found through the invoice
    assert (subscription.status, subscription.metadata.to_dict()) == ("active", LINK)
    assert subscription.latest_invoice == invoice.id
    assert (invoice.billing_reason, invoice.amount_paid) == ("subscription_create", 1200)
    assert invoice.parent.subscription_details.metadata.to_dict() == LINK
    intent = api.payment_intents.retrieve(invoice.payments.data[0].payment.payment_intent)
    assert (intent.status, intent.metadata.to_dict()) == ("succeeded", {})
    assert session.customer.email == "maya@example.com"
    assert intent.customer == session.customer.id
    method = api.payment_methods.retrieve(subscription.default_payment_method)
    assert method.customer == session.customer.id
    assert event_types(box) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "customer.created",
        "payment_method.attached",
        "invoice.created",
        "invoice.finalized",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
        "customer.subscription.created",
        "checkout.session.completed",
        "charge.updated",
    ]


def test_what_is_bought_once_stands_on_the_first_invoice_only(box, api):
    id = to_subscribe(api, monthly(), mug())
    box.pay(id)

    session = read(api, id)
    assert session.amount_total == 1200 + 3660
    assert [line.amount for line in session.invoice.lines.data] == [1200, 3660]
    assert len(session.subscription["items"].data) == 1
    box.advance(31 * DAY_S + box.finalize_s)
    renewal = api.invoices.list({"subscription": session.subscription.id}).data[0]
    assert (renewal.billing_reason, renewal.amount_paid) == ("subscription_cycle", 1200)


def test_a_decline_leaves_no_subscription_and_the_same_intent_for_the_next_card(box, api):
    id = to_subscribe(api)

    assert box.pay(id, "4000000000009995")["outcome"] == "declined"

    assert api.subscriptions.list().data == []
    assert api.checkout.sessions.retrieve(id).status == "open"
    assert "Your card has insufficient funds." in http_call(f"{box.url}/c/pay/{id}")[2]
    box.pay(id)
    assert [p["status"] for p in box.ledger()["payments"]] == ["succeeded"]


def test_the_bank_may_ask_before_a_subscription_begins(box, api):
    id = to_subscribe(api)

    assert box.pay(id, "4000002500003155")["outcome"] == "asks"
    assert api.subscriptions.list().data == []
    assert box.authenticate(id)["outcome"] == "paid"

    assert read(api, id).subscription.status == "active"
    box.advance(31 * DAY_S + box.finalize_s)  # once asked, this card is charged without asking
    assert read(api, id).subscription.status == "active"


@pytest.mark.parametrize(
    ("way", "paid", "status", "invoice"),
    [
        ("bank_debit", "paid", "active", "paid"),
        ("bank_debit_fails", "unpaid", "incomplete", "open"),
    ],
)
def test_a_debit_completes_unpaid_and_decides_later(box, api, way, paid, status, invoice):
    id = to_subscribe(api)

    assert box.pay(id, way)["outcome"] == "processing"
    under_way = read(api, id)
    assert (under_way.status, under_way.payment_status) == ("complete", "unpaid")
    assert (under_way.subscription.status, under_way.invoice.status) == ("incomplete", "open")
    box.advance(box.debit_s)

    session = read(api, id)
    assert (session.payment_status, session.subscription.status) == (paid, status)
    assert session.invoice.status == invoice
    news = "succeeded" if paid == "paid" else "failed"
    assert f"checkout.session.async_payment_{news}" in event_types(box)


def test_a_trial_needs_a_card_but_no_payment(box, api):
    id = to_subscribe(api, data={"trial_period_days": 14})
    page = http_call(f"{box.url}/c/pay/{id}")[2]
    assert "Start your trial" in page
    assert "free trial, then €12.00 every month" in page

    assert box.pay(id)["outcome"] == "saved"

    session = read(api, id)
    assert (session.payment_status, session.amount_total) == ("no_payment_required", 0)
    assert session.subscription.status == "trialing"
    assert (session.invoice.status, session.invoice.amount_due) == ("paid", 0)
    assert box.ledger()["payments"] == []
    box.advance(14 * DAY_S + box.finalize_s)
    assert read(api, id).subscription.status == "active"
    assert [p["amount_received"] for p in box.ledger()["payments"]] == [1200]


def test_a_trial_beside_something_bought_at_once_is_charged_for_that(box, api):
    id = to_subscribe(api, monthly(), mug(), data={"trial_end": int(time.time()) + 9 * DAY_S})
    box.pay(id)

    session = read(api, id)
    assert (session.payment_status, session.amount_total) == ("paid", 3660)
    assert (session.subscription.status, session.invoice.amount_paid) == ("trialing", 3660)
    assert [i.amount_total for i in api.checkout.sessions.line_items.list(id).data] == [0, 3660]
    box.advance(6 * DAY_S + 1)
    assert "customer.subscription.trial_will_end" in event_types(box)


def test_a_trial_may_begin_without_a_card(box, api):
    id = to_subscribe(api, data={"trial_period_days": 7}, payment_method_collection="if_required")

    assert box.pay(id)["outcome"] == "paid"

    assert read(api, id).subscription.default_payment_method is None


def test_a_known_customer_subscribes_as_themselves(box, api):
    maya = api.customers.create({"email": "maya@example.com"}).id
    id = to_subscribe(api, customer=maya)
    box.pay(id)

    session = read(api, id)
    assert (session.customer.id, session.customer_creation) == (maya, None)
    assert session.subscription.customer == maya
    found = api.checkout.sessions.list({"subscription": session.subscription.id}).data
    assert [s.id for s in found] == [id]


def test_an_expired_session_leaves_nothing_that_could_be_paid(box, api):
    id = to_subscribe(api)
    box.pay(id, "4000000000000002")
    api.checkout.sessions.expire(id)

    assert [p["status"] for p in box.ledger()["payments"]] == ["canceled"]
    assert box.pay(id)["outcome"] == "closed"


def test_the_ledger_ties_the_payment_to_session_and_invoice(box, api):
    id = to_subscribe(api)
    box.pay(id)

    ledger = box.ledger()
    (payment,), (invoice,) = ledger["payments"], ledger["invoices"]
    assert (payment["session"], payment["invoice"]) == (id, invoice["id"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"line_items": [mug()]}, "at least one recurring price"),
        ({"payment_intent_data": {"metadata": LINK}}, "in `subscription` mode"),
        ({"shipping_options": a_session()["shipping_options"]}, "in `subscription` mode"),
        ({"customer_creation": "always"}, "in `subscription` mode"),
        ({"line_items": [monthly(), monthly(recurring={"interval": "year"})]}, "does not offer"),
        ({"line_items": [monthly(), monthly(currency="usd")]}, "same currency"),
        ({"subscription_data": {"trial_end": int(time.time()) + DAY_S}}, "at least 2 days"),
        ({"subscription_data": {"trial_period_days": 0}}, "is 1"),
    ],
)
def test_a_session_to_subscribe_that_stripe_would_refuse_is_refused(box, api, changes, says):
    params = a_session(mode="subscription", line_items=[monthly()])
    for name in ("payment_intent_data", "shipping_options"):
        params.pop(name)

    with pytest.raises(stripe.InvalidRequestError, match=says):
        api.checkout.sessions.create({**params, **changes})

    assert box.store.objects["checkout.session"] == {}


@pytest.mark.parametrize("name", ["subscription_data", "setup_intent_data"])
def test_a_session_that_takes_a_payment_knows_nothing_of_the_other_modes(api, name):
    with pytest.raises(stripe.InvalidRequestError, match="in `payment` mode"):
        open_session(api, **{name: {"metadata": LINK}})


# -- saving ---------------------------------------------------------------------------------------


def test_a_session_that_saves_a_card_has_its_setup_from_the_beginning(box, api):
    maya = api.customers.create({"name": "Maya"}).id
    id = to_save(api, customer=maya)
    before = read(api, id)
    assert (before.amount_total, before.payment_status) == (None, "no_payment_required")
    assert before.setup_intent.metadata.to_dict() == LINK

    assert box.pay(id)["outcome"] == "saved"

    session = read(api, id)
    assert (session.status, session.setup_intent.status) == ("complete", "succeeded")
    (kept,) = api.payment_methods.list({"customer": maya}).data
    assert session.setup_intent.payment_method == kept.id
    assert event_types(box)[-3:] == [
        "payment_method.attached",
        "setup_intent.succeeded",
        "checkout.session.completed",
    ]


def test_a_card_that_cannot_be_saved_leaves_the_session_open(box, api):
    id = to_save(api)

    assert box.pay(id, "4000000000000002")["outcome"] == "declined"

    page = http_call(f"{box.url}/c/pay/{id}")[2]
    assert "Your card was declined." in page
    assert "Your card was not saved" in page
    assert "Save your card" in page
    assert box.pay(id, "4000000000000341")["outcome"] == "saved"
    assert "Your card is saved" in http_call(f"{box.url}/c/pay/{id}")[2]


def test_an_expired_session_cancels_its_setup(box, api):
    id = to_save(api)
    with pytest.raises(stripe.InvalidRequestError, match="Expire the Checkout Session"):
        api.setup_intents.cancel(read(api, id).setup_intent.id)

    api.checkout.sessions.expire(id)

    assert read(api, id).setup_intent.status == "canceled"
    assert event_types(box)[-2:] == ["setup_intent.canceled", "checkout.session.expired"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"currency": None}, "currency"), ({"line_items": [mug()]}, "in `setup` mode")],
)
def test_a_session_to_save_that_stripe_would_refuse_is_refused(api, changes, says):
    with pytest.raises(stripe.InvalidRequestError, match=says):
        to_save(api, **changes)


# -- embedded -------------------------------------------------------------------------------------


def embedded(api, **changes):
    params = a_session(
        ui_mode="embedded_page", return_url="http://shop.test/back?s={CHECKOUT_SESSION_ID}"
    )
    for name in ("success_url", "cancel_url"):
        params.pop(name)
    return api.checkout.sessions.create({**params, **changes})


def page_of(box, session, frame=""):
    return f"{box.url}/c/embedded/{session.client_secret}{frame and '?frame=' + frame}"


def test_an_embedded_session_is_paid_by_itself_and_leads_back(box, api):
    session = embedded(api)
    assert "Pay €41.50" in http_call(page_of(box, session))[2]

    status, headers, _ = http_call(page_of(box, session), "POST", {"outcome": "pays"})

    assert (status, headers["Location"]) == (303, f"http://shop.test/back?s={session.id}")
    assert api.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_in_a_frame_it_stays_there_and_tells_the_page_around_it(box, api):
    session = embedded(api)
    url = page_of(box, session, "http://shop.test")
    _, headers, page = http_call(url)
    assert "frame-ancestors 'self' http://shop.test" in headers["Content-Security-Policy"]
    assert 'data-parent="http://shop.test"' in page

    bank = http_call(url, "POST", {"outcome": "asks"})[1]["Location"]
    back = http_call(box.url + bank, "POST", {"answer": "yes"})[1]["Location"]

    assert back == url.removeprefix(box.url)
    done = http_call(url)[2]
    assert 'data-done="1"' in done
    assert f'data-url="http://shop.test/back?s={session.id}"' in done


@pytest.mark.parametrize("then", ["never", "if_required"])
def test_who_does_not_want_to_be_sent_away_is_only_told(box, api, then):
    given = {"return_url": None} if then == "never" else {}
    session = embedded(api, redirect_on_completion=then, **given)
    url = page_of(box, session, "http://shop.test")

    http_call(url, "POST", {"outcome": "pays"})

    page = http_call(url)[2]
    assert 'data-done="1" data-url=""' in page
    assert box.pay(session.id)["redirect"] is None


def test_an_embedded_page_needs_the_whole_secret(box, api):
    session = embedded(api)

    assert http_call(page_of(box, session)[:-1])[0] == 404
    assert http_call(f"{box.url}/c/embedded/{session.id}")[0] == 404


def test_an_embedded_session_can_subscribe_too(box, api):
    session = embedded(
        api,
        mode="subscription",
        line_items=[monthly()],
        payment_intent_data=None,
        shipping_options=None,
    )

    http_call(page_of(box, session), "POST", {"outcome": "late"})

    assert read(api, session.id).subscription.status == "active"
    assert [e["type"] for e in deliver_all(box)] == []
