from __future__ import annotations

import time

import pytest
import stripe

from tests.sandbox.drive import a_session, event_types, open_session


def test_a_hosted_session_is_born_open_unpaid_and_without_an_intent(box, api):
    session = api.checkout.sessions.create(a_session())

    assert session.id.startswith("cs_test_")
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert session.payment_intent is None
    assert session.ui_mode == "hosted_page"
    assert session.url.startswith(f"{box.url}/c/pay/{session.id}#")
    assert session.livemode is False
    assert session.client_reference_id == "attempt-1"
    assert session.metadata.to_dict() == {"checkout_attempt_id": "attempt-1"}
    assert event_types(box) == []


def test_a_session_totals_its_lines_and_the_first_shipping_option(api):
    session = api.checkout.sessions.create(a_session())

    assert (session.amount_subtotal, session.amount_total) == (3660, 4150)
    assert session.total_details.amount_shipping == 490
    assert session.shipping_cost.amount_total == 490
    assert session.currency == "eur"


def test_an_embedded_session_has_a_secret_instead_of_an_address(api):
    params = a_session(ui_mode="embedded_page", return_url="http://shop.test/back")
    del params["success_url"], params["cancel_url"]

    session = api.checkout.sessions.create(params)

    assert session.url is None
    assert session.client_secret.startswith(session.id)


def test_line_items_can_name_a_price_of_the_catalogue(api):
    product = api.products.create({"name": "Lamp"})
    price = api.prices.create({"product": product.id, "currency": "eur", "unit_amount": 3300})

    params = a_session(line_items=[{"price": price.id, "quantity": 1}], shipping_options=[])
    session = api.checkout.sessions.create(params)

    items = api.checkout.sessions.line_items.list(session.id)
    assert session.amount_total == 3300
    assert [(i.description, i.price.id) for i in items.data] == [("Lamp", price.id)]


def test_automatic_tax_is_accepted_and_complete_once_paid(box, api):
    session = open_session(api, automatic_tax={"enabled": True})
    box.pay(session)

    assert api.checkout.sessions.retrieve(session).automatic_tax.status == "complete"


@pytest.mark.parametrize(
    ("minutes", "says"), [(29, "at least 30 minutes"), (24 * 60 + 5, "less than 24 hours")]
)
def test_a_session_lives_between_half_an_hour_and_a_day(api, minutes, says):
    with pytest.raises(stripe.InvalidRequestError, match=says) as caught:
        open_session(api, expires_at=int(time.time()) + minutes * 60)

    assert caught.value.param == "expires_at"


def test_a_session_expires_by_the_clock_and_says_so(box, api):
    session = open_session(api, expires_at=int(time.time()) + 31 * 60)

    box.advance(30 * 60)
    assert api.checkout.sessions.retrieve(session).status == "open"
    box.advance(61)

    expired = api.checkout.sessions.retrieve(session)
    assert (expired.status, expired.payment_status, expired.url) == ("expired", "unpaid", None)
    assert event_types(box) == ["checkout.session.expired"]


def test_expiring_by_call_closes_the_session_for_paying(box, api):
    session = open_session(api)

    assert api.checkout.sessions.expire(session).status == "expired"

    assert box.pay(session)["outcome"] == "closed"
    assert event_types(box) == ["checkout.session.expired"]


def test_expiring_a_session_whose_card_was_declined_cancels_its_intent(box, api):
    session = open_session(api)
    box.pay(session, "4000000000000002")
    api.checkout.sessions.expire(session)

    intent = api.payment_intents.retrieve(api.checkout.sessions.retrieve(session).payment_intent)
    assert intent.status == "canceled"
    assert event_types(box)[-2:] == ["payment_intent.canceled", "checkout.session.expired"]


@pytest.mark.parametrize("end", ["complete", "expired"])
def test_only_an_open_session_can_be_expired(box, api, end):
    session = open_session(api)
    box.pay(session) if end == "complete" else api.checkout.sessions.expire(session)

    with pytest.raises(stripe.InvalidRequestError, match=f"has a status of {end}"):
        api.checkout.sessions.expire(session)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"mode": None}, "parameter_missing", "mode"),
        ({"line_items": None}, "parameter_missing", "line_items"),
        ({"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types"),
        ({"success_url": "shop.test/ok"}, "url_invalid", "success_url"),
        ({"customer": "cus_nobody"}, "resource_missing", "customer"),
        ({"line_items": [{"price": "price_none", "quantity": 1}]}, "resource_missing", None),
        (
            {"line_items": [{"price": "p", "quantity": 0}]},
            "parameter_invalid_integer",
            "line_items[0][quantity]",
        ),
        ({"ui_mode": "hosted"}, None, "ui_mode"),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{i}": "v" for i in range(51)}}, None, "metadata"),
    ],
)
def test_a_request_that_stripe_would_refuse_is_refused(box, api, changes, code, param):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        open_session(api, **changes)

    assert caught.value.code == code
    assert param is None or caught.value.param == param
    assert box.store.objects["checkout.session"] == {}


@pytest.mark.parametrize(
    ("price", "code"),
    [
        ({"currency": "eur", "unit_amount": 20}, "amount_too_small"),
        ({"currency": "xxx", "unit_amount": 2000}, None),
        ({"currency": "eur", "unit_amount": -1}, "parameter_invalid_integer"),
        ({"currency": "eur", "unit_amount": "12.5"}, "parameter_invalid_integer"),
        ({"currency": "kwd", "unit_amount": 12345}, "invalid_charge_amount"),
        ({"currency": "eur", "unit_amount": 100_000_000}, "amount_too_large"),
    ],
)
def test_an_amount_that_no_charge_can_have_is_refused(api, price, code):
    line = {"price_data": {**price, "product_data": {"name": "Mug"}}, "quantity": 1}

    with pytest.raises(stripe.InvalidRequestError) as caught:
        open_session(api, line_items=[line], shipping_options=[])

    assert caught.value.code == code


def test_metadata_can_be_changed_and_taken_away_key_by_key(api):
    session = open_session(api, metadata={"a": "1", "b": "2"})

    updated = api.checkout.sessions.update(session, {"metadata": {"a": "", "c": "3"}})

    assert updated.metadata.to_dict() == {"b": "2", "c": "3"}


def test_sessions_are_found_by_the_time_of_their_making_and_by_their_intent(box, api):
    first = open_session(api)
    box.pay(first)
    box.advance(100)
    second = open_session(api)
    made = api.checkout.sessions.retrieve(second).created

    young = api.checkout.sessions.list({"created": {"gte": made}})
    intent = api.checkout.sessions.retrieve(first).payment_intent
    paid = api.checkout.sessions.list({"payment_intent": intent})

    assert [s.id for s in young.data] == [second]
    assert [s.id for s in paid.data] == [first]
