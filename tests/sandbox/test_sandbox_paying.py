from __future__ import annotations

import pytest

from tests.sandbox.drive import event_types, open_session

PAID = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "checkout.session.completed",
    "charge.updated",
]


def session_with_money(api, id):
    return api.checkout.sessions.retrieve(id, {"expand": ["payment_intent.latest_charge"]})


def test_paying_completes_the_session_and_tells_in_stripes_order(box, api):
    id = open_session(api, customer_email="maya@example.com")

    told = box.pay(id)

    session = session_with_money(api, id)
    intent, charge = session.payment_intent, session.payment_intent.latest_charge
    assert told["outcome"] == "paid"
    assert told["redirect"] == f"http://shop.test/success?session_id={id}"
    assert (session.status, session.payment_status) == ("complete", "paid")
    assert session.customer_details.email == "maya@example.com"
    assert (intent.status, intent.amount_received, intent.currency) == ("succeeded", 4150, "eur")
    assert (charge.status, charge.paid, charge.amount_captured) == ("succeeded", True, 4150)
    assert event_types(box) == PAID


def test_metadata_reaches_the_intent_and_its_charge_but_not_by_inheritance(box, api):
    with_it = open_session(api)
    without = open_session(api, payment_intent_data={})
    for id in (with_it, without):
        box.pay(id)

    carried = session_with_money(api, with_it).payment_intent
    assert carried.metadata.to_dict() == {"checkout_attempt_id": "attempt-1"}
    assert carried.latest_charge.metadata.to_dict() == {"checkout_attempt_id": "attempt-1"}
    assert session_with_money(api, without).payment_intent.metadata.to_dict() == {}


@pytest.mark.parametrize(
    ("card", "code", "reason"),
    [
        ("4000000000000002", "card_declined", "generic_decline"),
        ("4000000000009995", "card_declined", "insufficient_funds"),
        ("4000000000000069", "expired_card", "expired_card"),
        ("4000000000000127", "incorrect_cvc", "incorrect_cvc"),
        ("4000000000000119", "processing_error", "processing_error"),
        ("4111111111111111", "card_declined", "test_mode_live_card"),
    ],
)
def test_a_decline_leaves_the_session_open_for_another_card(box, api, card, code, reason):
    id = open_session(api)

    assert box.pay(id, card)["outcome"] == "declined"

    session = session_with_money(api, id)
    intent = session.payment_intent
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert intent.status == "requires_payment_method"
    assert (intent.last_payment_error.code, intent.last_payment_error.decline_code) == (
        code,
        reason,
    )
    assert intent.latest_charge.status == "failed"
    assert event_types(box) == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
    ]
    assert box.pay(id)["outcome"] == "paid"
    paid = session_with_money(api, id)
    assert paid.payment_intent.id == intent.id
    assert paid.payment_intent.last_payment_error is None


@pytest.mark.parametrize("card", ["4000002500003155", "4000002760003184"])
def test_the_bank_may_ask_and_a_yes_pays(box, api, card):
    id = open_session(api)

    assert box.pay(id, card)["outcome"] == "asks"
    assert session_with_money(api, id).payment_intent.status == "requires_action"
    assert box.authenticate(id)["outcome"] == "paid"

    charge = session_with_money(api, id).payment_intent.latest_charge
    assert charge.payment_method_details.card.three_d_secure.result == "authenticated"
    assert event_types(box)[1:3] == ["payment_intent.requires_action", "charge.succeeded"]


def test_a_no_to_the_bank_fails_without_a_charge(box, api):
    id = open_session(api)
    box.pay(id, "4000002760003184")

    told = box.authenticate(id, ok=False)

    intent = session_with_money(api, id).payment_intent
    assert told["outcome"] == "declined"
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"
    assert intent.latest_charge is None
    assert event_types(box)[-1] == "payment_intent.payment_failed"


def test_a_bank_debit_completes_unpaid_and_arrives_later(box, api):
    id = open_session(api)

    assert box.pay(id, "bank_debit")["outcome"] == "processing"
    under_way = session_with_money(api, id)
    assert (under_way.status, under_way.payment_status) == ("complete", "unpaid")
    assert under_way.payment_intent.status == "processing"
    box.advance(box.debit_s)

    settled = session_with_money(api, id)
    assert settled.payment_status == "paid"
    assert settled.payment_intent.status == "succeeded"
    assert event_types(box) == [
        "payment_intent.created",
        "charge.pending",
        "payment_intent.processing",
        "checkout.session.completed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
        "charge.updated",
    ]


def test_a_bank_debit_may_bounce_after_the_session_was_completed(box, api):
    id = open_session(api)
    box.pay(id, "bank_debit_fails")
    box.advance(box.debit_s)

    session = session_with_money(api, id)
    assert (session.status, session.payment_status) == ("complete", "unpaid")
    assert session.payment_intent.status == "requires_payment_method"
    assert event_types(box)[-3:] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]


def test_a_session_is_paid_once(box, api):
    id = open_session(api)
    box.pay(id)

    assert box.pay(id)["outcome"] == "closed"
    assert event_types(box) == PAID


def test_the_wrong_amount_is_taken_when_asked_for(box, api):
    id = open_session(api)
    box.pay(id, "wrong_amount")

    assert session_with_money(api, id).payment_intent.amount_received == 4050


def test_a_free_session_completes_without_an_intent(box, api):
    line = {
        "price_data": {"currency": "eur", "unit_amount": 0, "product_data": {"name": "Sticker"}},
        "quantity": 1,
    }
    id = open_session(api, line_items=[line], shipping_options=[])
    box.pay(id)

    session = api.checkout.sessions.retrieve(id)
    assert session.payment_status == "no_payment_required"
    assert session.payment_intent is None


def test_a_customer_is_made_when_the_session_wants_one(box, api):
    id = open_session(api, customer_creation="always", customer_email="maya@example.com")
    box.pay(id)

    session = api.checkout.sessions.retrieve(id, {"expand": ["customer"]})
    assert session.customer.email == "maya@example.com"
    assert "customer.created" in event_types(box)


def test_authorized_money_is_taken_when_captured(box, api):
    id = open_session(api, payment_intent_data={"capture_method": "manual"})

    assert box.pay(id)["outcome"] == "authorized"
    held = session_with_money(api, id)
    assert (held.status, held.payment_status) == ("complete", "unpaid")
    assert held.payment_intent.amount_capturable == 4150
    taken = api.payment_intents.capture(held.payment_intent.id, {"amount_to_capture": 4000})

    assert (taken.status, taken.amount_received) == ("succeeded", 4000)
    assert api.checkout.sessions.retrieve(id).payment_status == "paid"
    assert "charge.captured" in event_types(box)


def test_an_event_stays_as_it_was_when_it_happened(box, api):
    id = open_session(api)
    box.pay(id, "4000000000000002")
    box.pay(id)

    failed = api.events.list({"type": "payment_intent.payment_failed"}).data[0]
    assert failed.data.object.status == "requires_payment_method"


def test_the_ledger_lists_money_in_and_money_back(box, api):
    id = open_session(api)
    box.pay(id)
    intent = api.checkout.sessions.retrieve(id).payment_intent
    api.refunds.create({"payment_intent": intent, "amount": 150})

    ledger = box.ledger()

    (payment,), (refund,) = ledger["payments"], ledger["refunds"]
    assert (payment["id"], payment["session"], payment["amount_received"]) == (intent, id, 4150)
    assert payment["status"] == "succeeded"
    assert (refund["payment_intent"], refund["amount"]) == (intent, 150)
    assert ledger["disputes"] == []


@pytest.mark.parametrize("currency", ["eur", "gbp", "usd", "jpy"])
def test_a_bank_debit_is_offered_in_the_currencies_that_have_one(box, api, currency):
    line = {
        "price_data": {"currency": currency, "unit_amount": 3000, "product_data": {"name": "Mug"}},
        "quantity": 1,
    }
    id = open_session(api, line_items=[line], shipping_options=[])

    outcome = box.pay(id, "bank_debit")["outcome"]

    offered = api.checkout.sessions.retrieve(id).payment_method_types
    if currency == "jpy":
        assert (offered, outcome) == (["card"], "not_offered")
        assert event_types(box) == []
    else:
        assert (len(offered), outcome) == (2, "processing")
        kind = session_with_money(api, id).payment_intent.latest_charge.payment_method_details.type
        assert kind == offered[1]


def test_everything_a_shop_may_say_about_a_payment_is_taken_along(box, api):
    home = {"line1": "Sonnenallee 12", "city": "Berlin", "postal_code": "12047", "country": "DE"}
    parcel = {
        "type": "fixed_amount",
        "display_name": "Parcel",
        "fixed_amount": {"amount": 490, "currency": "eur"},
        "delivery_estimate": {
            "minimum": {"unit": "business_day", "value": 2},
            "maximum": {"unit": "business_day", "value": 4},
        },
        "tax_behavior": "inclusive",
    }
    id = open_session(
        api,
        automatic_tax={"enabled": True},
        allow_promotion_codes=True,
        billing_address_collection="required",
        locale="de",
        phone_number_collection={"enabled": True},
        shipping_address_collection={"allowed_countries": ["DE", "IE"]},
        shipping_options=[{"shipping_rate_data": parcel}],
        submit_type="pay",
        payment_intent_data={
            "description": "Order NL-1",
            "receipt_email": "maya@example.com",
            "setup_future_usage": "off_session",
            "shipping": {"name": "Maya", "address": home},
        },
    )
    box.pay(id)

    session = session_with_money(api, id)
    intent = session.payment_intent
    assert intent.latest_charge.shipping.address.city == "Berlin"
    assert (intent.description, intent.receipt_email) == ("Order NL-1", "maya@example.com")
    assert session.collected_information.shipping_details.address.country == "IE"
