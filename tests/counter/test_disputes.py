"""A shopper's bank takes money back, or asks: shown, told to a person, and seen to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import stripe

from domain.facts import Fact, News
from extensions import atomic
from gateway import current_gateway
from models import Dispute, Payment, ShopException, StripeEvent
from services import check, disputes, inbox, reconcile, settle, stock
from services.causes import SYNC
from tests.counter.scenes import in_the_dashboard
from tests.shop import Shop

DISPUTED = "4000000000000259"
WINS, LOSES = "winning_evidence", "losing_evidence"


def a_disputed_order(shop: Shop) -> str:
    bought = shop.shopper().buy()
    bought.pay(DISPUTED)
    shop.deliver_and_work()
    shop.work()
    return bought.order_id


def answer(shop: Shop, words: str) -> None:
    """In Stripe's dashboard."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    (dispute,) = client.v1.disputes.list().data
    wish = {"evidence": {"uncategorized_text": words}, "submit": True}
    client.v1.disputes.update(dispute.id, wish)  # type: ignore[arg-type]


def status(shop: Shop, order_id: str) -> str:
    order = shop.order(order_id)
    assert order is not None
    return order.payment_status


@pytest.mark.accept("X5")
@pytest.mark.fault("F23")
def test_a_dispute_is_shown_and_told_with_its_date(shop: Shop) -> None:
    order_id = a_disputed_order(shop)

    assert status(shop, order_id) == "disputed"
    (row,) = disputes.of_order(order_id)
    assert (row.status, row.amount, row.reason) == ("needs_response", 2290, "fraudulent")
    assert row.due_by is not None
    (told,) = shop.exceptions()
    assert (told.type, told.amount, told.state) == ("dispute", 2290, "open")
    assert f"{row.due_by:%B %Y}" in told.detail
    assert [one.stripe_id for one in disputes.waiting()] == [row.stripe_id]
    assert shop.proves()


@pytest.mark.accept("X5")
@pytest.mark.parametrize(("words", "then"), [(WINS, "paid"), (LOSES, "disputed")])
def test_what_becomes_of_it_is_seen(shop: Shop, words: str, then: str) -> None:
    order_id = a_disputed_order(shop)
    answer(shop, words)
    shop.deliver_and_work()

    assert status(shop, order_id) == then
    assert [row.state for row in shop.rows(ShopException)] == ["resolved"]
    assert disputes.waiting() == []
    order = shop.order(order_id)
    assert order is not None
    assert order.status == "payment_confirmed"
    assert shop.proves()


@pytest.mark.fault("F10")
@pytest.mark.parametrize("guarded", [True, False])
def test_a_stale_look_never_reopens_what_is_decided(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """A look from before the decision is applied after it."""
    order_id = a_disputed_order(shop)
    if not guarded:
        monkeypatch.setattr(settle.Desk, "is_overtaken", lambda self, *versions: False)
    gateway = current_gateway()
    real, stale = gateway.read, []

    def slow(kind: str, stripe_id: str) -> tuple[Fact, ...]:
        told = real(kind, stripe_id)
        if not stale:
            stale.append(told)
            answer(shop, WINS)
            shop.deliver_type("charge.dispute.closed")
            inbox.drain()
        return told

    monkeypatch.setattr(gateway, "read", slow)
    (row,) = disputes.of_order(order_id)
    about = News("", "dispute", row.stripe_id, reads=("dispute", row.stripe_id))
    settle.settle(order_id, SYNC, news=about)

    assert (status(shop, order_id) == "paid") is guarded


def test_without_webhooks_the_clock_hears_of_it(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay(DISPUTED)
    for _ in range(3):
        reconcile.sync(cause=SYNC, due_only=False)

    assert status(shop, bought.order_id) == "disputed"


def test_the_check_finds_a_dispute_that_we_do_not_know(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    assert check.run().holds
    with atomic() as session:
        session.query(Dispute).delete()

    found = [v.invariant for v in check.run().violations]
    assert found == ["disputes"]
    assert order_id


@pytest.mark.fault("F10")
@pytest.mark.parametrize("early", ["charge.dispute.created", "refund.created"])
def test_news_that_comes_before_its_payment_is_taken_up_again(shop: Shop, early: str) -> None:
    bought = shop.shopper().buy()
    bought.pay(DISPUTED if "dispute" in early else "4242424242424242")
    if "refund" in early:
        in_the_dashboard(shop, bought, 500)
    shop.deliver_type(early)
    shop.work()
    assert [event.state for event in shop.rows(StripeEvent)] == ["ignored"]

    # Only what names the payment itself comes after: nothing else tells of the early news again.
    shop.deliver(
        lambda d: d.event_type in ("checkout.session.completed", "payment_intent.succeeded")
    )
    shop.work()
    shop.work()

    assert status(shop, bought.order_id) in ("disputed", "partially_refunded")
    early_ones = [e for e in shop.rows(StripeEvent) if e.type == early]
    assert [event.state for event in early_ones] == ["done"]


@pytest.mark.parametrize("guarded", [True, False])
def test_early_news_and_its_payment_at_the_same_moment(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The event finds no payment and is about to be ignored, while the payment is being written and
    has just found no ignored event. With the guard one of the two waits for the other."""
    shop = postgres_shop
    bought = shop.shopper().buy()
    bought.pay(DISPUTED)
    shop.deliver_type("charge.dispute.created")
    shop.deliver_type("checkout.session.completed")
    rows = {row.type: row for row in shop.rows(StripeEvent)}
    early, paid = rows["charge.dispute.created"], rows["checkout.session.completed"]

    written, noted = threading.Event(), threading.Event()
    real_stock, real_closing = stock.carry_out, inbox._closing

    def hold_the_transaction(moves: object) -> None:
        real_stock(moves)  # type: ignore[arg-type]
        written.set()  # the payment is written and not committed; no ignored event was there
        noted.wait(timeout=2)

    def after_the_payment(*args: object) -> object:
        written.wait(timeout=2)
        return real_closing(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stock, "carry_out", hold_the_transaction)
    monkeypatch.setattr(inbox, "_closing", after_the_payment)
    if not guarded:
        monkeypatch.setattr(inbox, "wait_for_others", lambda name: None)
        monkeypatch.setattr(settle, "wait_for_others", lambda name: None)

    def ignore_it() -> None:
        inbox.apply(early.id, early.payload, "webhook", 0)
        noted.set()

    def run(work: Callable[[], None]) -> threading.Thread:
        def inside() -> None:
            with shop.app.app_context():
                work()

        thread = threading.Thread(target=inside)
        thread.start()
        return thread

    threads = [run(ignore_it), run(lambda: inbox.apply(paid.id, paid.payload, "webhook", 0))]
    for thread in threads:
        thread.join()
    shop.clock.forward(minutes=2)  # the lease of what stayed new is over
    shop.work()

    assert len(shop.rows(Payment)) == 1
    assert bool(shop.rows(Dispute)) is guarded
