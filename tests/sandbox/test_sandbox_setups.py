from __future__ import annotations

import pytest
import stripe

from tests.sandbox.drive import event_types, http_call

GOOD, ASKS_ONCE, ASKS_ALWAYS = "4242424242424242", "4000002500003155", "4000002760003184"
SAVED_THEN_DECLINED = "4000000000000341"


@pytest.fixture
def maya(api):
    return api.customers.create({"name": "Maya"}).id


def a_setup(api, customer=None, **changes):
    given = {"customer": customer} if customer else {}
    return api.setup_intents.create({"metadata": {"checkout_attempt_id": "a1"}, **given, **changes})


def saved(box, api, customer, card=GOOD):
    """The id of a payment method that the customer saved."""
    box.confirm(setup := a_setup(api, customer).id, card)
    if api.setup_intents.retrieve(setup).status == "requires_action":
        box.authenticate(setup)
    return api.setup_intents.retrieve(setup).payment_method


def charge(api, customer, method, **changes):
    return api.payment_intents.create(
        {
            "amount": 2000,
            "currency": "eur",
            "customer": customer,
            "payment_method": method,
            "confirm": True,
            "off_session": True,
            **changes,
        }
    )


def test_a_saved_card_belongs_to_the_customer_and_can_be_charged_while_they_are_away(
    box, api, maya
):
    setup = a_setup(api, maya)
    assert (setup.status, setup.usage) == ("requires_payment_method", "off_session")

    told = box.confirm(setup.id)

    done = api.setup_intents.retrieve(setup.id, {"expand": ["payment_method", "customer"]})
    assert told["outcome"] == "saved"
    assert (done.status, done.payment_method.customer) == ("succeeded", maya)
    assert done.metadata.to_dict() == {"checkout_attempt_id": "a1"}
    assert done.customer.name == "Maya"
    assert charge(api, maya, done.payment_method.id).status == "succeeded"
    assert event_types(box)[:4] == [
        "customer.created",
        "setup_intent.created",
        "payment_method.attached",
        "setup_intent.succeeded",
    ]


def test_a_card_that_cannot_be_saved_leaves_the_intent_open_for_another(box, api, maya):
    setup = a_setup(api, maya).id

    told = box.confirm(setup, "4000000000000002")

    failed = api.setup_intents.retrieve(setup)
    assert told["outcome"] == "declined"
    assert told["message"] == "Your card was declined."
    assert (failed.status, failed.payment_method) == ("requires_payment_method", None)
    assert failed.last_setup_error.code == "card_declined"
    assert event_types(box)[-1] == "setup_intent.setup_failed"
    assert box.confirm(setup)["outcome"] == "saved"
    assert api.setup_intents.retrieve(setup).last_setup_error is None


def test_a_card_can_be_saved_and_decline_when_it_is_charged(box, api, maya):
    method = saved(box, api, maya, SAVED_THEN_DECLINED)

    with pytest.raises(stripe.CardError) as caught:
        charge(api, maya, method)

    assert caught.value.code == "card_declined"
    assert api.payment_methods.retrieve(method).customer == maya


@pytest.mark.parametrize(("ok", "outcome"), [(True, "saved"), (False, "declined")])
def test_the_bank_may_ask_before_a_card_is_saved(box, api, maya, ok, outcome):
    setup = a_setup(api, maya).id

    assert box.confirm(setup, ASKS_ONCE)["outcome"] == "asks"
    asking = api.setup_intents.retrieve(setup)
    assert asking.status == "requires_action"
    assert asking.next_action.redirect_to_url.url == f"{box.url}/c/bank/{setup}"
    assert box.authenticate(setup, ok=ok)["outcome"] == outcome

    done = api.setup_intents.retrieve(setup)
    if ok:
        assert (done.status, done.next_action) == ("succeeded", None)
    else:
        assert done.last_setup_error.code == "setup_intent_authentication_failure"
        assert event_types(box)[-1] == "setup_intent.setup_failed"


@pytest.mark.parametrize(
    ("card", "code"), [(ASKS_ONCE, None), (ASKS_ALWAYS, "authentication_required")]
)
def test_a_card_that_was_set_up_need_not_be_asked_again_except_one(box, api, maya, card, code):
    method = saved(box, api, maya, card)

    if code is None:
        assert charge(api, maya, method).status == "succeeded"
        return
    with pytest.raises(stripe.CardError) as caught:
        charge(api, maya, method)
    assert caught.value.code == code
    assert charge(api, maya, method, off_session=False).status == "requires_action"


def test_the_banks_page_saves_the_card_and_leads_back_to_the_shop(box, api, maya):
    setup = a_setup(
        api,
        maya,
        payment_method="pm_card_authenticationRequired",
        confirm=True,
        return_url="http://shop.test/back?x=1",
    )
    page = setup.next_action.redirect_to_url.url
    assert "before your card is saved" in http_call(page)[2]

    status, headers, _ = http_call(page, "POST", {"answer": "yes"})

    assert status == 303
    assert headers["Location"] == (
        f"http://shop.test/back?x=1&setup_intent={setup.id}"
        f"&setup_intent_client_secret={setup.client_secret}&redirect_status=succeeded"
    )
    assert api.setup_intents.retrieve(setup.id).status == "succeeded"


def test_an_account_that_is_debited_is_saved_with_a_mandate(box, api, maya):
    setup = a_setup(api, maya).id

    assert box.confirm(setup, "bank_debit")["outcome"] == "saved"

    done = api.setup_intents.retrieve(setup, {"expand": ["payment_method"]})
    assert done.payment_method.type == "sepa_debit"
    assert done.mandate.startswith("mandate_")


def test_a_setup_for_cards_only_saves_no_account(box, api):
    setup = a_setup(api, allowed_payment_method_types=["card"])

    assert setup.payment_method_types == ["card"]
    assert box.confirm(setup.id, "bank_debit")["outcome"] == "not_offered"


def test_a_saved_intent_is_final_and_a_canceled_one_too(box, api, maya):
    done, gone = a_setup(api, maya).id, a_setup(api, maya).id
    box.confirm(done)

    assert api.setup_intents.cancel(gone, {"cancellation_reason": "abandoned"}).status == "canceled"

    assert event_types(box)[-1] == "setup_intent.canceled"
    for id in (done, gone):
        assert box.confirm(id)["outcome"] == "closed"
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.setup_intents.cancel(id)
        assert caught.value.code == "setup_intent_unexpected_state"
    assert caught.value.json_body["error"]["setup_intent"]["status"] == "canceled"


def test_setups_are_changed_and_listed(box, api, maya):
    first, second = a_setup(api), a_setup(api, maya)

    changed = api.setup_intents.update(
        first.id, {"customer": maya, "metadata": {"b": "2"}, "payment_method": "pm_card_visa"}
    )

    assert (changed.status, changed.customer) == ("requires_confirmation", maya)
    assert changed.metadata.to_dict() == {"checkout_attempt_id": "a1", "b": "2"}
    assert api.setup_intents.confirm(first.id).status == "succeeded"
    assert [s.id for s in api.setup_intents.list({"customer": maya}).data] == [second.id, first.id]
    by_method = api.setup_intents.list({"payment_method": changed.payment_method}).data
    assert [s.id for s in by_method] == [first.id]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"customer": "cus_nobody"}, "resource_missing"),
        ({"payment_method": "pm_none"}, "resource_missing"),
        ({"confirm": True}, "parameter_missing"),
        ({"payment_method_types": ["card"]}, "parameter_unknown"),
        ({"colour": "red"}, "parameter_unknown"),
        ({"return_url": "shop.test"}, "url_invalid"),
    ],
)
def test_a_setup_that_stripe_would_refuse_is_refused(box, api, params, code):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.setup_intents.create(params)

    assert caught.value.code == code
    assert event_types(box) == []


def test_confirming_without_anything_to_save_is_refused(api):
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        api.setup_intents.confirm(a_setup(api).id)


def test_a_declined_setup_is_a_card_error_that_carries_the_intent(api):
    with pytest.raises(stripe.CardError) as caught:
        a_setup(api, payment_method="pm_card_chargeDeclined", confirm=True)

    assert caught.value.json_body["error"]["setup_intent"]["status"] == "requires_payment_method"


# -- payment methods ------------------------------------------------------------------------------


def a_method(api, number=GOOD, **changes):
    card = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    return api.payment_methods.create({"type": "card", "card": card, **changes})


def test_methods_are_made_kept_listed_changed_and_taken_away(box, api, maya):
    method = a_method(api, billing_details={"name": "Maya", "email": "maya@example.com"})
    assert (method.card.last4, method.customer) == ("4242", None)

    api.payment_methods.attach(method.id, {"customer": maya})
    api.payment_methods.update(method.id, {"metadata": {"a": "1"}, "card": {"exp_year": 2040}})

    (kept,) = api.payment_methods.list({"customer": maya, "type": "card"}).data
    assert (kept.id, kept.card.exp_year, kept.metadata.to_dict()) == (method.id, 2040, {"a": "1"})
    assert kept.billing_details.email == "maya@example.com"
    assert api.payment_methods.detach(method.id).customer is None
    assert api.payment_methods.list({"customer": maya}).data == []
    assert event_types(box)[1:] == [
        "payment_method.attached",
        "payment_method.updated",
        "payment_method.detached",
    ]


def test_a_test_token_can_be_attached_and_becomes_a_method_of_its_own(api, maya):
    method = api.payment_methods.attach("pm_card_mastercard", {"customer": maya})

    assert method.id.startswith("pm_1")
    assert (method.customer, method.card.brand) == (maya, "mastercard")


@pytest.mark.parametrize(
    ("kind", "account"),
    [
        ("sepa_debit", {"iban": "DE89 3704 0044 0532 0130 00"}),
        ("us_bank_account", {"account_number": "000123456789", "routing_number": "110000000"}),
        ("bacs_debit", {"sort_code": "10-88-00", "account_number": "00012345"}),
    ],
)
def test_a_test_account_can_be_kept_too(api, maya, kind, account):
    method = api.payment_methods.create({"type": kind, kind: account})

    assert api.payment_methods.attach(method.id, {"customer": maya}).type == kind


def test_a_card_that_the_bank_refuses_cannot_be_attached(box, api, maya):
    method = a_method(api, "4000000000000069")

    with pytest.raises(stripe.CardError) as caught:
        api.payment_methods.attach(method.id, {"customer": maya})

    assert caught.value.code == "expired_card"
    assert "payment_method.attached" not in event_types(box)


def test_a_method_without_a_customer_serves_once(api, maya):
    method = a_method(api).id
    once = {"amount": 2000, "currency": "eur", "payment_method": method, "confirm": True}
    api.payment_intents.create(once)

    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        api.payment_intents.create(once)
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        api.payment_methods.attach(method, {"customer": maya})


def test_a_customers_method_pays_only_for_that_customer(box, api, maya):
    method = saved(box, api, maya)
    other = api.customers.create({"name": "Ida"}).id

    for customer in ({}, {"customer": other}):
        with pytest.raises(stripe.InvalidRequestError, match="belongs to Customer"):
            api.payment_intents.create(
                {"amount": 2000, "currency": "eur", "payment_method": method, **customer}
            )
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        api.payment_methods.attach(method, {"customer": other})


def test_a_card_is_kept_by_paying_when_the_intent_wants_it_for_later(box, api, maya):
    intent = api.payment_intents.create(
        {
            "amount": 2000,
            "currency": "eur",
            "customer": maya,
            "setup_future_usage": "off_session",
        }
    )

    assert box.confirm(intent.id)["outcome"] == "paid"

    method = api.payment_intents.retrieve(intent.id).payment_method
    assert api.payment_methods.retrieve(method).customer == maya
    assert charge(api, maya, method).status == "succeeded"


def test_a_customer_can_have_a_default_method_but_only_one_of_their_own(box, api, maya):
    method = saved(box, api, maya)
    chosen = {"invoice_settings": {"default_payment_method": method}}

    api.customers.update(maya, chosen)

    known = api.customers.retrieve(maya, {"expand": ["invoice_settings.default_payment_method"]})
    assert known.invoice_settings.default_payment_method.id == method
    other = api.customers.create({"name": "Ida"}).id
    with pytest.raises(stripe.InvalidRequestError, match="must be attached") as caught:
        api.customers.update(other, chosen)
    assert caught.value.code == "resource_missing"
    api.payment_methods.detach(method)
    assert api.customers.retrieve(maya).invoice_settings.default_payment_method is None


def test_a_customer_can_be_born_with_a_card(api):
    ida = api.customers.create(
        {
            "name": "Ida",
            "payment_method": "pm_card_visa",
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
        }
    )

    (kept,) = api.payment_methods.list({"customer": ida.id}).data
    assert ida.invoice_settings.default_payment_method == kept.id


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({}, "type"),
        ({"type": "card"}, "card"),
        ({"type": "paypal"}, "does not offer"),
        ({"type": "card", "card": {"number": "4242424242424241"}}, "card number is incorrect"),
        ({"type": "card", "card": {"token": "tok_none"}}, "No such token"),
        ({"type": "sepa_debit", "sepa_debit": {"iban": "DE00"}}, "not a test account"),
    ],
)
def test_a_method_that_cannot_be_is_refused(api, params, problem):
    with pytest.raises(stripe.StripeError, match=problem):
        api.payment_methods.create(params)


# -- confirming by program ------------------------------------------------------------------------


def test_a_payment_intent_is_confirmed_by_program_with_its_own_trouble(box, api):
    intent = api.payment_intents.create({"amount": 2000, "currency": "eur"}).id

    told = http_call(
        f"{box.url}/_sandbox/confirm", "POST", as_json={"intent": intent, "webhooks": "lost"}
    )[2]

    assert '"outcome": "paid"' in told
    assert api.payment_intents.retrieve(intent).amount_received == 2000
    assert [d.event_type for d in box.due()] == ["payment_intent.created"]


@pytest.mark.parametrize(
    ("card", "outcome", "status"),
    [
        ("4242 4242 4242 4242", "paid", "succeeded"),
        ("4000000000009995", "declined", "requires_payment_method"),
        ("bank_debit", "processing", "processing"),
        (ASKS_ALWAYS, "asks", "requires_action"),
    ],
)
def test_every_way_to_pay_is_open_to_an_intent(box, api, card, outcome, status):
    intent = api.payment_intents.create({"amount": 2000, "currency": "eur"}).id

    assert box.confirm(intent, card)["outcome"] == outcome
    assert api.payment_intents.retrieve(intent).status == status


def test_who_came_back_from_the_bank_without_an_answer_can_take_another_card(box, api):
    intent = api.payment_intents.create({"amount": 2000, "currency": "eur"}).id
    box.confirm(intent, ASKS_ALWAYS)

    assert box.confirm(intent)["outcome"] == "paid"
    assert box.authenticate(intent)["outcome"] == "closed"


def test_an_intent_can_be_paid_short_and_shows_it(box, api):
    intent = api.payment_intents.create({"amount": 2000, "currency": "eur"}).id

    box.confirm(intent, "wrong_amount")

    assert api.payment_intents.retrieve(intent).amount_received == 1900


def test_a_saved_card_pays_by_its_id_and_only_for_its_customer(box, api, maya):
    method = saved(box, api, maya)
    theirs = api.payment_intents.create({"amount": 2000, "currency": "eur", "customer": maya}).id
    nobodys = api.payment_intents.create({"amount": 2000, "currency": "eur"}).id

    assert box.confirm(theirs, method)["outcome"] == "paid"
    assert box.confirm(nobodys, method)["outcome"] == "not_offered"
    assert api.payment_intents.retrieve(theirs).payment_method == method


def test_nobody_knows_an_intent_that_never_was(box):
    assert box.confirm("pi_none")["outcome"] == "unknown"
    assert box.authenticate("seti_none")["outcome"] == "closed"
