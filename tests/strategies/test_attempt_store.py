"""What a shopper submitted: where it is kept, how long, and that it serves once."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import inspect, select, update
from sqlalchemy.exc import OperationalError

from domain.strategies import Strategy
from extensions import atomic, db, doorbell, reading
from models import CheckoutAttempt, Order, StripeLeg
from services import attempts, inbox, reconcile, settle, snapshots
from services.causes import SYNC
from tests.shop import LAMP, MUG, Shop


def _context() -> dict[str, Any]:
    return {
        "lines": [
            {
                "product_id": 1,
                "sku": MUG,
                "title": "Enamel mug",
                "subtitle": "",
                "picture": "",
                "unit_amount": 1800,
                "quantity": 2,
            }
        ],
        "contact": {"name": "Maya", "email": "maya@example.com", "phone": None},
        "address": {"line1": "Sonnenallee 12", "city": "Berlin"},
        "delivery": {"code": "pickup", "label": "Collect", "amount": 0},
    }


def _save(shop: Shop) -> str:
    with atomic():
        return snapshots.save(
            shopper_id=str(uuid.uuid4()),
            strategy_name="pay_first",
            fingerprint="x",
            snapshot=_context(),
            currency="eur",
            subtotal=3600,
            shipping=0,
            total=3600,
            hold="released",
            deadline=shop.clock.now() + timedelta(hours=1),
        ).id


@pytest.mark.accept("P4", "A1", "A2", "A4")
def test_the_store_keeps_a_context_under_a_new_random_id_and_gives_it_back(shop: Shop) -> None:
    first, second = _save(shop), _save(shop)

    assert first != second
    assert uuid.UUID(first).version == 4
    assert snapshots.get(first) == _context()
    assert snapshots.get("no-such-id") is None


@pytest.mark.accept("P4", "A3", "P7")
def test_deleting_forgets_the_person_and_leaves_a_tombstone(shop: Shop) -> None:
    bought = shop.shopper().buy(MUG, 2)

    snapshots.delete(bought.order_id)

    assert snapshots.get(bought.order_id) is None
    attempt = shop.attempt(bought.order_id)
    assert attempt.purged_at == shop.clock.now()
    assert "maya" not in json.dumps(attempt.snapshot).lower()
    assert [(line["sku"], line["quantity"]) for line in attempt.lines] == [(MUG, 2)]
    assert shop.rows(StripeLeg)[0].parameters is None


@pytest.mark.accept("P2", "A5", "A6", "P8")
def test_all_of_it_is_stored_before_stripe_is_called_and_stripe_gets_only_the_id(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[CheckoutAttempt] = []
    real = shop.app.extensions["stripe_gateway"].open_leg

    def look_first(*args: Any, **kwargs: Any) -> Any:
        stored.extend(shop.rows(CheckoutAttempt))
        return real(*args, **kwargs)

    monkeypatch.setattr(shop.app.extensions["stripe_gateway"], "open_leg", look_first)
    bought = shop.shopper().buy(MUG, 2)

    (attempt,) = stored
    assert attempt.id == bought.order_id
    assert (attempt.shopper_id, attempt.email) == (
        shop.attempt(attempt.id).shopper_id,
        "maya@example.com",
    )
    assert attempt.snapshot["address"]["city"] == "Berlin"
    assert [(line["sku"], line["quantity"]) for line in attempt.lines] == [(MUG, 2)]
    link = {"checkout_attempt_id": attempt.id}
    (call,) = [c for c in shop.sandbox.requests if c["path"] == "/v1/checkout/sessions"]
    assert call["params"]["metadata"] == link
    assert call["params"]["payment_intent_data"]["metadata"] == link
    key = inspect(db.engine).get_pk_constraint("checkout_attempts")["constrained_columns"]
    assert key == ["id"]  # looked up by primary key


@pytest.mark.accept("P5")
def test_it_can_be_read_until_the_deadline_and_not_after(shop: Shop) -> None:
    bought = shop.shopper().buy()

    shop.clock.forward(minutes=59, seconds=59)
    assert snapshots.get(bought.order_id) is not None
    shop.clock.forward(seconds=2)
    assert snapshots.get(bought.order_id) is None


@pytest.mark.accept("P5", "X2")
def test_while_the_bank_decides_it_can_be_read_for_days(shop: Shop) -> None:
    shop.sandbox.debit_s = timedelta(days=3).total_seconds()
    bought = shop.shopper().buy()
    bought.pay("bank_debit")
    shop.deliver_and_work()

    shop.clock.forward(days=2, hours=23)
    reconcile.sync()
    assert snapshots.get(bought.order_id) is not None

    shop.clock.forward(hours=2)
    shop.deliver_and_work()
    assert shop.the_order().email == "maya@example.com"
    assert snapshots.get(bought.order_id) is None


@pytest.mark.accept("P5", "V24")
def test_a_retry_makes_it_readable_again(shop: Shop) -> None:
    bought = shop.shopper().buy()
    shop.clock.forward(minutes=61)
    reconcile.sync()
    assert snapshots.get(bought.order_id) is None

    bought.shopper.json("POST", f"/api/orders/{bought.order_id}/retry-session")

    assert snapshots.get(bought.order_id) is not None


@pytest.mark.accept("P6", "A7", "P23")
def test_expired_data_goes_by_itself_and_then_the_rows_go_too(
    shop: Shop, strategy: Strategy
) -> None:
    """Nobody asks for anything: the clock alone removes the person, then the tombstone."""
    for _ in range(3):
        shop.shopper().buy()
    paid = shop.shopper().buy()
    paid.pay()
    shop.deliver_and_work()
    shop.clock.forward(minutes=61)
    reconcile.by_clock()
    everything = shop.count(CheckoutAttempt)

    shop.clock.forward(hours=25)
    reconcile.by_clock()
    assert all(attempt.purged_at for attempt in shop.rows(CheckoutAttempt))
    assert shop.count(CheckoutAttempt) == everything

    shop.clock.forward(days=35, hours=1)
    reconcile.by_clock()

    kept = {attempt.id for attempt in shop.rows(CheckoutAttempt)}
    assert kept == {order.id for order in shop.rows(Order)}
    assert paid.order_id in kept
    assert {leg.attempt_id for leg in shop.rows(StripeLeg)} == kept
    assert shop.proves()
    shop.clock.forward(days=1)
    assert snapshots.bury() == 0  # it goes on from where it was, not from the beginning


@pytest.mark.accept("P7", "A21", "A30")
@pytest.mark.fault("F22")
def test_data_serves_once_and_a_second_use_finds_the_tombstone(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    reconcile.sync()
    assert snapshots.get(bought.order_id) is None
    with atomic() as session:  # every event is told once more, as after a replay
        session.execute(update(inbox.StripeEvent).values(state="new"))

    shop.work()
    bought.shopper.come_back(bought)
    settle.settle(bought.order_id, SYNC, look=True)

    assert shop.count(Order) == len(shop.payments()) == len(shop.receipts()) == 1
    assert shop.product(MUG).sold == 1
    assert shop.proves()


@pytest.mark.accept("P14", "A20", "A24")
@pytest.mark.fault("F22", "F30")
def test_a_crash_before_the_commit_keeps_the_data_and_the_next_try_makes_the_order(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = shop.shopper().buy(LAMP, 2)
    bought.pay()
    shop.deliver()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(settle, "_mark_applied", kill)
        with pytest.raises(Killed):
            inbox.drain()
    db.session.rollback()
    before = shop.attempt(bought.order_id)
    assert (before.state, before.purged_at, before.email) == ("open", None, "maya@example.com")
    assert shop.payments() == []

    shop.clock.forward(seconds=61)  # the lease of the killed worker runs out
    shop.work()

    assert (shop.the_order().payment_status, shop.the_order().email) == ("paid", "maya@example.com")
    assert shop.product(LAMP).sold == 2
    assert shop.proves()


@pytest.mark.accept("P24")
@pytest.mark.fault("F21", "F29")
def test_flushing_redis_between_checkout_and_payment_loses_nothing(shop: Shop) -> None:
    bought = shop.shopper().buy()
    doorbell.connection.flushall()
    bought.pay()
    shop.deliver()
    doorbell.connection.flushall()

    reconcile.sweep()

    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.accept("A23")
@pytest.mark.fault("F31")
def test_while_the_store_cannot_be_reached_the_event_waits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver()

    def away(attempt_id: str) -> None:
        raise OperationalError("SELECT", {}, Exception("the server has gone away"))

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "lock", away)
        inbox.drain()
    waiting = [event for event in shop.events() if event.state == "new"]
    assert waiting and {event.tries for event in waiting} == {0}  # an outage is not a try

    shop.clock.forward(minutes=2)
    shop.work()
    assert shop.the_order().payment_status == "paid"


def test_an_attempt_without_an_order_is_buried_with_its_whole_history(pay_first: Shop) -> None:
    shop = pay_first
    bought = shop.shopper().buy()
    for _ in range(2):  # its legs name each other
        bought.shopper.json("POST", f"/api/orders/{bought.order_id}/retry-session")
    shop.clock.forward(minutes=61)
    reconcile.sync()
    shop.clock.forward(hours=25)
    reconcile.sync()
    assert shop.history(bought.order_id)

    shop.clock.forward(days=36)
    reconcile.sync()

    with reading() as session:
        assert session.scalars(select(CheckoutAttempt.id)).all() == []
    assert shop.rows(StripeLeg) == []
    assert shop.history(bought.order_id) == []


def test_purging_looks_at_no_attempt_twice(shop: Shop) -> None:
    for _ in range(3):
        shop.shopper().buy().pay()
    shop.deliver_and_work()

    assert (snapshots.purge(), snapshots.purge()) == (3, 0)
