"""Subscriptions and mixed carts on Stripe's page."""

from __future__ import annotations

import pytest

from models import Subscription
from services import catalogue
from tests.plans.buying import COFFEE, GOOD, PRINTS, lines, plans_of, settle, sync
from tests.shop import LAMP, MUG, Shop


def _buy(shop: Shop, *skus: str, card: str = GOOD) -> str:
    shopper = shop.shopper()
    for sku in skus:
        shopper.put_in_cart(sku)
    bought = shopper.opened(shopper.check_out())
    assert bought.pay(card)["outcome"] in ("paid", "saved")
    return bought.order_id


@pytest.mark.accept("A19", "A29")
def test_a_mixed_cart_is_one_payment_and_one_subscription(any_shop: Shop) -> None:
    order_id = _buy(any_shop, MUG, COFFEE)
    settle(any_shop)

    order = any_shop.order(order_id)
    assert order is not None
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert (order.subtotal, order.shipping, order.total) == (3000, 490, 3490)
    (payment,) = any_shop.payments()
    assert (payment.role, payment.amount) == ("settles", 3490)
    (plan,) = plans_of(any_shop, order_id)
    assert (plan.status, plan.part, plan.checkout_attempt_id) == ("active", COFFEE, order_id)
    assert (plan.unit_amount, plan.currency, plan.interval) == (1200, "eur", "month")
    assert plan.stripe_id.startswith("sub_")
    assert (plan.stripe_price or "").startswith("price_")
    assert (plan.stripe_customer or "").startswith("cus_")
    assert lines(any_shop, order_id) == {MUG: "active", COFFEE: "active"}
    assert any_shop.product(COFFEE).sold == any_shop.product(MUG).sold == 1
    assert len(any_shop.receipts()) == 1
    assert any_shop.proves()


def test_without_any_webhook_the_clock_finds_it_all(any_shop: Shop) -> None:
    order_id = _buy(any_shop, MUG, COFFEE)
    sync(any_shop)

    assert lines(any_shop, order_id) == {MUG: "active", COFFEE: "active"}
    assert [plan.status for plan in plans_of(any_shop, order_id)] == ["active"]
    assert any_shop.proves()


@pytest.mark.accept("X1")
def test_a_trial_begins_without_money(any_shop: Shop) -> None:
    order_id = _buy(any_shop, PRINTS)
    settle(any_shop)

    order = any_shop.order(order_id)
    assert order is not None
    assert (order.status, order.payment_status, order.total) == ("payment_confirmed", "paid", 0)
    assert any_shop.payments() == []
    (plan,) = plans_of(any_shop, order_id)
    assert plan.status == "trialing"
    assert plan.trial_end is not None
    assert any_shop.proves()


def test_two_plans_of_one_rhythm_share_stripes_subscription(shop: Shop) -> None:
    tea = {"sku": "TEA", "slug": "tea", "title": "Monthly tea", "interval": "month", "units": 9}
    catalogue.stock_up([{**tea, "prices": {"eur": 700}}])
    order_id = _buy(shop, COFFEE, "TEA")
    settle(shop)

    rows = shop.rows(Subscription)
    assert {row.part: row.unit_amount for row in rows} == {COFFEE: 1200, "TEA": 700}
    assert len({row.stripe_id for row in rows}) == 1
    assert len({row.stripe_item for row in rows}) == 2
    assert lines(shop, order_id) == {COFFEE: "active", "TEA": "active"}
    assert shop.proves()


def test_plans_of_different_rhythms_are_refused_with_the_reason(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(COFFEE)
    shopper.put_in_cart(PRINTS)

    answer = shopper.check_out()

    assert answer.status_code == 409
    assert "Print club" in answer.text
    assert shop.product(COFFEE).held == 0


def test_a_subscription_includes_its_delivery(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(COFFEE)

    assert shop.attempt(bought.order_id).total == 1200
    assert bought.session["amount_total"] == 1200


@pytest.mark.accept("A14")
def test_sixty_lines_fit_on_stripes_page(shop: Shop) -> None:
    catalogue.stock_up(
        {
            "sku": f"G-{n}",
            "slug": f"g-{n}",
            "title": f"Thing {n}",
            "prices": {"eur": 100 + n},
            "units": 9,
        }
        for n in range(59)
    )
    shopper = shop.shopper()
    items = [{"sku": f"G-{n}", "quantity": 1} for n in range(59)] + [{"sku": COFFEE, "quantity": 1}]
    assert shopper.json("PUT", "/api/cart", {"items": items}).status_code == 200
    bought = shopper.opened(shopper.check_out())
    bought.pay()
    settle(shop)

    once = [
        item
        for item in shop.sandbox.store.aside[bought.session_id]["items"]
        if not item["price"]["recurring"]
    ]
    assert len(once) <= 20
    assert shop.the_order().status == "payment_confirmed"
    assert shop.proves()


def test_the_last_unit_of_a_plan_is_held_for_one_shopper(shop: Shop) -> None:
    rare = {"sku": "RARE", "slug": "rare", "title": "Rare club", "interval": "year", "units": 1}
    catalogue.stock_up([{**rare, "prices": {"eur": 5000}}])
    shop.shopper().buy("RARE")

    late = shop.shopper()
    late.put_in_cart("RARE")
    assert late.check_out().status_code in (303, 409)
    assert shop.product("RARE").held == 1


def test_a_lamp_beside_a_plan_sells_as_ever(shop: Shop) -> None:
    _buy(shop, LAMP, COFFEE)
    settle(shop)

    assert (shop.product(LAMP).on_hand, shop.product(LAMP).sold) == (1, 1)
    assert shop.proves()
