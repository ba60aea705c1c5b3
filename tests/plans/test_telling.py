"""A browser that says what it has confirmed, on the way back or to the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from werkzeug.test import TestResponse

from models import Order, Subscription
from tests.plans.buying import (
    COFFEE,
    Opened,
    OwnPage,
    lines,
    sells_plans,
    settle,
)
from tests.shop import MUG, Shop, TestShops


@pytest.fixture
def own(sqlite_shops: TestShops) -> Iterator[OwnPage]:
    with sqlite_shops.opened(payment_ui="elements") as shop:
        sells_plans()
        yield OwnPage(shop)


def tells(opened: Opened, **told: Any) -> TestResponse:
    body = {"checkoutAttemptId": opened.order_id, **told}
    return opened.shopper.json("POST", "/api/orders", body)


def state(shop: Shop) -> list[Any]:
    """All that a call with somebody else's ids may not change."""
    rows = [*shop.rows(Order), *shop.rows(Subscription), *shop.payments(), *shop.exceptions()]
    return [(type(row).__name__, row.id) for row in rows] + [
        (leg.id, leg.state, leg.version)
        for order in shop.rows(Order)
        for leg in shop.legs(order.id)
    ]


# -- on the way back


@pytest.mark.accept("D20")
def test_every_way_back_from_saving_a_card_opens_the_order(own: OwnPage) -> None:
    opened = own.opened(COFFEE)
    opened.save_card()
    settle(own.shop)
    query = f"setup_intent={opened.setup}&redirect_status=succeeded"

    for path in (f"/payment/success?{query}", f"/order-success/{opened.order_id}?{query}"):
        assert "Thank you, Maya" in opened.shopper.get(path).text
    stranger = own.shop.shopper()
    assert "Maya" not in stranger.get(f"/payment/success?{query}").text
    assert stranger.get(f"/order-success/{opened.order_id}?{query}").status_code == 404
    for forged in ("seti_forged", opened.order_id, "cs_test_1"):
        assert stranger.get(f"/payment/success?setup_intent={forged}").status_code == 404


def test_what_pays_is_not_taken_for_what_saves_a_card(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)

    assert opened.shopper.get(f"/payment/success?setup_intent={opened.intent}").status_code == 404
    assert tells(opened, setupIntentId=opened.intent).status_code == 404
    assert tells(opened, paymentIntentId=opened.setup).status_code == 404


# -- to the API


@pytest.mark.accept("A28", "D18")
@pytest.mark.parametrize("first", ["browser", "webhook"])
def test_browser_and_webhook_begin_one_subscription_between_them(
    any_shop: Shop, first: str
) -> None:
    opened = OwnPage(any_shop).opened(COFFEE)
    opened.save_card()
    if first == "webhook":
        settle(any_shop)

    answer = tells(opened, setupIntentId=opened.setup)

    assert answer.status_code == (202 if first == "browser" else 200)
    settle(any_shop)
    again = tells(opened, setupIntentId=opened.setup)
    assert (again.status_code, again.get_json()["status"]) == (200, "payment_confirmed")
    assert any_shop.count(Order) == any_shop.count(Subscription) == len(any_shop.receipts()) == 1
    assert any_shop.proves()


@pytest.mark.accept("A28")
def test_a_mixed_basket_is_decided_by_what_pays_for_it(any_shop: Shop) -> None:
    opened = OwnPage(any_shop).opened(MUG, COFFEE)
    opened.save_card()
    assert tells(opened, setupIntentId=opened.setup).status_code == 202
    opened.pay()

    answer = tells(opened, paymentIntentId=opened.intent)

    assert (answer.status_code, answer.get_json()["paymentStatus"]) == (200, "paid")
    settle(any_shop)
    assert any_shop.count(Order) == any_shop.count(Subscription) == 1
    assert any_shop.proves()


def test_a_card_saved_after_the_rest_was_paid_is_known_at_once(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)
    opened.pay()
    settle(own.shop)
    opened.save_card()

    answer = tells(opened, setupIntentId=opened.setup)
    own.shop.work()  # no webhook: the browser was the one that told

    assert answer.status_code == 200
    assert lines(own.shop, opened.order_id) == {MUG: "active", COFFEE: "active"}


def test_a_setup_without_a_card_begins_nothing(own: OwnPage) -> None:
    opened = own.opened(COFFEE)

    answer = tells(opened, setupIntentId=opened.setup)
    settle(own.shop)

    assert (answer.status_code, answer.get_json()["status"]) == (202, "pending_payment")
    assert own.shop.rows(Subscription) == []
    assert own.shop.sandbox.store.objects["subscription"] == {}
    assert own.shop.product(COFFEE).held == 1


def test_a_setup_that_lost_its_card_charges_nobody(own: OwnPage) -> None:
    shop, opened = own.shop, own.opened(COFFEE)
    opened.save_card()
    shop.sandbox.store.objects["setup_intent"][opened.setup]["payment_method"] = None
    settle(shop)

    answer = tells(opened, setupIntentId=opened.setup)

    assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")
    assert shop.payments() == shop.rows(Subscription) == []
    assert opened.shopper.cart() == [(COFFEE, 1)]
    assert shop.proves()


@pytest.mark.fault("F25")
def test_anothers_ids_open_nothing_and_change_nothing(own: OwnPage) -> None:
    mine, theirs = own.opened(COFFEE), own.opened(COFFEE)
    mixed = own.opened(MUG, COFFEE, shopper=None)
    theirs.save_card()
    before = state(own.shop)

    for told in (
        {"setupIntentId": theirs.setup},
        {"setupIntentId": theirs.told["clientSecret"]},
        {"setupIntentId": mine.told["clientSecret"]},  # a secret is no id
        {"setupIntentId": "seti_forged"},
        {"setupIntentId": mine.order_id},
        {"paymentIntentId": mixed.intent},
        {"checkoutAttemptId": theirs.order_id, "setupIntentId": theirs.setup},
        {"checkoutAttemptId": theirs.order_id, "setupIntentId": mine.setup},
    ):
        answer = tells(mine, **told)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found"), told
    for told in ({}, {"setupIntentId": 7}, {"setupIntentId": ""}, {"setupIntentId": None}):
        assert tells(mine, **told).status_code == 422

    assert state(own.shop) == before
    assert own.shop.sandbox.store.objects["subscription"] == {}


@pytest.mark.accept("X7")
@pytest.mark.fault("F20")
def test_a_mixed_basket_paid_with_another_amount_is_never_paid(own: OwnPage) -> None:
    shop, opened = own.shop, own.opened(MUG, COFFEE)
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    client.v1.payment_intents.update(opened.intent, {"amount": 100})
    opened.buy()

    answer = tells(opened, paymentIntentId=opened.intent)

    assert answer.status_code == 202
    assert answer.get_json()["status"] == "pending_payment"
    assert [row.type for row in shop.exceptions()] == ["amount_mismatch"]
    assert shop.rows(Subscription) == []
    assert shop.sandbox.store.objects["subscription"] == {}
    assert shop.receipts() == []
