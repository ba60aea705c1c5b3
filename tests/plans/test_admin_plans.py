"""What the counter shows and does about subscriptions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import stripe

from extensions import atomic
from models import AuditEntry, Order, Subscription
from services import order_list, reconcile
from services.causes import Cause
from services.order_list import Wanted
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
    settle,
)
from tests.plans.test_after_paying import words
from tests.shop import MUG, Shop, Shopper

ADA = "ada@example.com"


@pytest.fixture
def ada(shop: Shop) -> Shopper:
    return signed_in(shop)


def bought(shop: Shop, *skus: str) -> Opened:
    opened = OwnPage(shop).opened(*skus)
    opened.buy()
    return opened


def seen(ada: Shopper, opened: Opened) -> str:
    return words(ada.get(f"/admin/orders/{opened.order_id}"))


def the_plan(shop: Shop, opened: Opened) -> Subscription:
    (plan,) = plans_of(shop, opened.order_id)
    return plan


def act(ada: Shopper, opened: Opened, what: str, **form: str) -> Any:
    plan = the_plan(ada.shop, opened)
    return ada.post(f"/admin/orders/{opened.order_id}/subscriptions/{plan.id}/{what}", form)


@pytest.mark.accept("V16", "V29")
def test_the_order_shows_every_payment_and_the_subscription(shop: Shop) -> None:
    opened = bought(shop, MUG, COFFEE)
    months(shop)
    ada = signed_in(shop)

    answer = ada.get(f"/admin/orders/{opened.order_id}")
    page, plan = words(answer), the_plan(shop, opened)
    for payment in shop.payments():
        assert f'title="{payment.payment_intent}"' in answer.text
    for stripe_id in (plan.stripe_id, plan.stripe_customer):
        assert f'title="{stripe_id}"' in answer.text
    assert "€12.00 every month" in page
    assert plan.period_end is not None
    assert f"€12.00 on {plan.period_end.day} {plan.period_end:%b %Y}" in page
    assert "5 of 5" in page
    assert "Shop and Stripe agree" in page
    assert "Subscription Monthly coffee: new → active" in page


def test_lines_wear_their_state(shop: Shop, ada: Shopper) -> None:
    opened = OwnPage(shop).opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)

    page = seen(ada, opened)
    assert "Payment failed" in page
    assert "Where the shopper can pay it" in page
    assert "Shop and Stripe agree" in page


def test_a_checkout_that_waits_for_its_card_is_compared_as_well(shop: Shop, ada: Shopper) -> None:
    opened = OwnPage(shop).opened(COFFEE)
    assert "1 of 1" in seen(ada, opened)

    opened.save_card(DECLINED)
    settle(shop)
    assert "2 of 2" in seen(ada, opened)  # its first invoice, and its subscription


def test_a_trial_agrees_although_nothing_was_paid(shop: Shop, ada: Shopper) -> None:
    opened = bought(shop, PRINTS)

    page = seen(ada, opened)
    assert "Shop and Stripe agree" in page
    assert "To pack" in page


@pytest.mark.accept("X6")
def test_the_counter_ends_one_and_lets_it_go_on(shop: Shop, ada: Shopper) -> None:
    opened = bought(shop, COFFEE)

    assert act(ada, opened, "cancel", when="period_end").status_code == 303
    assert the_plan(shop, opened).cancel_at is not None
    assert "It ends with what is paid." in seen(ada, opened)
    assert act(ada, opened, "resume").status_code == 303
    assert the_plan(shop, opened).cancel_at is None
    assert act(ada, opened, "cancel", when="now").status_code == 303
    settle(shop)

    assert the_plan(shop, opened).status == "canceled"
    again = act(ada, opened, "cancel", when="now")
    assert again.status_code == 409
    assert "has ended already" in words(again)
    deeds = [
        (row.actor, row.detail)
        for row in shop.rows(AuditEntry, AuditEntry.action == "subscription")
    ]
    assert deeds == [
        (ADA, "Monthly coffee: set to end with its period"),
        (ADA, "Monthly coffee: goes on"),
        (ADA, "Monthly coffee: ended now"),
    ]
    assert [row.actor for row in shop.history(opened.order_id) if "ended now" in row.detail] == [
        ADA
    ]
    assert shop.proves()


def test_stripe_out_of_reach_changes_nothing_and_says_so(shop: Shop, ada: Shopper) -> None:
    opened = bought(shop, COFFEE)
    shop.sandbox.chaos.error_500 = {"pct": 100, "only": "POST /v1/subscriptions/*"}

    answer = act(ada, opened, "cancel", when="period_end")

    assert answer.status_code == 502
    assert the_plan(shop, opened).cancel_at is None


def test_nobody_but_an_admin_comes_near(shop: Shop) -> None:
    opened = bought(shop, COFFEE)

    for what in ("cancel", "resume"):
        answer = act(shop.shopper(), opened, what, when="now")
        assert answer.status_code == 303
        assert answer.location.endswith("/admin/login")
    assert the_plan(shop, opened).status == "active"


def test_a_status_that_differs_is_shown_and_sync_mends_it(shop: Shop, ada: Shopper) -> None:
    opened = bought(shop, COFFEE)
    with atomic() as session:
        session.get_one(Subscription, the_plan(shop, opened).id).status = "past_due"

    page = seen(ada, opened)
    assert "Shop and Stripe disagree" in page
    assert re.search(r"Monthly coffee past due active different", page)

    synced = words(ada.post(f"/admin/orders/{opened.order_id}/sync"))
    assert "brought up to date" in synced
    assert "Shop and Stripe agree" in synced
    assert the_plan(shop, opened).status == "active"
    assert "nothing new" in words(ada.post(f"/admin/orders/{opened.order_id}/sync"))


def test_sync_finds_a_renewal_that_nobody_told(shop: Shop) -> None:
    opened = bought(shop, COFFEE)
    months(shop, deliver=False)

    tally = reconcile.sync_order(opened.order_id, Cause("admin", actor=ADA))

    assert tally.synced == 1
    assert [payment.role for payment in shop.payments()] == ["settles", "renewal"]
    assert shop.proves()


def test_every_id_of_stripes_finds_the_order(shop: Shop) -> None:
    opened, other = bought(shop, MUG, COFFEE), bought(shop, MUG)
    months(shop)
    plan = the_plan(shop, opened)
    ids = [plan.stripe_id, opened.setup, opened.intent, plan.latest_invoice]
    ids += [payment.payment_intent for payment in shop.payments()][:2]
    ids += [payment.invoice for payment in shop.payments() if payment.invoice]

    for stripe_id in ids:
        found: list[Order] = order_list.page(Wanted.read({"q": f" {stripe_id} "}))
        assert [order.id for order in found] == [opened.order_id], stripe_id
    (found_by_intent,) = order_list.page(Wanted.read({"q": other.intent}))
    assert found_by_intent.id == other.order_id
    assert order_list.page(Wanted.read({"q": "sub_nothing"})) == []


def test_a_refund_of_a_renewal_made_in_the_dashboard_is_that_renewals(shop: Shop) -> None:
    opened = bought(shop, COFFEE)
    months(shop)
    intent = next(p.payment_intent for p in shop.payments() if p.role == "renewal")
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    client.v1.refunds.create({"payment_intent": intent, "amount": 300})
    settle(shop)

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.refunded, order.payment_status) == (0, "paid")
    assert lines(shop, opened.order_id) == {COFFEE: "active"}
    assert shop.proves()
