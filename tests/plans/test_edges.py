"""What went wrong at the edges of subscriptions and mixed carts, and must not again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import stripe
from sqlalchemy import delete, update

import sandbox.billing
from domain.facts import Fact, News
from extensions import atomic, db
from gateway import doors
from gateway.doors import Doors
from models import Dispute, OrderItem, OutboxMessage, Payment, Product, StockMovement, Subscription
from sandbox.errors import ApiError
from services import catalogue, erasure, inbox, reconcile, refunds, settle, snapshots, subscriptions
from services.causes import SHOPPER, SYNC
from tests.plans.buying import (
    COFFEE,
    DECLINED,
    GOOD,
    PRINTS,
    Opened,
    OwnPage,
    lines,
    plans_of,
    sells_plans,
    sync,
)
from tests.plans.buying import settle as deliver
from tests.shop import MUG, ORIGIN, Checkout, Shop, TestShops

DEBIT = "bank_debit"


def hosted(shop: Shop, *skus: str) -> Checkout:
    shopper = shop.shopper()
    for sku in skus:
        shopper.put_in_cart(sku)
    return shopper.opened(shopper.check_out())


def bought(page: OwnPage, *skus: str) -> Opened:
    opened = page.opened(*skus)
    opened.buy()
    return opened


def at_stripe(shop: Shop) -> list[str]:
    """How every subscription stands at Stripe, oldest first."""
    return [one["status"] for one in shop.sandbox.store.objects["subscription"].values()]


def told(shop: Shop) -> list[str]:
    return [row.kind for row in shop.rows(OutboxMessage)]


def refund_all(order_id: str) -> None:
    refunds.ask(order_id, None, {}, reason="sorry", actor="ada", key=str(uuid.uuid4()))


def stripe_client(shop: Shop) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})


# -- money back, and the card that is yet to be saved


def test_a_card_saved_after_all_was_refunded_is_not_charged(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.pay()
    deliver(shop)
    refund_all(opened.order_id)
    deliver(shop)
    order = shop.order(opened.order_id)
    assert order is not None
    assert order.status == "cancelled"

    opened.save_card()
    deliver(shop)

    assert at_stripe(shop) == []


def test_a_subscription_owed_is_dropped_when_all_was_refunded(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.pay()
    opened.save_card()
    shop.deliver()
    inbox.drain()
    refund_all(opened.order_id)
    shop.sandbox.chaos.update({"rate_429": {"next": 2, "only": "POST /v1/subscriptions"}})
    deliver(shop)

    for _ in range(4):
        shop.clock.forward(minutes=2)
        deliver(shop)

    order = shop.order(opened.order_id)
    assert order is not None
    assert at_stripe(shop) == [] or order.payment_status != "partially_refunded"


# -- a bank debit under way


def test_a_bank_debit_under_way_is_not_called_failed(any_shop: Shop) -> None:
    bank = hosted(any_shop, MUG, COFFEE)
    bank.pay(DEBIT)
    deliver(any_shop)

    assert any_shop.attempt(bank.order_id).is_processing
    assert "past_due" not in told(any_shop)


def test_a_first_payment_by_debit_is_not_called_failed(page: OwnPage) -> None:
    opened = page.opened(COFFEE)
    opened.save_card(DEBIT)
    deliver(page.shop)

    assert page.shop.legs(opened.order_id)[-1].state == "processing"
    assert "past_due" not in told(page.shop)


# -- a restored backup


def tables() -> dict[Any, list[dict[str, Any]]]:
    with atomic() as session:
        return {
            table: [dict(row._mapping) for row in session.execute(table.select())]
            for table in db.metadata.sorted_tables
        }


def restore(saved: dict[Any, list[dict[str, Any]]]) -> None:
    with atomic() as session:
        for table in reversed(db.metadata.sorted_tables):
            session.execute(table.delete())
        for table in db.metadata.sorted_tables:
            if saved[table]:
                session.execute(table.insert(), saved[table])


def catch_up(shop: Shop, hours: int) -> None:
    for _ in range(4):
        since = shop.clock.now() - timedelta(hours=hours + 2)
        reconcile.sync(since=since, cause=SYNC, due_only=False)


def test_a_lost_checkout_that_subscribed_gets_its_subscription_back(shop: Shop) -> None:
    """Right if the news of its invoice comes first, wrong if that of its session does."""
    saved = tables()
    bank = hosted(shop, MUG, COFFEE)
    bank.pay()
    restore(saved)
    shop.deliver_type("checkout.session.completed")
    shop.work()
    deliver(shop)
    sync(shop)

    assert lines(shop, bank.order_id) == {MUG: "active", COFFEE: "active"}
    assert [plan.status for plan in plans_of(shop, bank.order_id)] == ["active"]
    assert shop.proves()


def test_a_first_invoice_that_the_backup_forgot_pays_for_its_line(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    saved = tables()
    opened.buy()
    shop.clock.forward(hours=1)
    restore(saved)

    catch_up(shop, 1)

    assert shop.exceptions() == []
    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "active"}


@pytest.mark.parametrize("skus", [(MUG, COFFEE), (COFFEE,), (PRINTS,)])
def test_a_subscription_that_the_backup_forgot_is_not_begun_twice(
    page: OwnPage, skus: tuple[str, ...]
) -> None:
    shop, opened = page.shop, page.opened(*skus)
    saved = tables()
    opened.buy()
    shop.clock.forward(hours=25)
    shop.sandbox.tick()
    restore(saved)

    catch_up(shop, 25)

    assert len(at_stripe(shop)) == 1


def test_money_that_cannot_be_filled_ends_what_would_renew_it(shop: Shop) -> None:
    saved = tables()
    bank = hosted(shop, COFFEE)
    bank.pay()
    deliver(shop)
    restore(saved)
    with atomic() as session:
        id_ = shop.product(COFFEE).id
        session.execute(update(Product).where(Product.id == id_).values(on_hand=0))
        session.execute(
            update(StockMovement).where(StockMovement.product_id == id_).values(quantity=0)
        )

    catch_up(shop, 1)

    assert [row.type for row in shop.exceptions()] == ["late_payment"]
    assert at_stripe(shop) == ["canceled"]


# -- what somebody else began


def test_what_does_not_pay_for_a_line_does_not_take_its_place(any_shop: Shop) -> None:
    bank = hosted(any_shop, MUG, COFFEE)
    link = {"checkout_attempt_id": bank.order_id}
    foreign = stripe_client(any_shop).v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": ORIGIN,
            "metadata": link,
            "subscription_data": {"metadata": link},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "eur",
                        "unit_amount": 100,
                        "product_data": {"name": "Something else"},
                        "recurring": {"interval": "month"},
                    },
                }
            ],
        }
    )
    any_shop.pay(foreign.id)
    deliver(any_shop)

    bank.pay()
    deliver(any_shop)

    (plan,) = plans_of(any_shop, bank.order_id)
    assert plan.unit_amount == 1200
    assert any_shop.sandbox.store.objects["subscription"][plan.stripe_id]["status"] == "active"
    assert at_stripe(any_shop)[-1] == "active"  # the one that the shopper paid for


# -- ends


def test_an_end_that_stripe_refuses_is_not_called_done(
    page: OwnPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a restricted key that may not write subscriptions."""

    def refuse(*_: object) -> None:
        raise ApiError("This key does not have the required permissions.", status=403)

    shop, opened = page.shop, bought(page, COFFEE)
    (plan,) = plans_of(shop, opened.order_id)
    monkeypatch.setattr(sandbox.billing, "cancel", refuse)

    answer = opened.shopper.post(
        f"/orders/{opened.order_id}/subscriptions/{plan.id}/cancel", {"when": "now"}
    )

    assert at_stripe(shop) == ["active"]
    assert answer.status_code >= 400
    assert not any("ended now" in row.detail for row in shop.history(opened.order_id))


@pytest.mark.parametrize("strategy", ["pay_first", "dual_track"])
def test_a_checkout_whose_subscription_never_began_can_be_buried(
    shops: TestShops, strategy: str
) -> None:
    with shops.opened(order_strategy=strategy) as shop:
        sells_plans()
        opened = OwnPage(shop).opened(COFFEE)
        opened.save_card(DECLINED)
        deliver(shop)
        shop.clock.forward(hours=24)
        shop.sandbox.tick()
        sync(shop)
        shop.clock.forward(hours=25)
        sync(shop)
        shop.clock.forward(days=36)

        snapshots.bury()  # and with it every pass of the clock from now on


@pytest.mark.parametrize("skus", [(MUG, COFFEE), (COFFEE,)])
def test_a_subscription_that_stripe_refuses_is_shown_to_a_person(
    page: OwnPage, skus: tuple[str, ...]
) -> None:
    shop, opened = page.shop, page.opened(*skus)
    opened.save_card()
    if MUG in skus:
        opened.pay()
    shop.sandbox.store.objects["setup_intent"][opened.setup]["payment_method"] = None
    deliver(shop)

    assert shop.legs(opened.order_id)[-1].state == "refused"
    assert shop.exceptions() != []


def test_a_subscription_alone_that_stripe_refuses_is_told_to_the_shopper(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    opened.save_card()
    shop.sandbox.store.objects["setup_intent"][opened.setup]["payment_method"] = None
    deliver(shop)

    assert shop.attempt(opened.order_id).status == "cancelled"
    assert any(row.result and row.result.get("subject") for row in shop.rows(OutboxMessage))


@pytest.mark.parametrize("skus", [(MUG, COFFEE), (COFFEE,)])
def test_a_first_invoice_paid_outside_of_stripe_is_decided(
    page: OwnPage, skus: tuple[str, ...]
) -> None:
    shop, opened = page.shop, page.opened(*skus)
    opened.save_card(DECLINED)
    if MUG in skus:
        opened.pay()
    deliver(shop)
    first = shop.legs(opened.order_id)[-1].stripe_id or ""
    stripe_client(shop).v1.invoices.pay(first, {"paid_out_of_band": True})
    deliver(shop)
    shop.clock.forward(days=3)
    sync(shop)

    assert at_stripe(shop) == ["active"]
    assert shop.exceptions() or lines(shop, opened.order_id)[COFFEE] == "active"


def test_money_for_a_line_that_had_ended_is_an_exception_or_begins_it(page: OwnPage) -> None:
    """Somebody gave the invoice up in the dashboard; Stripe lets it be paid all the same."""
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    deliver(shop)
    first = shop.legs(opened.order_id)[-1].stripe_id or ""
    invoice = shop.sandbox.store.objects["invoice"][first]
    invoice["status"] = "uncollectible"
    shop.sandbox.emit("invoice.marked_uncollectible", invoice)
    deliver(shop)
    assert lines(shop, opened.order_id)[COFFEE] == "ended"

    invoice["status"] = "open"  # the sandbox takes no money for one that was given up
    shop.sandbox.pay(first, GOOD)
    deliver(shop)

    assert shop.proves()


# -- the proof


def _changed(model: Any, **values: Any) -> Callable[[], Any]:
    return lambda: db.session.execute(update(model).values(**values))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(_changed(Subscription, status="canceled"), id="ended here, runs there"),
        pytest.param(_changed(Subscription, status="past_due"), id="another status"),
        pytest.param(_changed(Subscription, stripe_id="sub_x"), id="not at Stripe at all"),
        pytest.param(
            lambda: db.session.execute(
                update(Payment).where(Payment.part == COFFEE).values(part="OTHER")
            ),
            id="paid for another line",
        ),
        pytest.param(
            lambda: db.session.execute(
                update(OrderItem).where(OrderItem.sku == COFFEE).values(plan=None)
            ),
            id="a line that forgot that it recurs",
        ),
    ],
)
def test_the_proof_finds_a_wrong_subscription(page: OwnPage, wrong: Callable[[], Any]) -> None:
    bought(page, MUG, COFFEE)
    assert page.shop.proves()

    with atomic():
        wrong()

    assert not page.shop.proves()


def test_the_proof_finds_a_subscription_that_nobody_knows(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, PRINTS)
    with atomic() as session:
        session.execute(delete(Subscription))
        session.execute(
            update(OrderItem).where(OrderItem.order_id == opened.order_id).values(state="ended")
        )
        session.execute(
            update(Product)
            .where(Product.sku == PRINTS)
            .values(on_hand=Product.on_hand + Product.sold, sold=0)
        )

    assert at_stripe(shop) == ["trialing"]
    assert not shop.proves()


# -- people, and bad input


def test_an_erased_person_cannot_be_found_again_at_stripe(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, COFFEE)
    (plan,) = plans_of(shop, opened.order_id)
    subscriptions.cancel(opened.order_id, plan.id, SHOPPER, at_period_end=False)
    deliver(shop)
    sync(shop)

    erasure.erase("maya@example.com")

    assert shop.attempt(opened.order_id).stripe_customer is None
    assert [leg.url for leg in shop.legs(opened.order_id)] == [None, None]


@pytest.mark.parametrize("verb", ["cancel", "resume"])
def test_a_row_that_no_database_can_hold_is_not_found(page: OwnPage, verb: str) -> None:
    opened = bought(page, COFFEE)

    path = f"/orders/{opened.order_id}/subscriptions/{10**25}/{verb}"
    assert opened.shopper.post(path).status_code == 404


def test_any_sku_can_be_subscribed_to(page: OwnPage) -> None:
    tea = {"sku": "TEA:green", "slug": "tea", "title": "Tea", "interval": "month", "units": 9}
    catalogue.stock_up([{**tea, "prices": {"eur": 700}}])

    opened = bought(page, "TEA:green")

    assert lines(page.shop, opened.order_id) == {"TEA:green": "active"}


def test_a_stale_look_at_a_dispute_loses(page: OwnPage, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, opened = page.shop, page.opened(MUG)
    opened.pay("4000000000000259")
    deliver(shop)
    (dispute,) = shop.rows(Dispute)
    asked = ("dispute", dispute.stripe_id)
    news = News("", "x", dispute.stripe_id, opened.order_id, opened.intent, reads=asked)
    real = Doors.read
    overtaken: list[str] = []

    def read(stripe_: Doors, kind: str, id_: str) -> tuple[Fact, ...]:
        told = real(stripe_, kind, id_)
        if not overtaken:
            overtaken.append(id_)
            shop.sandbox.store.objects["dispute"][id_]["status"] = "won"
            settle.settle(opened.order_id, SYNC, news=news)
        return told

    monkeypatch.setattr(Doors, "read", read)
    settle.settle(opened.order_id, SYNC, news=news)

    assert [row.status for row in shop.rows(Dispute)] == ["won"]


# -- how often Stripe is asked


def test_a_first_invoice_that_waits_for_its_shopper_is_asked_about_ever_more_rarely(
    page: OwnPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    deliver(shop)
    looks = []
    real = Doors.read_invoice

    def read(stripe_: Doors, invoice_id: str, **how: Any) -> tuple[Fact, ...]:
        looks.append(invoice_id)
        return real(stripe_, invoice_id, **how)

    counted = doors._LEGS["invoice"]._replace(read=read)
    monkeypatch.setitem(doors._LEGS, "invoice", counted)
    for _ in range(60):  # two hours, every two minutes
        shop.clock.forward(minutes=2)
        reconcile.sync()

    assert len(looks) < 30
