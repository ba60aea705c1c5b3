"""What the storm found, each reduced to its story."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select, text

from domain.errors import StripeUnavailable
from extensions import atomic, db, reading
from models import CheckoutAttempt, Product, StripeLeg
from services import legs, reconcile, settings, snapshots
from tests.shop import LAMP, MUG, Checkout, Shop, Shopper, outside

CREATE = "POST /v1/checkout/sessions"


@contextmanager
def just_before_a_write(act: Callable[[], object]) -> Iterator[None]:
    """Somebody else is quicker: ``act`` happens right before the next transaction that writes."""
    ahead = [act]

    def about_to_begin(_connection: Any, options: dict[str, Any]) -> None:
        if "begin" in options and ahead:  # as ``atomic()`` does, and nobody else
            outside(ahead.pop())

    engine = db.engine
    event.listen(engine, "set_connection_execution_options", about_to_begin)
    try:
        yield
        assert not ahead, "nothing was written"
    finally:
        event.remove(engine, "set_connection_execution_options", about_to_begin)


def _work_elsewhere(shop: Shop) -> None:
    shop.deliver()
    with shop.app.app_context():
        shop.work()


def _with_a_lost_answer(shop: Shop, shopper: Shopper, fault: dict[str, Any]) -> StripeLeg:
    """A press of Pay after which the shop does not know whether there is a page."""
    shopper.put_in_cart()
    shop.sandbox.chaos.update(fault)
    assert shopper.check_out().status_code == 502
    shop.sandbox.chaos.clear()
    with reading() as session:
        return session.scalars(select(StripeLeg)).one()


@pytest.mark.accept("V28")
@pytest.mark.fault("F5")
@pytest.mark.parametrize("other", ["is done", "has only just its key"])
def test_two_who_find_the_same_key_spent_open_one_page(shop: Shop, other: str) -> None:
    """Each searched, found nothing that it did not know, and took a key of its own."""
    spent = {"stored_500": {"next": 1, "only": CREATE}, "error_500": {"next": 2, "only": "GET *"}}
    leg = _with_a_lost_answer(shop, shop.shopper(), spent)

    def is_quicker() -> None:
        with shop.app.app_context():
            with reading() as session:
                same = session.scalars(select(StripeLeg)).one()
            legs.resolve(same)

    if other == "is done":
        outside(is_quicker)
    else:
        line_goes_dead = just_before_a_write(lambda: shop.sandbox.chaos.update({"outage": "503"}))
        with line_goes_dead, pytest.raises(StripeUnavailable):
            outside(is_quicker)
        shop.sandbox.chaos.clear()
    legs.resolve(leg)

    assert len(shop.sandbox.store.objects["checkout.session"]) == 1
    made = next(iter(shop.sandbox.store.objects["checkout.session"]))
    newest = shop.legs(leg.attempt_id)[-1]
    assert (newest.state, newest.stripe_id) == ("open", made)
    assert newest.idempotency_key == f"{leg.attempt_id}:leg1:g2"


@pytest.mark.accept("V26", "X1")
def test_what_cost_nothing_and_is_done_cannot_be_tried_again(shop: Shop) -> None:
    """No payment of it ever succeeds, so its completed page alone says that it is over."""
    with atomic() as session:
        session.scalars(select(Product).where(Product.sku == MUG)).one().prices = {"eur": 0}
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 1, delivery="pickup")
    bought.pay()

    answer = shopper.json("POST", f"/api/orders/{bought.order_id}/retry-session")

    assert answer.status_code == 409
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1
    assert shop.the_order().status == "payment_confirmed"
    assert shop.proves()


@pytest.mark.accept("V25", "O22")
def test_a_retry_that_another_checkout_overtakes_ends_that_one(shop: Shop) -> None:
    """Both want the basket's one open place in the same moment; the later press wins. (Where lines
    leave the basket at once, it is told that they have.)"""
    settings.change("boss", "lines stay in the basket", order_strategy="pay_first")
    shopper = shop.shopper()
    first = shopper.buy(LAMP, 2)
    shopper.post("/checkout/release", {"order_id": first.order_id})

    with just_before_a_write(shopper.check_out):
        answer = shopper.json("POST", f"/api/orders/{first.order_id}/retry-session")

    assert answer.status_code == 201, answer.text
    other = next(row for row in shop.rows(CheckoutAttempt) if row.id != first.order_id)
    assert (shop.attempt(first.order_id).state, other.state) == ("open", "closed")
    assert (shop.product(LAMP).held, shopper.cart()) == (2, [(LAMP, 2)])
    assert shop.proves()


@pytest.mark.accept("X26", "P11")
def test_a_returning_browser_does_not_undo_what_came_after_its_look(shop: Shop) -> None:
    """The session is in no row when Stripe is asked; a moment later it is, and the bank has it."""
    settings.change("boss", "the webhooks decide", landing_lookup=False)
    shopper = shop.shopper()
    leg = _with_a_lost_answer(shop, shopper, {"effect_then_cut": {"next": 2, "only": CREATE}})
    session_id = next(iter(shop.sandbox.store.objects["checkout.session"]))

    def the_bank_has_it() -> None:
        shop.pay(session_id, "bank_debit")
        _work_elsewhere(shop)

    with just_before_a_write(the_bank_has_it):
        shopper.come_back(Checkout(shopper, leg.attempt_id, session_id, ""))

    assert [row.state for row in shop.legs(leg.attempt_id)] == ["processing"]
    assert shop.attempt(leg.attempt_id).is_processing


@pytest.mark.accept("P23", "V24")
def test_nobody_is_forgotten_while_somebody_tries_again(postgres_shop: Shop) -> None:
    """The clock read the ended attempt a moment before the retry took it up again."""
    shop = postgres_shop
    bought = shop.shopper().buy()
    shop.clock.forward(minutes=61)
    reconcile.sync()
    shop.clock.forward(hours=24)

    def forget() -> None:
        with shop.app.app_context():
            snapshots.purge()

    with db.engine.connect() as retrying:
        retrying.execute(
            text("UPDATE checkout_attempts SET state = 'open', closed_at = NULL WHERE id = :id"),
            {"id": bought.order_id},
        )
        clock = threading.Thread(target=forget)
        clock.start()
        clock.join(3)
        retrying.commit()
    clock.join()

    assert shop.attempt(bought.order_id).purged_at is None
