"""Money back where several payments paid for one order, and of renewals."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import delete, select

from domain.errors import ShopError
from extensions import atomic, db
from models import CheckoutAttempt, OrderItem, OutboxMessage, Refund, Subscription
from services import attempts, reconcile, refunds, subscriptions
from services.causes import SHOPPER
from tests.counter.scenes import ADA, at_once, at_stripe
from tests.pages.conftest import signed_in
from tests.plans.buying import (
    COFFEE,
    DECLINED,
    PRINTS,
    Opened,
    OwnPage,
    lines,
    months,
    plans_of,
    sells_plans,
    settle,
)
from tests.prices.conftest import stripe_of
from tests.shop import MUG, Shop

ONCE, MONTHLY = 2290, 1200  # the mug with its delivery, and the coffee


def bought(page: OwnPage, *skus: str) -> Opened:
    opened = page.opened(*skus)
    opened.buy()
    return opened


def ask(order_id: str, amount: int | None = None, **more: Any) -> list[Refund]:
    about = {"reason": "came broken", "actor": ADA, "key": str(uuid.uuid4()), **more}
    return refunds.ask(order_id, amount, about.pop("restock", {}), **about)


def stands(shop: Shop, order_id: str) -> tuple[str, str, int]:
    order = shop.order(order_id)
    assert order is not None
    return order.status, order.payment_status, order.refunded


def test_all_of_it_goes_back_by_every_payment_that_paid_for_it(any_shop: Shop) -> None:
    order_id = bought(OwnPage(any_shop), MUG, COFFEE).order_id

    rows = ask(order_id)
    settle(any_shop)

    assert [row.amount for row in rows] == [ONCE, MONTHLY]
    assert sorted(at_stripe(any_shop)) == [(MONTHLY, "succeeded"), (ONCE, "succeeded")]
    assert stands(any_shop, order_id)[1:] == ("refunded", ONCE + MONTHLY)
    assert any_shop.proves()


def test_its_subscription_runs_on_and_keeps_the_order_until_it_ends(page: OwnPage) -> None:
    shop, order_id = page.shop, bought(page, MUG, COFFEE).order_id
    ask(order_id)
    settle(shop)
    assert stands(shop, order_id)[0] == "payment_confirmed"

    (plan,) = plans_of(shop, order_id)
    subscriptions.cancel(order_id, plan.id, SHOPPER, at_period_end=False)
    settle(shop)

    assert stands(shop, order_id) == ("cancelled", "refunded", ONCE + MONTHLY)
    assert shop.proves()


def test_a_subscription_heard_of_last_keeps_its_order_and_sells_nothing_twice(
    any_shop: Shop,
) -> None:
    shopper = any_shop.shopper()
    shopper.put_in_cart(MUG)
    shopper.put_in_cart(PRINTS)
    checkout = shopper.opened(shopper.check_out())
    checkout.pay()
    settle(any_shop)
    with atomic() as session:  # as if nobody had told of it yet
        session.execute(delete(Subscription))
    on_hand = any_shop.product(MUG).on_hand
    ask(checkout.order_id)
    settle(any_shop)
    before = stands(any_shop, checkout.order_id)[0]

    reconcile.sync_order(checkout.order_id, SHOPPER)
    (told,) = any_shop.sandbox.store.objects["subscription"].values()
    stripe_of(any_shop).subscriptions.update(told["id"], {"metadata": {"note": "changed"}})
    settle(any_shop)

    assert before == "cancelled"
    assert stands(any_shop, checkout.order_id) == ("payment_confirmed", "refunded", ONCE)
    assert lines(any_shop, checkout.order_id)[PRINTS] == "active"
    assert any_shop.product(MUG).on_hand == on_hand
    assert any_shop.proves()


def test_what_had_not_begun_never_does_once_all_money_is_back(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    free = shop.product(COFFEE).free
    opened.pay()
    settle(shop)
    assert lines(shop, opened.order_id)[COFFEE] == "pending"
    ask(opened.order_id)
    settle(shop)

    opened.save_card()
    settle(shop)

    assert stands(shop, opened.order_id)[0] == "cancelled"
    assert lines(shop, opened.order_id)[COFFEE] == "not_started"
    assert (shop.product(COFFEE).held, shop.product(COFFEE).free) == (0, free + 1)
    assert not plans_of(shop, opened.order_id)
    assert not shop.rows(OutboxMessage, OutboxMessage.kind == "not_started")
    assert shop.proves()


@pytest.mark.parametrize(
    ("amount", "parts"),
    [(500, [500]), (ONCE, [ONCE]), (ONCE + 1, [ONCE, 1]), (ONCE + MONTHLY - 1, [ONCE, 1199])],
)
def test_a_part_touches_as_few_payments_as_can_be(
    page: OwnPage, amount: int, parts: list[int]
) -> None:
    order_id = bought(page, MUG, COFFEE).order_id

    rows = ask(order_id, amount)
    settle(page.shop)

    assert [row.amount for row in rows] == parts
    assert stands(page.shop, order_id) == ("payment_confirmed", "partially_refunded", amount)
    assert page.shop.proves()


def test_what_one_payment_gave_back_the_other_still_has(page: OwnPage) -> None:
    order_id = bought(page, MUG, COFFEE).order_id
    ask(order_id, 2000)

    assert [row.amount for row in ask(order_id, 1000)] == [1000]  # of the coffee's
    with pytest.raises(refunds.MoreThanIsLeft, match=r"€4\.90 of this payment can still"):
        ask(order_id, 491)
    assert sorted(row.amount for row in ask(order_id, 490)) == [200, 290]
    settle(page.shop)
    assert stands(page.shop, order_id)[2] == ONCE + MONTHLY
    assert page.shop.proves()


def test_a_double_click_is_the_same_refunds(page: OwnPage) -> None:
    order_id = bought(page, MUG, COFFEE).order_id

    first, second = (ask(order_id, 3000, key="one-form-1") for _ in range(2))
    settle(page.shop)

    assert [row.id for row in first] == [row.id for row in second]
    assert sorted(at_stripe(page.shop)) == [(710, "succeeded"), (ONCE, "succeeded")]
    with pytest.raises(refunds.KeyUsed, match=r"asked for €30\.00"):
        ask(order_id, 700, key="one-form-1")


def test_what_was_never_paid_for_is_not_given_back_nor_put_on_the_shelf(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)
    items = {row.sku: row.id for row in shop.rows(OrderItem)}

    with pytest.raises(refunds.MoreThanIsLeft):
        ask(opened.order_id, ONCE + 1)
    with pytest.raises(refunds.NotARefund, match="from 0 to 0 can be put back"):
        ask(opened.order_id, ONCE, restock={items[COFFEE]: 1})
    assert [row.amount for row in ask(opened.order_id, restock={items[MUG]: 1})] == [ONCE]
    settle(shop)
    assert (shop.product(MUG).sold, shop.product(COFFEE).held) == (0, 1)
    assert shop.proves()


def test_a_trial_has_nothing_to_give_back(page: OwnPage) -> None:
    order_id = bought(page, PRINTS).order_id

    with pytest.raises(refunds.NothingToRefund, match="not paid"):
        ask(order_id)


# -- renewals


def test_a_renewal_goes_back_and_the_order_stays_as_it_was(any_shop: Shop) -> None:
    order_id = bought(OwnPage(any_shop), COFFEE).order_id
    months(any_shop)
    (renewal,) = [payment for payment in any_shop.payments() if payment.role == "renewal"]

    (row,) = ask(order_id, renewal=renewal.payment_intent)
    settle(any_shop)

    assert (row.payment_intent, row.amount) == (renewal.payment_intent, MONTHLY)
    assert at_stripe(any_shop) == [(MONTHLY, "succeeded")]
    assert stands(any_shop, order_id) == ("payment_confirmed", "paid", 0)
    assert [row.amount for row in ask(order_id)] == [MONTHLY]  # what paid for the order is whole
    assert any_shop.proves()


def test_only_this_orders_renewals_are_renewals_of_it(page: OwnPage) -> None:
    shop, order_id = page.shop, bought(page, COFFEE).order_id
    other = bought(page, COFFEE).order_id
    months(shop)
    of_other = next(
        p.payment_intent for p in shop.payments() if (p.attempt_id, p.role) == (other, "renewal")
    )
    first = next(p for p in shop.payments() if (p.attempt_id, p.role) == (order_id, "settles"))

    for intent in (of_other, first.payment_intent, "pi_nothing"):
        with pytest.raises(refunds.NothingToRefund, match="no renewal of this order"):
            ask(order_id, renewal=intent)
    assert shop.rows(Refund) == []


def test_the_counter_refunds_a_renewal_from_its_own_form(page: OwnPage) -> None:
    shop, order_id = page.shop, bought(page, COFFEE).order_id
    months(shop)
    intent = next(p.payment_intent for p in shop.payments() if p.role == "renewal")
    ada, address = signed_in(shop), f"/admin/orders/{order_id}/refund"
    assert f"{address}?payment={intent}" in ada.get(f"/admin/orders/{order_id}").text

    form = ada.get(f"{address}?payment={intent}").text
    assert "a renewal of" in form
    assert 'name="line"' not in form
    wish = {"payment": intent, "key": "form-of-ada-1", "amount": "5.00", "reason": "Goodwill"}
    assert ada.post(address, wish).status_code == 303
    assert ada.post(address, {**wish, "amount": "7.01", "key": "another-1"}).status_code == 409
    settle(shop)

    assert at_stripe(shop) == [(500, "succeeded")]
    assert stands(shop, order_id)[2] == 0


def test_the_counters_form_offers_the_sum_and_only_what_was_paid(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)
    ada, address = signed_in(shop), f"/admin/orders/{opened.order_id}/refund"
    form = ada.get(address).text
    assert "€22.90</span> can still be refunded" in form
    assert "Monthly coffee" not in form

    whole = bought(page, MUG, COFFEE)
    form = ada.get(f"/admin/orders/{whole.order_id}/refund").text
    assert "€34.90</span> can still be refunded" in form
    assert "Monthly coffee" in form


# -- at once


def test_two_at_once_never_refund_more_than_both_payments_have(postgres_shop: Shop) -> None:
    shop = postgres_shop
    sells_plans()
    for _ in range(3):
        order_id = bought(OwnPage(shop), MUG, COFFEE).order_id
        presses = [lambda order_id=order_id: ask(order_id, 3000)] * 3

        results = at_once(shop, *presses)

        assert sum(isinstance(result, refunds.MoreThanIsLeft) for result in results) == 2
    settle(shop)
    assert sorted(at_stripe(shop)) == [(710, "succeeded")] * 3 + [(ONCE, "succeeded")] * 3
    assert shop.proves()


def test_the_same_form_twice_at_once_is_the_same_refunds(postgres_shop: Shop) -> None:
    shop = postgres_shop
    sells_plans()
    order_id = bought(OwnPage(shop), MUG, COFFEE).order_id

    results = at_once(shop, *[lambda: ask(order_id, key="one-form-1")] * 4)
    settle(shop)

    assert len({tuple(row.id for row in rows) for rows in results}) == 1
    assert sorted(at_stripe(shop)) == [(MONTHLY, "succeeded"), (ONCE, "succeeded")]


def test_twin_without_the_lock_both_payments_are_asked_for_too_much(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: both see all of it left."""
    shop = postgres_shop
    sells_plans()
    order_id = bought(OwnPage(shop), MUG, COFFEE).order_id
    together = threading.Barrier(2)

    def read_without_lock(attempt_id: str) -> CheckoutAttempt | None:
        return db.session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id))

    left_of = refunds.left_of

    def both_have_looked(payment: Any) -> int:
        left = left_of(payment)
        together.wait(timeout=5)
        return left

    monkeypatch.setattr(attempts, "lock", read_without_lock)
    monkeypatch.setattr(refunds, "left_of", both_have_looked)
    results = at_once(shop, *[lambda: ask(order_id, 3000)] * 2)

    assert not [result for result in results if isinstance(result, ShopError)]
    assert sum(row.amount for row in shop.rows(Refund)) == 6000  # of 3490
    assert len(shop.rows(OutboxMessage, OutboxMessage.kind == "refund")) == 4
