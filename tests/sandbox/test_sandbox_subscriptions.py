from __future__ import annotations

from datetime import UTC, datetime

import pytest
import stripe

from tests.sandbox.drive import event_types, http_call

DAY_S = 86_400
GOOD, DECLINES, ASKS = "4242424242424242", "4000000000000341", "4000002760003184"


@pytest.fixture
def maya(api):
    return api.customers.create({"name": "Maya", "email": "maya@example.com"}).id


@pytest.fixture
def coffee(api):
    """The id of a monthly price of €12."""
    product = api.products.create({"name": "Monthly coffee"}).id
    return api.prices.create(
        {
            "product": product,
            "currency": "eur",
            "unit_amount": 1200,
            "recurring": {"interval": "month"},
        }
    ).id


def a_card(box, api, customer, number=GOOD):
    """The id of a card that the customer has saved."""
    setup = api.setup_intents.create({"customer": customer}).id
    box.confirm(setup, number)
    box.authenticate(setup)
    return api.setup_intents.retrieve(setup).payment_method


def subscribe(api, customer, price, method=None, **changes):
    given = {"default_payment_method": method} if method else {}
    return api.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": price}],
            "off_session": True,
            "metadata": {"checkout_attempt_id": "a1"},
            **given,
            **changes,
        }
    )


@pytest.fixture
def running(box, api, maya, coffee):
    """The id of a monthly subscription whose first month is paid."""
    return subscribe(api, maya, coffee, a_card(box, api, maya)).id


def latest_invoice(api, subscription):
    id = api.subscriptions.retrieve(subscription).latest_invoice
    return api.invoices.retrieve(id, {"expand": ["payments", "confirmation_secret"]})


def intent_of(api, invoice):
    (payment,) = api.invoice_payments.list(
        {"invoice": invoice.id, "expand": ["data.payment.payment_intent"]}
    ).data
    return payment.payment.payment_intent


def status(api, subscription):
    return api.subscriptions.retrieve(subscription).status


def since(box, seen):
    """What was told after the first ``seen`` events, without what charges say of themselves."""
    return [t for t in event_types(box)[seen:] if not t.startswith(("charge.", "payment_intent."))]


# -- beginning ------------------------------------------------------------------------------------


def test_a_subscription_begins_with_its_first_invoice_paid(box, api, maya, coffee):
    method = a_card(box, api, maya)
    seen = len(event_types(box))

    sub = subscribe(api, maya, coffee, method, expand=["latest_invoice.payments"])

    invoice = sub.latest_invoice
    assert (sub.status, sub.default_payment_method) == ("active", method)
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.amount_due, invoice.amount_paid, invoice.attempt_count) == (1200, 1200, 1)
    assert invoice.parent.subscription_details.subscription == sub.id
    assert invoice.parent.subscription_details.metadata.to_dict() == {"checkout_attempt_id": "a1"}
    (line,) = invoice.lines.data
    assert (line.amount, line.metadata.to_dict()) == (1200, {"checkout_attempt_id": "a1"})
    (payment,) = invoice.payments.data
    assert (payment.status, payment.amount_paid) == ("paid", 1200)
    intent = api.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.metadata.to_dict()) == ("succeeded", {})
    assert since(box, seen) == [
        "invoice.created",
        "invoice.finalized",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
        "customer.subscription.created",
    ]


def test_its_period_is_on_its_items_and_a_month_long(box, api, running):
    item = api.subscriptions.retrieve(running)["items"].data[0]
    begins = datetime.fromtimestamp(item.current_period_start, UTC)
    ends = datetime.fromtimestamp(item.current_period_end, UTC)

    assert (ends.year * 12 + ends.month) - (begins.year * 12 + begins.month) == 1
    assert item.price.unit_amount == 1200


def test_prices_can_be_made_on_the_spot_and_bought_once_beside(box, api, maya):
    product = api.products.create({"name": "Coffee"}).id
    a_card(box, api, maya)
    data = {"currency": "eur", "product": product}
    recurring = {**data, "unit_amount": 900, "recurring": {"interval": "week", "interval_count": 2}}

    sub = subscribe(
        api,
        maya,
        None,
        a_card(box, api, maya),
        items=[{"price_data": recurring, "quantity": 2}],
        add_invoice_items=[{"price_data": {**data, "unit_amount": 500}, "quantity": 3}],
    )

    first = latest_invoice(api, sub.id)
    assert [line.amount for line in first.lines.data] == [1800, 1500]
    assert first.amount_paid == 3300
    box.advance(14 * DAY_S + box.finalize_s)
    assert latest_invoice(api, sub.id).amount_paid == 1800


def test_a_customers_default_card_pays_when_the_subscription_names_none(box, api, maya, coffee):
    method = a_card(box, api, maya)
    api.customers.update(maya, {"invoice_settings": {"default_payment_method": method}})

    sub = subscribe(api, maya, coffee)

    assert (sub.status, sub.default_payment_method) == ("active", None)


def test_a_declined_first_payment_leaves_it_incomplete_with_an_open_invoice(box, api, maya, coffee):
    seen = len(event_types(box))
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES))

    invoice = latest_invoice(api, sub.id)
    assert sub.status == "incomplete"
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == (
        "open",
        1,
        None,
    )
    assert intent_of(api, invoice).last_payment_error.code == "card_declined"
    assert invoice.confirmation_secret.client_secret == intent_of(api, invoice).client_secret
    assert since(box, seen)[-3:] == [
        "invoice.updated",
        "invoice.payment_failed",
        "customer.subscription.created",
    ]


def test_paid_within_the_day_an_incomplete_subscription_runs(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    seen = len(event_types(box))
    box.advance(22 * 3600)

    assert box.pay(latest_invoice(api, sub).id)["outcome"] == "paid"

    known = api.subscriptions.retrieve(sub, {"expand": ["default_payment_method"]})
    assert known.status == "active"
    assert known.default_payment_method.card.last4 == "4242"  # what was used on its page stays
    assert "customer.subscription.updated" in since(box, seen)
    box.advance(10 * DAY_S)
    assert status(api, sub) == "active"


def test_not_paid_within_the_day_it_never_began(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    seen = len(event_types(box))

    box.advance(23 * 3600 + 1)

    invoice = latest_invoice(api, sub)
    assert (status(api, sub), invoice.status) == ("incomplete_expired", "void")
    assert intent_of(api, invoice).cancellation_reason == "void_invoice"
    assert since(box, seen) == ["invoice.voided", "customer.subscription.updated"]
    assert box.pay(invoice.id)["outcome"] == "closed"
    assert api.subscriptions.list({"status": "ended"}).data[0].id == sub


@pytest.mark.parametrize("how", ["void", "cancel"])
def test_voiding_the_first_invoice_or_canceling_ends_what_never_began(box, api, maya, coffee, how):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    invoice = latest_invoice(api, sub).id

    if how == "void":
        api.invoices.void_invoice(invoice)
    else:
        assert api.subscriptions.cancel(sub).status == "incomplete_expired"

    assert status(api, sub) == "incomplete_expired"
    assert api.invoices.retrieve(invoice).status == "void"
    assert "customer.subscription.deleted" not in event_types(box)


def test_by_default_incomplete_the_page_pays_the_first_invoice(box, api, maya, coffee):
    sub = subscribe(
        api,
        maya,
        coffee,
        payment_behavior="default_incomplete",
        payment_settings={"save_default_payment_method": "on_subscription"},
        expand=["latest_invoice.confirmation_secret"],
    )
    assert sub.status == "incomplete"
    secret = sub.latest_invoice.confirmation_secret.client_secret

    assert box.confirm(secret.partition("_secret_")[0])["outcome"] == "paid"

    known = api.subscriptions.retrieve(sub.id)
    assert known.status == "active"
    assert api.payment_methods.retrieve(known.default_payment_method).customer == maya


def test_error_if_incomplete_makes_nothing_when_the_bank_says_no(box, api, maya, coffee):
    method = a_card(box, api, maya, DECLINES)
    seen = len(event_types(box))

    with pytest.raises(stripe.CardError) as caught:
        subscribe(api, maya, coffee, method, payment_behavior="error_if_incomplete")

    assert caught.value.code == "card_declined"
    assert event_types(box)[seen:] == []
    assert api.subscriptions.list().data == []


def test_when_the_bank_wants_to_see_the_buyer_the_shop_is_told(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, ASKS)).id

    invoice = latest_invoice(api, sub)
    assert status(api, sub) == "incomplete"
    assert intent_of(api, invoice).status == "requires_action"
    assert event_types(box)[-3:] == [
        "invoice.payment_failed",
        "invoice.payment_action_required",
        "customer.subscription.created",
    ]
    assert box.authenticate(invoice.id)["outcome"] == "paid"
    assert status(api, sub) == "active"


def test_a_debit_under_way_leaves_it_incomplete_until_the_money_is_there(box, api, maya, coffee):
    box.debit_s = 4 * DAY_S  # longer than a card may take
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, "bank_debit")).id

    box.advance(2 * DAY_S)
    assert status(api, sub) == "incomplete"
    box.advance(2 * DAY_S)

    assert (status(api, sub), latest_invoice(api, sub).status) == ("active", "paid")


def test_a_debit_that_bounces_after_days_ends_what_never_began(box, api, maya, coffee):
    box.debit_s = 4 * DAY_S
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, "bank_debit_fails")).id

    box.advance(4 * DAY_S)

    assert (status(api, sub), latest_invoice(api, sub).status) == ("incomplete_expired", "void")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"customer": "cus_nobody"}, "resource_missing"),
        ({"items": []}, "parameter_missing"),
        ({"items": [{"price": "price_none"}]}, "resource_missing"),
        ({"default_payment_method": "pm_none"}, "resource_missing"),
        ({"trial_period_days": 3, "trial_end": 99_999_999_999}, "parameters_exclusive"),
        ({"cancel_at": 1}, None),
        ({"colour": "red"}, "parameter_unknown"),
        ({"collection_method": "send_invoice"}, None),
        ({}, "resource_missing"),  # there is nothing to pay with
    ],
)
def test_a_subscription_that_stripe_would_refuse_is_refused(box, api, maya, coffee, changes, code):
    seen = len(event_types(box))

    with pytest.raises(stripe.InvalidRequestError) as caught:
        subscribe(api, changes.pop("customer", maya), coffee, **changes)

    assert caught.value.code == code
    assert event_types(box)[seen:] == []


def test_a_subscription_takes_recurring_prices_of_one_currency_only(box, api, maya, coffee):
    lamp = api.products.create({"name": "Lamp"}).id
    once = api.prices.create({"product": lamp, "currency": "eur", "unit_amount": 900}).id
    dollars = api.prices.create(
        {
            "product": lamp,
            "currency": "usd",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
        }
    ).id

    for items, problem in (([once], "type=one_time"), ([coffee, dollars], "same currency")):
        with pytest.raises(stripe.InvalidRequestError, match=problem):
            subscribe(api, maya, None, items=[{"price": price} for price in items])


# -- trials ---------------------------------------------------------------------------------------


def test_a_trial_begins_with_an_invoice_over_nothing_and_is_told_three_days_before_its_end(
    box, api, maya, coffee
):
    method = a_card(box, api, maya)
    seen = len(event_types(box))
    sub = subscribe(api, maya, coffee, method, trial_period_days=14).id

    invoice = latest_invoice(api, sub)
    assert status(api, sub) == "trialing"
    assert (invoice.status, invoice.amount_due, invoice.payments.data) == ("paid", 0, [])
    assert box.ledger()["payments"] == []
    assert since(box, seen) == [
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.created",
    ]
    box.advance(11 * DAY_S)
    assert event_types(box)[-1] == "customer.subscription.trial_will_end"

    box.advance(3 * DAY_S)
    assert status(api, sub) == "active"
    assert latest_invoice(api, sub).status == "draft"
    box.advance(box.finalize_s)
    paid = latest_invoice(api, sub)
    assert (paid.status, paid.amount_paid, paid.billing_reason) == (
        "paid",
        1200,
        "subscription_cycle",
    )


def test_a_short_trial_is_told_of_at_once(box, api, maya, coffee):
    now = int(box.now())
    subscribe(api, maya, coffee, a_card(box, api, maya), trial_end=now + DAY_S)

    box.tick()

    assert event_types(box)[-1] == "customer.subscription.trial_will_end"


def test_a_trial_can_be_cut_short_and_is_charged_then(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya), trial_period_days=30).id
    box.advance(5 * DAY_S)
    seen = len(event_types(box))

    assert api.subscriptions.update(sub, {"trial_end": "now"}).status == "active"

    assert latest_invoice(api, sub).amount_paid == 1200
    assert since(box, seen)[0] == "customer.subscription.trial_will_end"
    item = api.subscriptions.retrieve(sub)["items"].data[0]
    assert item.current_period_start == pytest.approx(box.now(), abs=2)


def test_a_trial_can_be_made_longer(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya), trial_period_days=7).id
    api.subscriptions.update(sub, {"trial_end": int(box.now()) + 20 * DAY_S})

    box.advance(19 * DAY_S)
    assert status(api, sub) == "trialing"
    box.advance(1 * DAY_S + box.finalize_s)
    assert latest_invoice(api, sub).amount_paid == 1200


@pytest.mark.parametrize(
    ("then", "ends_as", "news"),
    [
        ("create_invoice", "past_due", "customer.subscription.updated"),
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("pause", "paused", "customer.subscription.paused"),
    ],
)
def test_a_trial_that_ends_without_a_card_ends_as_agreed(
    box, api, maya, coffee, then, ends_as, news
):
    sub = subscribe(
        api,
        maya,
        coffee,
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": then}},
    ).id

    box.advance(7 * DAY_S + box.finalize_s)

    assert status(api, sub) == ends_as
    assert news in event_types(box)


def test_a_paused_subscription_is_resumed_with_a_card(box, api, maya, coffee):
    behavior = {"end_behavior": {"missing_payment_method": "pause"}}
    sub = subscribe(api, maya, coffee, trial_period_days=7, trial_settings=behavior).id
    box.advance(60 * DAY_S)
    assert api.subscriptions.retrieve(sub).status_details.paused.type == "subscription"
    api.subscriptions.update(sub, {"default_payment_method": a_card(box, api, maya)})

    assert api.subscriptions.resume(sub).status == "active"

    assert latest_invoice(api, sub).amount_paid == 1200
    assert "customer.subscription.resumed" in event_types(box)
    assert len(box.ledger()["payments"]) == 1  # nothing was asked for while it was paused
    with pytest.raises(stripe.InvalidRequestError, match="Only a subscription with a status"):
        api.subscriptions.resume(sub)


def test_a_trial_without_a_card_can_have_one_set_up_by_its_pending_intent(box, api, maya, coffee):
    sub = subscribe(
        api,
        maya,
        coffee,
        trial_period_days=7,
        payment_behavior="default_incomplete",
        expand=["pending_setup_intent"],
    )

    assert box.confirm(sub.pending_setup_intent.id)["outcome"] == "saved"

    known = api.subscriptions.retrieve(sub.id)
    assert known.pending_setup_intent is None
    assert known.default_payment_method is not None
    box.advance(7 * DAY_S + box.finalize_s)
    assert latest_invoice(api, sub.id).status == "paid"


# -- renewing -------------------------------------------------------------------------------------


def test_a_renewal_is_drafted_when_due_and_collected_an_hour_later(box, api, running):
    ends = api.subscriptions.retrieve(running)["items"].data[0].current_period_end
    api.subscriptions.update(running, {"metadata": {"checkout_attempt_id": "a2"}})
    box.advance(ends - box.now() + 1)
    seen = len(event_types(box))

    draft = latest_invoice(api, running)
    assert (draft.status, draft.billing_reason) == ("draft", "subscription_cycle")
    assert (draft.created, draft.automatically_finalizes_at) == (ends, ends + 3600)
    assert draft.hosted_invoice_url is None
    box.advance(3600)

    paid = latest_invoice(api, running)
    assert (paid.id, paid.status, paid.amount_paid) == (draft.id, "paid", 1200)
    assert paid.number.endswith("-0002")
    assert paid.parent.subscription_details.metadata.to_dict() == {"checkout_attempt_id": "a2"}
    assert intent_of(api, paid).metadata.to_dict() == {}
    assert since(box, seen) == [
        "invoice.finalized",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


def test_twelve_months_happen_each_at_its_own_time_however_far_the_clock_is_moved(
    box, api, running
):
    born = api.subscriptions.retrieve(running).created
    box.advance(366 * DAY_S)

    invoices = list(api.invoices.list({"subscription": running, "limit": 100}).data)[::-1]
    assert [i.billing_reason for i in invoices] == ["subscription_create"] + [
        "subscription_cycle"
    ] * 12
    assert [i.amount_paid for i in invoices] == [1200] * 13
    days = [datetime.fromtimestamp(i.created, UTC) for i in invoices]
    assert [d.month for d in days] == [(days[0].month - 1 + n) % 12 + 1 for n in range(13)]
    assert len({d.time() for d in days}) == 1
    told = [e["created"] for e in box.store.objects["event"].values()]
    assert told == sorted(told)
    assert invoices[0].created == born


def test_what_begins_on_the_31st_is_renewed_on_the_last_of_shorter_months(box, api, maya, coffee):
    box.clock = lambda: datetime(2027, 1, 31, 9, 30, tzinfo=UTC).timestamp()
    sub = subscribe(api, maya, coffee, a_card(box, api, maya)).id

    box.advance(100 * DAY_S)

    dates = [
        datetime.fromtimestamp(i.created, UTC).strftime("%d.%m.")
        for i in api.invoices.list({"subscription": sub}).data
    ]
    assert dates[::-1] == ["31.01.", "28.02.", "31.03.", "30.04."]


def test_a_driver_can_move_its_clock_from_one_happening_to_the_next(box, api, running):
    box.flush(lambda body, headers: 200)
    happened = []

    while len(happened) < 6:
        at = box.next_time()
        seen = len(event_types(box))
        box.advance(at - box.now())
        happened.append(since(box, seen)[0])
        box.flush(lambda body, headers: 200)

    assert (
        happened
        == [
            "invoice.upcoming",
            "invoice.created",
            "invoice.finalized",
        ]
        * 2
    )


def test_a_renewal_is_announced_a_week_before(box, api, running):
    box.advance(25 * DAY_S)

    upcoming = api.events.list({"type": "invoice.upcoming"}).data[0].data.object
    assert (upcoming.amount_due, upcoming.billing_reason) == (1200, "upcoming")
    assert upcoming.lines.data[0].period.start == upcoming.period_end


def test_a_failed_renewal_is_past_due_tried_again_and_healed(box, api, running):
    box.chaos.decline_renewals = 2
    box.advance(31 * DAY_S + box.finalize_s)
    failed = latest_invoice(api, running)
    assert (status(api, running), failed.status, failed.attempt_count) == ("past_due", "open", 1)
    assert failed.next_payment_attempt > box.now()
    assert {"invoice.payment_failed", "customer.subscription.updated"} <= set(event_types(box))

    box.advance(3 * DAY_S)
    assert latest_invoice(api, running).attempt_count == 2
    box.advance(5 * DAY_S)

    healed = latest_invoice(api, running)
    assert (status(api, running), healed.status, healed.attempt_count) == ("active", "paid", 3)
    assert healed.next_payment_attempt is None


@pytest.mark.parametrize(
    ("then", "ends_as"), [("cancel", "canceled"), ("unpaid", "unpaid"), ("past_due", "past_due")]
)
def test_after_the_last_retry_it_becomes_what_the_switch_says(box, api, running, then, ends_as):
    box.chaos.decline_renewals = 4
    box.chaos.after_retries = then
    box.advance(31 * DAY_S + box.finalize_s)
    owed = latest_invoice(api, running).id

    box.advance(15 * DAY_S + 60)

    assert status(api, running) == ends_as
    invoice = api.invoices.retrieve(owed)
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == (
        "open",
        4,
        None,
    )
    if then == "cancel":
        assert event_types(box)[-1] == "customer.subscription.deleted"
        details = api.subscriptions.retrieve(running).cancellation_details
        assert details.reason == "payment_failed"
        assert box.next_time() is None or not box.store.objects["timer"]
        assert box.pay(owed)["outcome"] == "paid"  # who has the link can still pay
        assert status(api, running) == "canceled"


def test_an_unpaid_subscription_drafts_what_nobody_collects_until_the_latest_is_paid(
    box, api, maya, coffee
):
    method = a_card(box, api, maya)
    sub = subscribe(api, maya, coffee, method).id
    box.chaos.decline_renewals = 4
    box.chaos.after_retries = "unpaid"
    box.advance(75 * DAY_S)

    draft = latest_invoice(api, sub)
    assert (status(api, sub), draft.status, draft.auto_advance) == ("unpaid", "draft", False)
    assert api.invoices.pay(draft.id).status == "paid"
    assert status(api, sub) == "active"


def test_the_link_of_a_failed_renewal_opens_a_page_that_heals_it(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya)).id
    api.subscriptions.update(sub, {"default_payment_method": a_card(box, api, maya, DECLINES)})
    box.advance(31 * DAY_S + box.finalize_s)
    url = latest_invoice(api, sub).hosted_invoice_url
    page = http_call(url)[2]
    for words in (
        "Pay €12.00",
        "1 × Monthly coffee",
        "maya@example.com",
        "Your card was declined.",
    ):
        assert words in page

    http_call(url, "POST", {"outcome": "declined"})
    assert latest_invoice(api, sub).attempt_count == 1  # by hand does not count
    status_code, headers, _ = http_call(url, "POST", {"outcome": "pays"})

    assert (status_code, headers["Location"]) == (303, url.removeprefix(box.url))
    assert "This invoice is paid" in http_call(url)[2]
    assert status(api, sub) == "active"
    box.advance(31 * DAY_S + box.finalize_s)
    assert latest_invoice(api, sub).status == "paid"  # the new card pays from now on


def test_the_invoices_page_asks_the_bank_and_comes_back(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    url = latest_invoice(api, sub).hosted_invoice_url

    bank = http_call(url, "POST", {"outcome": "asks"})[1]["Location"]
    back = http_call(box.url + bank, "POST", {"answer": "yes"})[1]["Location"]

    assert back == url
    assert status(api, sub) == "active"


def test_an_invoices_page_needs_its_secret(box, api, running):
    url = latest_invoice(api, running).hosted_invoice_url

    assert http_call(url)[0] == 200
    assert http_call(url.rsplit("/", 1)[0])[0] == 404
    assert http_call(url + "x")[0] == 404


def test_another_card_can_be_made_the_default_before_the_next_try(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya)).id
    api.subscriptions.update(sub, {"default_payment_method": a_card(box, api, maya, ASKS)})
    box.advance(31 * DAY_S + box.finalize_s)
    assert intent_of(api, latest_invoice(api, sub)).status == "requires_action"
    assert "invoice.payment_action_required" in event_types(box)

    api.subscriptions.update(sub, {"default_payment_method": a_card(box, api, maya)})
    box.advance(3 * DAY_S)

    assert (status(api, sub), latest_invoice(api, sub).status) == ("active", "paid")


# -- ending ---------------------------------------------------------------------------------------


def test_canceled_now_it_ends_now(box, api, running):
    gone = api.subscriptions.cancel(running, {"cancellation_details": {"comment": "too much"}})

    assert (gone.status, gone.cancellation_details.reason) == ("canceled", "cancellation_requested")
    assert gone.ended_at == pytest.approx(box.now(), abs=2)
    assert event_types(box)[-1] == "customer.subscription.deleted"
    assert api.subscriptions.list().data == []
    assert [s.id for s in api.subscriptions.list({"status": "all"}).data] == [running]
    box.advance(90 * DAY_S)
    assert len(api.invoices.list({"subscription": running}).data) == 1
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.subscriptions.cancel(running)
    assert caught.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError, match="can only update"):
        api.subscriptions.update(running, {"cancel_at_period_end": True})
    assert api.subscriptions.update(running, {"metadata": {"a": "1"}}).metadata.a == "1"


def test_canceled_while_past_due_it_is_asked_for_nothing_more_but_can_still_be_paid(
    box, api, running
):
    box.chaos.decline_renewals = 1
    box.advance(31 * DAY_S + box.finalize_s)
    owed = latest_invoice(api, running).id

    api.subscriptions.cancel(running)
    box.advance(30 * DAY_S)

    invoice = api.invoices.retrieve(owed)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    assert (invoice.next_payment_attempt, invoice.auto_advance) == (None, False)
    assert box.pay(owed)["outcome"] == "paid"


def test_canceled_between_draft_and_collection_it_is_not_collected(box, api, running):
    ends = api.subscriptions.retrieve(running)["items"].data[0].current_period_end
    box.advance(ends - box.now() + 1)

    api.subscriptions.cancel(running)
    box.advance(2 * 3600)

    assert latest_invoice(api, running).status == "draft"
    assert len(box.ledger()["payments"]) == 1


def test_a_renewal_can_be_refunded_and_disputed_like_any_payment(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya)).id
    api.subscriptions.update(
        sub, {"default_payment_method": a_card(box, api, maya, "4000000000000259")}
    )
    api.refunds.create({"payment_intent": intent_of(api, latest_invoice(api, sub)).id})

    box.advance(31 * DAY_S + box.finalize_s)

    (dispute,) = box.ledger()["disputes"]
    assert dispute["payment_intent"] == intent_of(api, latest_invoice(api, sub)).id
    assert [r["amount"] for r in box.ledger()["refunds"]] == [1200]
    assert status(api, sub) == "active"


def test_canceled_at_the_periods_end_it_runs_until_then(box, api, running):
    seen = len(event_types(box))
    leaving = api.subscriptions.update(running, {"cancel_at_period_end": True})

    ends = leaving["items"].data[0].current_period_end
    assert (leaving.status, leaving.cancel_at) == ("active", ends)
    assert since(box, seen) == ["customer.subscription.updated"]
    box.advance(ends - box.now() + 1)

    gone = api.subscriptions.retrieve(running)
    assert (gone.status, gone.ended_at) == ("canceled", ends)
    assert len(api.invoices.list({"subscription": running}).data) == 1


def test_who_changes_their_mind_stays(box, api, running):
    api.subscriptions.update(running, {"cancel_at_period_end": True})

    staying = api.subscriptions.update(running, {"cancel_at_period_end": False})

    assert (staying.cancel_at, staying.canceled_at) == (None, None)
    assert staying.cancellation_details.reason is None
    box.advance(32 * DAY_S)
    assert status(api, running) == "active"


def test_it_can_be_born_with_its_end(box, api, maya, coffee):
    method = a_card(box, api, maya)
    soon = int(box.now()) + 40 * DAY_S
    once = subscribe(api, maya, coffee, method, cancel_at_period_end=True)
    later = subscribe(api, maya, coffee, method, cancel_at=soon)

    box.advance(50 * DAY_S)

    assert status(api, once.id) == "canceled"
    assert api.subscriptions.retrieve(later.id).ended_at == soon
    assert len(api.invoices.list({"subscription": once.id}).data) == 1
    assert len(api.invoices.list({"subscription": later.id}).data) == 2


def test_a_deleted_customer_leaves_no_subscription(box, api, maya, running):
    api.customers.delete(maya)

    assert status(api, running) == "canceled"


def test_other_prices_and_quantities_count_from_the_next_period_on(box, api, running):
    item = api.subscriptions.retrieve(running)["items"].data[0]
    change = {"items": [{"id": item.id, "quantity": 3}]}
    with pytest.raises(stripe.InvalidRequestError, match="does not offer prorations"):
        api.subscriptions.update(running, change)

    api.subscriptions.update(running, {**change, "proration_behavior": "none"})
    box.advance(31 * DAY_S + box.finalize_s)

    assert latest_invoice(api, running).amount_paid == 3600


def test_subscriptions_are_found_by_customer_price_status_and_period(box, api, maya, coffee):
    method = a_card(box, api, maya)
    first = subscribe(api, maya, coffee, method).id
    trial = subscribe(api, maya, coffee, method, trial_period_days=3).id
    soon = int(box.now()) + 10 * DAY_S

    def found(**params):
        return [s.id for s in api.subscriptions.list(params).data]

    assert found() == [trial, first]
    assert found(customer=maya, status="trialing") == [trial]
    assert found(price=coffee, status="active") == [first]
    assert found(current_period_end={"lt": soon}) == [trial]
    assert found(customer=api.customers.create({}).id) == []


# -- invoices -------------------------------------------------------------------------------------


def test_an_open_invoice_is_paid_by_call_with_another_card(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    invoice = latest_invoice(api, sub).id
    with pytest.raises(stripe.CardError):
        api.invoices.pay(invoice)

    paid = api.invoices.pay(invoice, {"payment_method": a_card(box, api, maya)})

    assert (paid.status, status(api, sub)) == ("paid", "active")
    for call in (api.invoices.pay, api.invoices.void_invoice, api.invoices.finalize_invoice):
        with pytest.raises(stripe.InvalidRequestError):
            call(invoice)


def test_an_invoice_can_be_paid_out_of_band(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    seen = len(event_types(box))

    paid = api.invoices.pay(latest_invoice(api, sub).id, {"paid_out_of_band": True})

    assert (paid.status, status(api, sub)) == ("paid", "active")
    assert box.ledger()["payments"][0]["status"] == "canceled"
    assert "invoice.paid" in since(box, seen)
    assert "invoice.payment_succeeded" not in since(box, seen)


def test_a_renewals_draft_can_be_finalized_early_and_is_still_collected(box, api, running):
    ends = api.subscriptions.retrieve(running)["items"].data[0].current_period_end
    box.advance(ends - box.now() + 1)

    opened = api.invoices.finalize_invoice(latest_invoice(api, running).id)
    assert (opened.status, opened.attempt_count) == ("open", 0)
    box.advance(3601)

    assert latest_invoice(api, running).status == "paid"


def test_a_voided_renewal_no_longer_counts_against_the_subscription(box, api, running):
    box.chaos.decline_renewals = 1
    box.advance(31 * DAY_S + box.finalize_s)
    assert status(api, running) == "past_due"

    assert api.invoices.void_invoice(latest_invoice(api, running).id).status == "void"

    assert status(api, running) == "active"
    box.advance(4 * DAY_S)
    assert "payment_intent.canceled" in event_types(box)
    assert latest_invoice(api, running).status == "void"


def test_the_intent_of_an_invoice_cannot_be_canceled_or_changed_by_itself(box, api, maya, coffee):
    sub = subscribe(api, maya, coffee, a_card(box, api, maya, DECLINES)).id
    intent = intent_of(api, latest_invoice(api, sub)).id

    with pytest.raises(stripe.InvalidRequestError, match="Void the Invoice"):
        api.payment_intents.cancel(intent)
    with pytest.raises(stripe.InvalidRequestError, match="an invoice created it"):
        api.payment_intents.update(intent, {"amount": 100})
    assert box.confirm(intent, "wrong_amount")["outcome"] == "not_offered"


def test_invoices_and_their_payments_are_found(box, api, maya, running):
    box.advance(31 * DAY_S + box.finalize_s)
    newest, first = api.invoices.list({"customer": maya, "status": "paid"}).data
    intent = intent_of(api, newest).id

    by_intent = api.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent}}
    ).data

    assert [p.invoice for p in by_intent] == [newest.id]
    assert api.invoice_payments.retrieve(by_intent[0].id).amount_paid == 1200
    assert len(api.invoice_payments.list({"status": "paid"}).data) == 2
    assert api.invoices.list({"status": "open"}).data == []
    assert latest_invoice(api, running).id == newest.id != first.id


def test_only_four_levels_are_expanded_as_at_stripe(api, running):
    with pytest.raises(stripe.InvalidRequestError, match="more than 4 levels"):
        api.subscriptions.retrieve(
            running, {"expand": ["latest_invoice.payments.data.payment.payment_intent"]}
        )


def test_the_ledger_lists_subscriptions_their_invoices_and_the_payments_of_these(box, api, running):
    ledger = box.ledger()

    ((payment,), (invoice,), (subscription,)) = (
        ledger["payments"],
        ledger["invoices"],
        ledger["subscriptions"],
    )
    assert (payment["invoice"], payment["session"]) == (invoice["id"], None)
    assert (invoice["payment_intent"], invoice["subscription"]) == (payment["id"], running)
    assert subscription["metadata"] == {"checkout_attempt_id": "a1"}
    assert (subscription["status"], subscription["latest_invoice"]) == ("active", invoice["id"])


@pytest.mark.parametrize("fault", ["error_500", "stored_500", "rate_429", "conflict_409"])
def test_a_call_that_is_turned_away_begins_nothing(box, api, maya, coffee, fault):
    method = a_card(box, api, maya)
    seen = len(event_types(box))
    setattr(box.chaos, fault, {"next": 1, "only": "POST /v1/subscriptions"})

    with pytest.raises(stripe.StripeError):
        subscribe(api, maya, coffee, method)

    assert event_types(box)[seen:] == []
    assert box.ledger()["subscriptions"] == []


def test_in_an_outage_renewals_go_on(box, api, running):
    box.chaos.outage = "503"
    box.advance(31 * DAY_S + box.finalize_s)
    box.chaos.outage = ""

    assert latest_invoice(api, running).status == "paid"


def test_a_repeated_key_makes_one_subscription_and_a_cut_line_loses_nothing(box, api, maya, coffee):
    method = a_card(box, api, maya)
    box.chaos.effect_then_cut = {"next": 1, "only": "POST /v1/subscriptions"}
    params = {"customer": maya, "items": [{"price": coffee}], "default_payment_method": method}

    with pytest.raises(stripe.APIConnectionError):
        api.subscriptions.create(params, {"idempotency_key": "k1"})
    again = api.subscriptions.create(params, {"idempotency_key": "k1"})

    assert [s.id for s in api.subscriptions.list().data] == [again.id]
    assert len(box.ledger()["payments"]) == 1
