from __future__ import annotations

import pytest
import stripe

from tests.sandbox.drive import event_types, http_call, open_session, paid_intent


def an_intent(api, **changes):
    return api.payment_intents.create({"amount": 2000, "currency": "eur", **changes})


def test_an_intent_confirmed_with_a_good_card_succeeds(box, api):
    intent = an_intent(api, payment_method="pm_card_visa", confirm=True)

    assert (intent.status, intent.amount_received) == ("succeeded", 2000)
    assert event_types(box) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "charge.updated",
    ]


def test_a_decline_is_a_card_error_that_carries_the_intent(api):
    intent = an_intent(api)

    with pytest.raises(stripe.CardError) as caught:
        api.payment_intents.confirm(
            intent.id, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds"}
        )

    error = caught.value
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.json_body["error"]["decline_code"] == "insufficient_funds"
    assert error.json_body["error"]["payment_intent"]["status"] == "requires_payment_method"
    again = api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert again.status == "succeeded"


def test_a_bank_that_asks_sends_the_browser_there_and_back(box, api):
    intent = an_intent(
        api,
        payment_method="pm_card_authenticationRequired",
        confirm=True,
        return_url="http://shop.test/back",
    )

    assert intent.status == "requires_action"
    page = intent.next_action.redirect_to_url.url
    assert http_call(page)[0] == 200
    status, headers, _ = http_call(page, "POST", {"answer": "yes"})

    assert status == 303
    assert headers["Location"].startswith(f"http://shop.test/back?payment_intent={intent.id}")
    assert headers["Location"].endswith("redirect_status=succeeded")
    assert api.payment_intents.retrieve(intent.id).status == "succeeded"


def test_an_intent_can_be_changed_until_it_is_paid(api):
    intent = an_intent(api)

    changed = api.payment_intents.update(intent.id, {"amount": 2500, "metadata": {"a": "1"}})
    assert (changed.amount, changed.metadata.to_dict()) == (2500, {"a": "1"})

    api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.payment_intents.update(intent.id, {"amount": 9900})
    assert caught.value.code == "payment_intent_unexpected_state"


def test_a_canceled_intent_can_never_be_paid(box, api):
    intent = an_intent(api)

    gone = api.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})

    assert (gone.status, gone.cancellation_reason) == ("canceled", "abandoned")
    assert event_types(box)[-1] == "payment_intent.canceled"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert caught.value.code == "payment_intent_unexpected_state"


def test_a_paid_intent_cannot_be_canceled_and_says_that_it_is_paid(box, api):
    intent = paid_intent(box, api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.payment_intents.cancel(intent)

    assert caught.value.code == "payment_intent_unexpected_state"
    assert caught.value.json_body["error"]["payment_intent"]["status"] == "succeeded"


def test_the_intent_of_an_open_session_is_only_ended_by_expiring_the_session(box, api):
    session = open_session(api)
    box.pay(session, "4000000000000002")
    intent = api.checkout.sessions.retrieve(session).payment_intent

    with pytest.raises(stripe.InvalidRequestError, match="Expire the Checkout Session"):
        api.payment_intents.cancel(intent)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"currency": "eur"}, "parameter_missing"),
        ({"amount": 0, "currency": "eur"}, "parameter_invalid_integer"),
        ({"amount": 10, "currency": "eur"}, "amount_too_small"),
        (
            {"amount": 2000, "currency": "eur", "color": "red"},
            "parameter_unknown",
        ),
        ({"amount": 2000, "currency": "eur", "confirm": True}, "parameter_missing"),
    ],
)
def test_an_intent_that_stripe_would_refuse_is_refused(box, api, params, code):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.payment_intents.create(params)

    assert caught.value.code == code
    assert event_types(box) == []
