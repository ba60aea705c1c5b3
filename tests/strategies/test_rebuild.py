"""Money comes, and what was submitted is gone: it is made anew from what Stripe kept, or called."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from domain.strategies import Moment, Strategy
from extensions import atomic
from models import (
    CartItem,
    CheckoutAttempt,
    Order,
    OrderEvent,
    OrderItem,
    OutboxMessage,
    Payment,
    Product,
    Setting,
    StripeEvent,
    StripeLeg,
)
from services import checkout, inbox, reconcile, snapshots
from tests.shop import ADDRESS, LAMP, MUG, Checkout, Shop, TestShops
from tests.strategies.conftest import born_by


def restore_backup_from_before(shop: Shop, *bought: Checkout) -> None:
    """The database as it was before these checkouts began, and Stripe as it is now."""
    ids = [checkout.order_id for checkout in bought]
    with atomic() as session:
        for attempt in session.scalars(select(CheckoutAttempt).where(CheckoutAttempt.id.in_(ids))):
            for line in attempt.lines:
                n = line["quantity"]
                held, sold = (0, n) if attempt.hold == "sold" else (n, 0)
                if attempt.hold == "released":
                    held = sold = 0
                session.execute(
                    update(Product)
                    .where(Product.id == line["product_id"])
                    .values(
                        held=Product.held - held,
                        sold=Product.sold - sold,
                        on_hand=Product.on_hand + sold,
                    )
                )
        for table, column in (
            (OutboxMessage, OutboxMessage.order_id),
            (OrderEvent, OrderEvent.order_id),
            (OrderItem, OrderItem.order_id),
            (Order, Order.id),
            (Payment, Payment.attempt_id),
            (StripeLeg, StripeLeg.attempt_id),
            (CheckoutAttempt, CheckoutAttempt.id),
        ):
            session.execute(delete(table).where(column.in_(ids)))
        session.execute(delete(StripeEvent))
        session.execute(delete(CartItem))


@pytest.mark.accept("A25", "X23", "P19")
@pytest.mark.fault("F21")
@pytest.mark.parametrize("lane", ["webhook", "landing", "sync"])
def test_a_missing_attempt_is_made_anew_to_the_cent(shop: Shop, lane: str) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP, 1)
    bought = shopper.buy(MUG, 2, delivery="express", phone="+49 30 1234567")
    bought.pay()
    restore_backup_from_before(shop, bought)

    if lane == "webhook":
        shop.deliver_and_work()
    elif lane == "landing":
        shopper.come_back(bought)
    else:
        reconcile.sync(since=shop.clock.now() - timedelta(hours=1))

    order = shop.the_order()
    assert order.id == bought.order_id
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert (order.name, order.email, order.phone) == (
        "Maya Lindqvist",
        "maya@example.com",
        "+49 30 1234567",
    )
    assert order.address is not None
    assert (order.address["line1"], order.address["postal_code"]) == ("Sonnenallee 12", "12047")
    assert order.delivery is not None
    assert order.delivery["code"] == "express"
    assert sorted((i.sku, i.quantity, i.unit_amount) for i in order.items) == [
        (LAMP, 1, 3300),
        (MUG, 2, 1800),
    ]
    assert (order.subtotal, order.shipping, order.total) == (6900, 1290, 8190)
    assert (shop.product(MUG).sold, shop.product(LAMP).sold) == (2, 1)
    shop.deliver_and_work()
    assert (shop.exceptions(), len(shop.receipts())) == ([], 1)
    assert shop.proves()


@pytest.mark.accept("A25", "P19")
@pytest.mark.fault("F21")
@pytest.mark.parametrize("what", ["title", "amount", "twins", "another shop"])
def test_what_does_not_fit_to_the_cent_is_left_to_a_person(shop: Shop, what: str) -> None:
    bought = shop.shopper().buy(MUG, 2)
    intent = bought.pay()["session"]["payment_intent"]
    restore_backup_from_before(shop, bought)
    with atomic() as session:
        mug = session.scalars(select(Product).where(Product.sku == MUG)).one()
        if what == "title":
            mug.title = "Another mug"
        if what == "twins":
            session.scalars(select(Product).where(Product.sku == LAMP)).one().title = mug.title
    if what == "amount":
        bought.session["amount_subtotal"] -= 100
    if what == "another shop":
        bought.session["success_url"] = "https://other.example/checkout/success"

    shop.deliver_and_work()

    assert shop.count(Order) == shop.count(CheckoutAttempt) == 0
    assert [(e.type, e.stripe_id) for e in shop.exceptions()] == [("unmatched_payment", intent)]
    assert shop.product(MUG).sold == 0
    page = bought.shopper.come_back(bought)
    assert "Order data not found or expired" in page.text
    assert shop.proves()


@pytest.mark.accept("X9", "X23")
def test_a_rebuilt_attempt_without_goods_is_late_money(shop: Shop) -> None:
    bought = shop.shopper().buy(LAMP, 2)
    bought.pay()
    restore_backup_from_before(shop, bought)
    shop.shopper().buy(LAMP, 2)

    shop.deliver_and_work()

    assert [e.type for e in shop.exceptions()] == ["late_payment"]
    assert shop.product(LAMP).held == 2
    assert shop.proves()


@pytest.mark.accept("P19", "A25")
@pytest.mark.fault("F21")
def test_money_for_a_forgotten_person_finds_out_who_it_was(shop: Shop, strategy: Strategy) -> None:
    """The attempt ended and its person was purged; then its money turns out to have come."""
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)
    bought.pay()
    with atomic() as session:  # as if the end had been decided without Stripe, and a day had passed
        attempt = session.get_one(CheckoutAttempt, bought.order_id)
        attempt.state = "closed"
        attempt.status = "expired"
        attempt.closed_at = attempt.created_at
        attempt.hold = "released"
        mug = session.scalars(select(Product).where(Product.sku == MUG)).one()
        mug.held -= 2
        for leg in session.scalars(select(StripeLeg)):
            leg.state = "expired"
        if attempt.lines_out:
            attempt.lines_out = False
        for order in session.scalars(select(Order)):
            order.status = "expired"
        session.add(
            OrderEvent(
                order_id=attempt.id,
                kind="transition",
                from_status="pending_payment",
                to_status="expired",
                cause="expiry",
            )
        )
    snapshots.delete(bought.order_id)
    had_order = born_by(strategy, Moment.START)

    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.email) == ("payment_confirmed", "maya@example.com")
    assert order.address is not None
    assert order.address["line1"] == "Sonnenallee 12"
    assert (shop.attempt(order.id).purged_at is not None) == had_order
    assert shop.proves()


@pytest.mark.accept("X20", "X23")
@pytest.mark.parametrize("language", ["de", "ja"])
def test_what_was_bought_in_another_language_is_made_anew_in_the_shops_words(
    sqlite_shop: Shop, language: str
) -> None:
    shopper = sqlite_shop.shopper()
    shopper.browser.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
    bought = shopper.buy(MUG, 2, delivery="express")
    bought.pay()
    line = sqlite_shop.sandbox.store.objects["checkout.session"][bought.session_id]
    assert "Enamel mug" not in str(line), "Stripe's page reads like ours"
    restore_backup_from_before(sqlite_shop, bought)

    sqlite_shop.deliver_and_work()

    order = sqlite_shop.the_order()
    assert [item.title for item in order.items] == ["Enamel mug"]
    assert (order.delivery or {})["code"] == "express"


@pytest.mark.accept("X23", "X12")
@pytest.mark.fault("F38")
def test_a_backup_of_an_hour_ago_gets_every_payment_back(shop: Shop) -> None:
    """Some checkouts began before the backup and were paid after it, some are wholly unknown."""
    before = [shop.shopper().buy(email=f"before{n}@example.com") for n in range(4)]
    cursor = shop.clock.now()
    shop.clock.forward(minutes=20)
    after = [shop.shopper().buy(LAMP if n == 0 else MUG) for n in range(4)]
    for bought in (*before, *after[:3]):
        bought.pay()
    restore_backup_from_before(shop, *after)
    with atomic() as session:
        session.execute(delete(Setting).where(Setting.name == reconcile.CURSOR))
    shop.sandbox.chaos.drop_pct = 100  # webhooks of that hour were answered 200 and do not return

    tally = reconcile.until_quiet(since=cursor - timedelta(minutes=5))

    assert tally.failed == 0
    paid = {order.id for order in shop.rows(Order, Order.payment_status == "paid")}
    assert paid == {bought.order_id for bought in (*before, *after[:3])}
    assert len(shop.receipts()) == 7
    assert shop.exceptions() == []
    assert shop.proves()


@pytest.mark.accept("X12", "X23")
@pytest.mark.fault("F38")
def test_beyond_the_event_list_the_payments_themselves_are_read(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    began = shop.clock.now()
    bought = shop.shopper().buy(MUG, 2)
    bought.pay()
    restore_backup_from_before(shop, bought)
    shop.clock.forward(days=40)
    shop.sandbox.store.objects["event"].clear()  # Stripe lists events for thirty days

    assert reconcile.sync().synced == 0
    tally = reconcile.sync(since=began)

    assert (tally.synced, tally.failed) == (1, 0)
    assert shop.the_order().payment_status == "paid"
    assert reconcile.sync(since=began).synced == 0
    assert shop.proves()


@pytest.mark.accept("A22", "X10")
@pytest.mark.fault("F14")
def test_two_lanes_that_rebuild_at_once_make_one_attempt(
    postgres_shops: TestShops, strategy: Strategy
) -> None:
    with postgres_shops.opened(order_strategy=strategy.name) as shop:
        bought = shop.shopper().buy(MUG, 2)
        bought.pay()
        restore_backup_from_before(shop, bought)
        shop.deliver()

        def lane(number: int) -> None:
            with shop.app.app_context():
                if number % 2:
                    inbox.drain()
                else:
                    checkout.found_at_stripe(bought.session_id)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lane, range(4)))
        shop.work()

        assert shop.count(Order) == len(shop.payments()) == len(shop.receipts()) == 1
        assert shop.product(MUG).sold == 2
        assert shop.proves()


def test_where_the_parcel_goes_is_told_to_stripe_in_its_own_field(shop: Shop) -> None:
    bought = shop.shopper().buy(line2="c/o Weber", phone="+49 30 1234567")
    bought.pay()

    intent = shop.sandbox.store.objects["payment_intent"][bought.session["payment_intent"]]

    assert intent["shipping"]["name"] == ADDRESS["name"]
    assert intent["shipping"]["address"]["line2"] == "c/o Weber"
    assert intent["metadata"] == {"checkout_attempt_id": bought.order_id}
