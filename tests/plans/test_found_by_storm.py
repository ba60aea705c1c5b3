"""What the storm has found: each defect as its smallest story."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from services import checkout, snapshots
from services import settle as settle_
from services.causes import SHOPPER
from tests.plans.buying import COFFEE, DECLINED, OwnPage, lines, plans_of, settle, sync
from tests.shop import MUG, ORIGIN, Shop
from tests.strategies.test_rebuild import restore_backup_from_before


def at_stripe(shop: Shop) -> stripe.StripeClient:
    """Somebody with our keys, past the shop."""
    return stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})


def paid_by_a_copy(shop: Shop, intent_id: str) -> None:
    """An intent like one of ours, for the same order and amount, is opened elsewhere and paid."""
    ours = shop.sandbox.store.objects["payment_intent"][intent_id]
    same: Any = {name: ours[name] for name in ("amount", "currency", "customer", "metadata")}
    copy = at_stripe(shop).v1.payment_intents.create(same)
    shop.sandbox.confirm(copy.id)


def test_money_for_the_rest_that_came_past_us_begins_no_subscription(shop: Shop) -> None:
    opened = OwnPage(shop).opened(MUG, COFFEE)
    paid_by_a_copy(shop, opened.intent)
    settle(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "pending"}
    assert (shop.product(COFFEE).held, shop.product(COFFEE).sold) == (1, 0)
    assert shop.proves()

    opened.save_card()
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert shop.proves()


def test_the_page_that_was_left_for_ours_ends_without_calling_a_person(shop: Shop) -> None:
    """Stripe's session had no customer; the card on our page needs one."""
    shopper = shop.shopper()
    bought = shopper.buy(COFFEE)
    shopper_id = shop.attempt(bought.order_id).shopper_id
    ours = checkout.again(bought.order_id, shopper_id, "elements")
    settle(shop)  # the session's end is told when the customer is known

    assert ours.setup_client_secret is not None
    assert shop.exceptions() == []


def test_what_subscribes_too_late_is_ended_whichever_news_comes_first(shop: Shop) -> None:
    """Its money comes through an invoice that is no leg of ours, and is refused for want of stock;
    that it subscribes is seen only afterwards."""
    shopper = shop.shopper()
    bought = shopper.buy(COFFEE)
    link = {"checkout_attempt_id": bought.order_id}
    price = {
        "currency": "eur",
        "unit_amount": 1200,
        "product_data": {"name": "Monthly coffee"},
        "recurring": {"interval": "month"},
    }
    wish: Any = {
        "mode": "subscription",
        "success_url": ORIGIN,
        "metadata": link,
        "subscription_data": {"metadata": link},
        "line_items": [{"quantity": 1, "price_data": price}],
    }
    past_us = at_stripe(shop).v1.checkout.sessions.create(wish)
    checkout.release(bought.order_id, shop.attempt(bought.order_id).shopper_id)
    again = shopper.opened(shopper.check_out())  # the same coffee, which is then out again
    shop.pay(past_us.id)
    shop.deliver_type("invoice.paid")
    shop.work()
    settle(shop)

    assert shop.attempt(bought.order_id).state == "closed"
    assert [e.type for e in shop.exceptions()] == ["late_payment"]
    assert [s["status"] for s in shop.sandbox.ledger()["subscriptions"]] == ["canceled"]
    assert [plan.status for plan in plans_of(shop, bought.order_id)] == ["canceled"]
    assert again.order_id != bought.order_id


def test_a_customer_can_be_made_after_however_many_spent_keys(shop: Shop) -> None:
    """Stripe keeps a failure under its key for a day, and the checkout must not wait for that."""
    shop.sandbox.chaos.stored_500 = {"pct": 100, "only": "POST /v1/customers"}
    shopper, page = shop.shopper(), OwnPage(shop)
    with pytest.raises(AssertionError, match="Nothing was charged"):
        page.opened(COFFEE, shopper=shopper)
    shop.sandbox.chaos.clear()
    shop.clock.forward(seconds=20)
    opened = page.opened(COFFEE, shopper=shopper)
    opened.buy()

    assert lines(shop, opened.order_id) == {COFFEE: "active"}
    assert shop.proves()


@pytest.mark.parametrize("any_shop", ["pay_first"], indirect=True)
def test_a_tombstone_whose_subscription_never_began_is_removed(any_shop: Shop) -> None:
    shop, opened = any_shop, OwnPage(any_shop).opened(COFFEE)
    opened.save_card(DECLINED)
    settle(shop)
    shop.clock.forward(hours=24)
    shop.sandbox.tick()
    settle(shop)
    sync(shop)
    assert [plan.status for plan in plans_of(shop, opened.order_id)] == ["incomplete_expired"]

    shop.clock.forward(days=2)
    snapshots.purge()
    shop.clock.forward(days=36)
    assert snapshots.bury() == 1


def test_giving_up_what_is_paid_by_now_leaves_the_card_to_be_saved(shop: Shop) -> None:
    """The news of the payment comes while whoever gives up is asking Stripe: a second look finds
    the payment's leg ended, and must know why."""
    opened = OwnPage(shop).opened(MUG, COFFEE)
    opened.pay()
    settle(shop)
    settle_.settle(opened.order_id, SHOPPER, end=True)
    settle(shop)

    states = {leg.kind: leg.state for leg in shop.legs(opened.order_id)}
    assert states == {"payment_intent": "complete", "setup_intent": "open"}
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "pending"}

    opened.save_card()
    settle(shop)
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert shop.proves()


def test_a_failure_about_the_product_spends_no_key_of_the_subscription(shop: Shop) -> None:
    """Else whoever meets it goes on with another key, while somebody else uses the first."""
    shop.sandbox.chaos.stored_500 = {"next": 1, "only": "POST /v1/products"}
    opened = OwnPage(shop).opened(COFFEE)
    opened.buy()
    shop.clock.forward(minutes=3)
    settle(shop)

    assert lines(shop, opened.order_id) == {COFFEE: "active"}
    assert shop.legs(opened.order_id)[-1].idempotency_key == (
        f"subscription:{opened.order_id}:{COFFEE}"
    )


def test_an_order_made_anew_knows_its_subscription(shop: Shop) -> None:
    """The news that made it anew told of its money; of its subscription only later news does, which
    comes through no leg of ours."""
    bought = shop.shopper().buy(COFFEE)
    bought.pay()
    restore_backup_from_before(shop, bought)
    shop.deliver_type("checkout.session.completed")
    shop.work()
    settle(shop)

    assert lines(shop, bought.order_id) == {COFFEE: "active"}
    assert [plan.status for plan in plans_of(shop, bought.order_id)] == ["active"]
    assert shop.proves()
