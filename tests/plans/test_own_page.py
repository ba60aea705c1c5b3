"""Subscriptions and mixed carts on a page of ours: a card is saved, then charged."""

from __future__ import annotations

import itertools

import pytest

from models import Subscription
from services import checkout, inbox, outbox, snapshots
from tests.plans.buying import (
    ASKS,
    COFFEE,
    DECLINED,
    GOOD,
    PRINTS,
    OwnPage,
    lines,
    plans_of,
    settle,
    sync,
)
from tests.shop import MUG, Shop


def begun(shop: Shop) -> int:
    """How many subscriptions Stripe has."""
    return len(shop.sandbox.store.objects["subscription"])


@pytest.mark.accept("A13", "A12")
def test_what_is_in_the_basket_says_what_is_asked_of_stripe(page: OwnPage) -> None:
    once, plan, both = page.opened(MUG), page.opened(COFFEE), page.opened(MUG, COFFEE)

    assert once.intent.startswith("pi_")
    assert "setupClientSecret" not in once.told
    assert plan.setup.startswith("seti_")
    assert "paymentIntentId" not in plan.told
    assert both.told["setupClientSecret"].startswith("seti_")
    assert both.told["clientSecret"].startswith("pi_")
    assert both.intent.startswith("pi_")


@pytest.mark.accept("A11")
def test_what_saves_a_card_names_the_attempt_and_nothing_else(page: OwnPage) -> None:
    opened = page.opened(MUG, COFFEE)
    opened.buy()

    link = {"checkout_attempt_id": opened.order_id}
    kinds = ("setup_intent", "payment_intent", "subscription")
    for kind in kinds:
        found = page.shop.sandbox.store.objects[kind].values()
        assert [obj["metadata"] for obj in found if obj["metadata"]] == [link]


@pytest.mark.accept("A16", "A18", "A19", "A29")
def test_a_mixed_cart_pays_once_and_subscribes(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.buy()

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.status, order.payment_status, order.total) == ("payment_confirmed", "paid", 3490)
    paid = {payment.part: (payment.role, payment.amount) for payment in shop.payments()}
    assert paid == {"": ("settles", 2290), COFFEE: ("settles", 1200)}
    (plan,) = plans_of(shop, opened.order_id)
    assert (plan.status, plan.unit_amount, plan.interval) == ("active", 1200, "month")
    assert plan.stripe_customer == shop.attempt(opened.order_id).stripe_customer
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert shop.product(COFFEE).sold == 1
    assert len(shop.receipts()) == 1
    assert shop.proves()


@pytest.mark.accept("D24")
def test_a_mixed_cart_without_any_webhook(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.save_card()
    opened.pay()
    sync(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert shop.proves()


def test_a_subscription_alone_confirms_its_order(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(COFFEE)
    opened.buy()

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.status, order.payment_status, order.total) == ("payment_confirmed", "paid", 1200)
    assert shop.proves()


def test_a_trial_begins_with_a_saved_card(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(PRINTS)
    opened.buy()

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.status, order.payment_status, order.total) == ("payment_confirmed", "paid", 0)
    assert [plan.status for plan in plans_of(shop, opened.order_id)] == ["trialing"]
    assert shop.proves()


@pytest.mark.accept("A21")
@pytest.mark.parametrize("first", ["setup_intent.succeeded", "payment_intent.succeeded"])
def test_whichever_news_comes_first_the_data_stays_until_both_are_done(
    any_shop: Shop, first: str
) -> None:
    opened = OwnPage(any_shop).opened(MUG, COFFEE)
    opened.save_card()
    opened.pay()
    any_shop.deliver_type(first)
    any_shop.work()
    snapshots.purge()
    assert any_shop.attempt(opened.order_id).purged_at is None

    settle(any_shop)
    assert lines(any_shop, opened.order_id) == {MUG: "active", COFFEE: "active"}


def test_nothing_is_charged_for_a_plan_before_the_rest_is_paid(page: OwnPage) -> None:
    opened = page.opened(MUG, COFFEE)
    opened.save_card()
    settle(page.shop)

    assert page.shop.rows(Subscription) == []
    assert begun(page.shop) == 0


def test_a_declined_first_payment_leaves_the_line_past_due(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "past_due"}
    (plan,) = plans_of(shop, opened.order_id)
    assert plan.status == "incomplete"
    assert plan.pay_url is not None
    assert shop.product(COFFEE).held == 1
    assert shop.proves()

    shop.sandbox.pay(shop.legs(opened.order_id)[-1].stripe_id, GOOD)
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert (shop.product(COFFEE).held, shop.product(COFFEE).sold) == (0, 1)
    assert [plan.pay_url for plan in plans_of(shop, opened.order_id)] == [None]
    assert shop.proves()


def test_a_first_payment_never_made_ends_the_line_and_frees_its_stock(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)
    shop.clock.forward(hours=24)
    shop.sandbox.tick()
    settle(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "ended"}
    order = shop.order(opened.order_id)
    assert order is not None
    assert order.status == "payment_confirmed"
    assert (shop.product(COFFEE).held, shop.product(COFFEE).sold) == (0, 0)
    assert shop.proves()


def test_the_same_end_is_found_without_webhooks(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(COFFEE)
    opened.save_card(DECLINED)
    sync(shop)
    assert shop.attempt(opened.order_id).state == "open"
    shop.clock.forward(hours=24)
    shop.sandbox.tick()
    sync(shop)

    attempt = shop.attempt(opened.order_id)
    assert (attempt.state, attempt.status) == ("closed", "expired")
    assert (shop.product(COFFEE).held, shop.product(COFFEE).sold) == (0, 0)
    assert opened.shopper.cart() == [(COFFEE, 1)]
    assert shop.proves()


def test_a_card_never_saved_ends_the_line_and_the_shopper_is_told(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.pay()
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "pending"}
    assert shop.proves()

    shop.clock.forward(minutes=61)
    sync(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "not_started"}
    assert (shop.product(COFFEE).held, shop.product(COFFEE).sold) == (0, 0)
    assert any(
        "has not started" in mail.result["subject"] for mail in outbox.mails() if mail.result
    )
    assert shop.proves()


def test_the_card_may_be_saved_after_the_rest_was_paid(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.pay()
    settle(shop)
    again = checkout.again(opened.order_id, shop.attempt(opened.order_id).shopper_id)
    assert again.setup_client_secret is not None
    assert again.client_secret is None

    opened.save_card()
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert shop.proves()


def test_a_card_whose_bank_asks_leaves_a_pay_link(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    opened.save_card(ASKS)
    settle(shop)

    (plan,) = plans_of(shop, opened.order_id)
    assert (plan.status, bool(plan.pay_url)) == ("incomplete", True)
    assert shop.attempt(opened.order_id).state == "open"


def test_leaving_before_anything_is_charged_charges_nothing(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(COFFEE)
    opened.save_card()
    shop.deliver()
    inbox.drain()  # the card is saved, and the subscription is owed; nobody has asked for it yet
    checkout.release(opened.order_id, shop.attempt(opened.order_id).shopper_id)
    settle(shop)

    attempt = shop.attempt(opened.order_id)
    assert (attempt.state, attempt.status) == ("closed", "cancelled")
    assert begun(shop) == 0
    assert opened.shopper.cart() == [(COFFEE, 1)]
    assert shop.proves()


def test_switching_to_stripes_page_closes_both_doors(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    page = checkout.again(opened.order_id, shop.attempt(opened.order_id).shopper_id, "hosted")

    states = {leg.kind: leg.state for leg in shop.legs(opened.order_id)}
    assert states == {"setup_intent": "canceled", "payment_intent": "canceled", "session": "open"}
    assert page.session_id is not None
    shop.pay(page.session_id)
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert len(plans_of(shop, opened.order_id)) == 1
    assert shop.proves()


def test_a_retry_after_the_first_payment_failed_subscribes_anew(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    opened.save_card(DECLINED)
    settle(shop)
    shop.clock.forward(hours=23, minutes=30)
    shop.sandbox.tick()
    settle(shop)
    assert shop.attempt(opened.order_id).state == "closed"

    shopper_id = shop.attempt(opened.order_id).shopper_id
    again = checkout.retry(opened.order_id, shopper_id)
    assert again.setup_client_secret is not None
    shop.sandbox.confirm(again.setup_client_secret.split("_secret_")[0], GOOD)
    settle(shop)

    assert lines(shop, opened.order_id) == {COFFEE: "active"}
    assert [plan.status for plan in plans_of(shop, opened.order_id)] == ["active"]
    assert shop.proves()


@pytest.mark.fault("F4")
def test_an_answer_that_is_lost_makes_one_subscription(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    shop.sandbox.chaos.effect_then_cut = {"next": 2, "only": "POST /v1/subscriptions"}
    opened.buy()
    shop.clock.forward(minutes=3)
    settle(shop)

    assert begun(shop) == 1
    assert lines(shop, opened.order_id) == {COFFEE: "active"}
    assert shop.proves()


@pytest.mark.fault("F5")
def test_a_spent_key_searches_before_it_asks_again(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    shop.sandbox.chaos.effect_then_cut = {"next": 2, "only": "POST /v1/subscriptions"}
    opened.save_card()
    settle(shop)
    shop.clock.forward(hours=25)  # Stripe has forgotten the key by now
    shop.sandbox.tick()
    sync(shop)

    assert begun(shop) == 1
    assert shop.proves()


@pytest.mark.accept("A30")
def test_the_person_is_forgotten_once_every_leg_is_final(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.buy()
    sync(shop)

    assert shop.attempt(opened.order_id).purged_at is not None
    assert "contact" not in shop.attempt(opened.order_id).snapshot


def test_events_in_any_order_end_the_same(shop: Shop) -> None:
    """Every order of the four that decide; the others come last."""
    deciding = (
        "setup_intent.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "customer.subscription.created",
    )
    page = OwnPage(shop)
    for order in itertools.permutations(deciding):
        opened = page.opened(MUG, COFFEE)
        opened.save_card()
        opened.pay()
        for type_ in order * 2:
            shop.deliver_type(type_)
            shop.work()
        settle(shop)
        assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}, order
    assert shop.proves()
