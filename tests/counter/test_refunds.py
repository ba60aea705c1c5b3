"""Money back from the counter and from Stripe's dashboard: in full, in part, once, and never more
than was paid."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import delete, select

from domain.errors import NotFound, ShopError
from extensions import atomic, db
from gateway import current_gateway
from models import AuditEntry, CheckoutAttempt, OrderItem, OutboxMessage, Refund, StockMovement
from services import attempts, outbox, reconcile, refunds
from tests.counter.scenes import (
    ADA,
    FAILS_LATER,
    WAITS,
    a_paid_order,
    ask,
    at_once,
    at_stripe,
    in_the_dashboard,
)
from tests.shop import MUG, Shop


def item_of(shop: Shop, order_id: str) -> int:
    return int(shop.rows(OrderItem, OrderItem.order_id == order_id)[0].id)


def stands(shop: Shop, order_id: str) -> tuple[str, str, int]:
    order = shop.order(order_id)
    assert order is not None
    return order.status, order.payment_status, order.refunded


def mails(shop: Shop, kind: str) -> list[OutboxMessage]:
    return shop.rows(OutboxMessage, OutboxMessage.kind == kind)


# -- what is asked for is done, once


@pytest.mark.accept("X4")
@pytest.mark.fault("F23")
def test_a_part_goes_back_and_the_order_stays(shop: Shop) -> None:
    order = a_paid_order(shop)

    asked = ask(order, 500)
    outbox.drain()

    assert at_stripe(shop) == [(500, "succeeded")]
    assert stands(shop, order.order_id) == ("payment_confirmed", "partially_refunded", 500)
    assert shop.rows(Refund)[0].id == asked.id
    assert (shop.product(MUG).sold, shop.rows(StockMovement, StockMovement.order_id != "")) == (
        1,
        [],
    )
    shop.deliver_and_work()  # Stripe's own news of it meets the same row
    assert len(shop.rows(Refund)) == 1
    assert shop.proves()


@pytest.mark.accept("X4")
@pytest.mark.parametrize("packed", [False, True])
def test_all_of_it_goes_back_and_the_order_is_cancelled(shop: Shop, packed: bool) -> None:
    order = a_paid_order(shop)
    if packed:
        _is_now(order.order_id, "awaiting_shipment")

    ask(order)
    outbox.drain()

    assert stands(shop, order.order_id) == ("cancelled", "refunded", 2290)
    moved = [row for row in shop.history(order.order_id) if row.kind == "transition"]
    assert (moved[-1].to_status, moved[-1].detail) == ("cancelled", "refunded")
    shop.deliver_and_work()
    reconcile.sync_order(order.order_id, refunds.Cause("admin"))
    assert stands(shop, order.order_id) == ("cancelled", "refunded", 2290)
    if not packed:  # its packing was made up, and left no history
        assert shop.proves()


@pytest.mark.accept("X4")
@pytest.mark.parametrize("before", ["shipped", "delivered"])
def test_a_parcel_that_left_stays_shipped_when_its_money_goes_back(shop: Shop, before: str) -> None:
    order = a_paid_order(shop)
    _is_now(order.order_id, before)

    ask(order)
    outbox.drain()

    assert stands(shop, order.order_id) == (before, "refunded", 2290)


@pytest.mark.accept("X4")
@pytest.mark.parametrize("parts", [[None], [1000, None], [2290]])
def test_refunds_in_the_dashboard_lead_to_the_same(shop: Shop, parts: list[int | None]) -> None:
    order = a_paid_order(shop)
    for amount in parts:
        in_the_dashboard(shop, order, amount)

    shop.deliver_and_work()

    assert stands(shop, order.order_id) == ("cancelled", "refunded", 2290)
    assert len(mails(shop, "refunded")) == len(parts)
    assert shop.proves()


@pytest.mark.accept("X4")
def test_a_refund_told_together_with_its_payment_ends_the_same(shop: Shop) -> None:
    """The first that the shop hears of either is that the charge was refunded."""
    order = shop.shopper().buy()
    order.pay()
    in_the_dashboard(shop, order)

    shop.deliver_type("charge.refunded")
    shop.work()

    assert stands(shop, order.order_id) == ("cancelled", "refunded", 2290)
    assert shop.proves()


@pytest.mark.accept("X4")
def test_a_double_click_is_one_refund(shop: Shop) -> None:
    order = a_paid_order(shop)

    first, second = ask(order, 500, key="one-form-1"), ask(order, 500, key="one-form-1")
    outbox.drain()

    assert first.id == second.id
    assert at_stripe(shop) == [(500, "succeeded")]
    with pytest.raises(refunds.KeyUsed, match=r"asked for €5\.00"):
        ask(order, 700, key="one-form-1")


@pytest.mark.accept("X4", "X26")
def test_two_equal_parts_are_two_refunds(shop: Shop) -> None:
    order = a_paid_order(shop)

    ask(order, 500)
    ask(order, 500)
    shop.work()
    shop.deliver_and_work()

    assert at_stripe(shop) == [(500, "succeeded")] * 2
    assert stands(shop, order.order_id) == ("payment_confirmed", "partially_refunded", 1000)
    assert len({row.stripe_id for row in shop.rows(Refund)}) == 2


@pytest.mark.accept("X4")
def test_the_deed_is_in_the_history_and_in_the_audit_log(shop: Shop) -> None:
    order = a_paid_order(shop)

    ask(order, 500)
    outbox.drain()

    told = [(row.actor, row.detail) for row in shop.history(order.order_id) if row.kind == "refund"]
    assert told[0] == (ADA, "€5.00 asked for: came broken")
    assert "€5.00, succeeded" in told[1][1]
    (deed,) = shop.rows(AuditEntry, AuditEntry.action == "refunded")
    assert (deed.actor, deed.subject) == (ADA, order.order_id)


@pytest.mark.accept("X4")
def test_the_shopper_is_told_once_when_it_succeeded(shop: Shop) -> None:
    order = a_paid_order(shop, card=WAITS)

    ask(order, 500)
    outbox.drain()
    assert mails(shop, "refunded") == []
    assert stands(shop, order.order_id) == ("payment_confirmed", "paid", 0)
    _time_passes(shop)

    (mail,) = mails(shop, "refunded")
    assert mail.result is not None
    assert mail.result["subject"] == "€5.00 is on its way back to you"
    assert stands(shop, order.order_id) == ("payment_confirmed", "partially_refunded", 500)
    reconcile.sync_order(order.order_id, refunds.Cause("admin"))
    shop.deliver_and_work()
    assert len(mails(shop, "refunded")) == 1


# -- what cannot be: a clear refusal, and nothing is written


BAD = [
    (0, {}, "NotARefund", 422),
    (-500, {}, "NotARefund", 422),
    (10**12, {}, "NotARefund", 422),
    (2291, {}, "MoreThanIsLeft", 409),
    (500, {"currency": "usd"}, "NotARefund", 422),
    (500, {"reason": " "}, "NotARefund", 422),
    (500, {"reason": "x" * 201}, "NotARefund", 422),
    (500, {"key": "short"}, "NotARefund", 422),
    (500, {"key": "x" * 65}, "NotARefund", 422),
    (500, {"restock": {987654: 1}}, "NotARefund", 422),
]


@pytest.mark.accept("X4")
@pytest.mark.parametrize(("amount", "more", "error", "status"), BAD)
def test_what_cannot_be_refunded_is_refused_and_nothing_is_written(
    shop: Shop, amount: int, more: dict[str, Any], error: str, status: int
) -> None:
    order = a_paid_order(shop)

    with pytest.raises(ShopError) as refusal:
        ask(order, amount, **more)

    assert (type(refusal.value).__name__, refusal.value.http_status) == (error, status)
    assert shop.rows(Refund) == mails(shop, "refund") == at_stripe(shop) == []


@pytest.mark.accept("X4")
@pytest.mark.parametrize("end", ["waiting", "declined", "expired", "short"])
def test_an_order_that_is_not_paid_has_nothing_to_give_back(shop: Shop, end: str) -> None:
    order = shop.shopper().buy()
    if end == "declined":
        order.pay("4000000000000002")
    if end == "short":
        order.pay("wrong_amount")
    shop.deliver_and_work()
    if end == "expired":
        shop.clock.forward(minutes=61)
        reconcile.sync()

    with pytest.raises(refunds.NothingToRefund, match="not paid"):
        ask(order, 100)

    assert shop.rows(Refund) == []


def test_an_unknown_order_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        refunds.ask("nope", 1, {}, reason="x", actor=ADA, key="k" * 36)


@pytest.mark.accept("X4")
@pytest.mark.parametrize("how", ["asked", "pending", "dashboard"])
def test_what_is_on_its_way_counts_against_what_is_left(shop: Shop, how: str) -> None:
    order = a_paid_order(shop, card=WAITS)
    if how == "dashboard":
        in_the_dashboard(shop, order, 2000)
        shop.deliver_and_work()
    else:
        ask(order, 2000)
    if how == "pending":
        outbox.drain()

    with pytest.raises(refunds.MoreThanIsLeft, match=r"€2\.90 of this payment can still"):
        ask(order, 291)

    assert ask(order, 290).amount == 290


def test_nothing_is_left_once_all_of_it_is_on_its_way(shop: Shop) -> None:
    order = a_paid_order(shop)
    ask(order)

    with pytest.raises(refunds.NothingToRefund, match="has been refunded, or is on its way"):
        ask(order)


@pytest.mark.accept("X4")
@pytest.mark.fault("F23")
def test_two_at_once_never_refund_more_than_was_paid(postgres_shop: Shop) -> None:
    shop = postgres_shop
    for _ in range(5):
        order = a_paid_order(shop)
        presses = [lambda order=order: ask(order, 1500)] * 3

        results = at_once(shop, *presses)

        assert sorted(type(result).__name__ for result in results) == [
            "MoreThanIsLeft",
            "MoreThanIsLeft",
            "Refund",
        ]
    shop.work()
    assert at_stripe(shop) == [(1500, "succeeded")] * 5


def test_twin_without_the_lock_two_at_once_ask_for_more_than_was_paid(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: both see all of it left."""
    shop = postgres_shop
    order = a_paid_order(shop)
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
    at_once(shop, lambda: ask(order, 1500), lambda: ask(order, 1500))

    assert sum(row.amount for row in shop.rows(Refund)) == 3000  # of 2290


@pytest.mark.accept("X4")
def test_the_same_form_twice_at_once_is_one_refund(postgres_shop: Shop) -> None:
    shop = postgres_shop
    order = a_paid_order(shop)
    presses = [lambda: ask(order, 500, key="one-form-1")] * 4

    results = at_once(shop, *presses)
    shop.work()

    assert len({result.id for result in results}) == 1
    assert at_stripe(shop) == [(500, "succeeded")]


# -- goods come back only when told


@pytest.mark.accept("X4")
@pytest.mark.fault("F23")
def test_goods_go_back_on_the_shelf_only_when_told(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    item, on_hand = item_of(shop, order.order_id), shop.product(MUG).on_hand

    ask(order, 500)
    assert shop.product(MUG).on_hand == on_hand
    ask(order, 500, {item: 2})

    assert (shop.product(MUG).on_hand, shop.product(MUG).sold) == (on_hand + 2, 1)
    (movement,) = shop.rows(StockMovement, StockMovement.kind == "restocked")
    assert (movement.quantity, movement.order_id, movement.actor) == (2, order.order_id, ADA)
    shop.work()
    shop.deliver_and_work()
    assert shop.proves()


@pytest.mark.accept("X4")
@pytest.mark.parametrize("quantity", [4, 2, -1])
def test_never_more_goes_back_than_was_bought(shop: Shop, quantity: int) -> None:
    order = a_paid_order(shop, quantity=3)
    item = item_of(shop, order.order_id)
    if quantity == 2:
        ask(order, 500, {item: 2})

    with pytest.raises(refunds.NotARefund, match=r"from 0 to \d can be put back"):
        ask(order, 500, {item: quantity})

    assert shop.product(MUG).sold == (1 if quantity == 2 else 3)


def test_a_double_click_puts_nothing_back_twice(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    item = item_of(shop, order.order_id)

    for _ in range(2):
        ask(order, 500, {item: 1}, key="one-form-1")

    assert shop.product(MUG).sold == 2


# -- what goes wrong on the way


@pytest.mark.accept("X4")
@pytest.mark.fault("F23")
def test_a_refund_that_fails_later_puts_the_money_back(shop: Shop) -> None:
    order = a_paid_order(shop, card=FAILS_LATER)
    ask(order, 500)
    outbox.drain()
    assert stands(shop, order.order_id) == ("payment_confirmed", "partially_refunded", 500)

    _time_passes(shop)

    assert stands(shop, order.order_id) == ("payment_confirmed", "paid", 0)
    (problem,) = shop.exceptions()
    assert (problem.type, problem.amount, problem.order_id) == (
        "refund_failed",
        500,
        order.order_id,
    )
    assert ask(order).amount == 2290  # all of it can be refunded again
    assert shop.proves(ledger=False)


@pytest.mark.accept("X4")
def test_a_cancelled_order_comes_back_when_its_refund_fails(shop: Shop) -> None:
    order = a_paid_order(shop, card=FAILS_LATER)
    sold = shop.product(MUG).sold
    ask(order)
    outbox.drain()
    assert stands(shop, order.order_id) == ("cancelled", "refunded", 2290)

    _time_passes(shop)

    assert stands(shop, order.order_id) == ("payment_confirmed", "paid", 0)
    assert [problem.type for problem in shop.exceptions()] == ["refund_failed"]
    assert shop.product(MUG).sold == sold
    assert len(shop.receipts()) == 1
    assert shop.proves()


@pytest.mark.accept("X4")
def test_an_answer_that_got_lost_is_asked_for_again_and_made_once(shop: Shop) -> None:
    order = a_paid_order(shop)
    ask(order, 500)
    shop.sandbox.chaos.effect_then_cut = {"next": 2, "only": "POST /v1/refunds"}

    for _ in range(4):
        outbox.drain()
        shop.clock.forward(minutes=2)

    assert at_stripe(shop) == [(500, "succeeded")]
    assert stands(shop, order.order_id)[2] == 500


@pytest.mark.accept("X4")
def test_a_refund_asked_for_long_ago_is_looked_for_before_a_new_key(shop: Shop) -> None:
    """Stripe made it, its answer was lost, and by now Stripe has forgotten the key."""
    order = a_paid_order(shop)
    asked = ask(order, 500)
    current_gateway().refund(asked.payment_intent, 500, row=asked.id, key=f"refund:{asked.id}:g1")
    shop.clock.forward(hours=30)

    outbox.drain()

    assert at_stripe(shop) == [(500, "succeeded")]
    assert stands(shop, order.order_id)[2] == 500


@pytest.mark.accept("X4")
def test_what_the_dashboard_gave_back_first_is_refused_and_told(shop: Shop) -> None:
    order = a_paid_order(shop)
    in_the_dashboard(shop, order, 2000)  # and its news is not here yet
    ask(order, 500)

    outbox.drain()

    assert at_stripe(shop) == [(2000, "succeeded")]
    assert stands(shop, order.order_id) == ("payment_confirmed", "partially_refunded", 2000)
    (problem,) = shop.exceptions()
    assert problem.type == "refund_failed" and "refused" in problem.detail
    assert ask(order).amount == 290  # what was refused is free again


@pytest.mark.accept("X4")
def test_a_worker_that_dies_after_stripe_answered_refunds_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = a_paid_order(shop)
    ask(order, 500)
    with monkeypatch.context() as patch:
        patch.setattr("services.settle.settle", _dies)
        outbox.drain()
    assert stands(shop, order.order_id)[2] == 0
    shop.clock.forward(minutes=2)

    outbox.drain()

    assert at_stripe(shop) == [(500, "succeeded")]
    assert stands(shop, order.order_id)[2] == 500


# -- the proof


@pytest.mark.accept("X4", "X14")
def test_the_proof_names_a_refund_that_only_stripe_knows(shop: Shop) -> None:
    order = a_paid_order(shop)
    in_the_dashboard(shop, order, 500)

    assert not shop.proves()
    shop.deliver_and_work()
    assert shop.proves()


@pytest.mark.accept("X4", "X14")
def test_the_proof_names_a_refund_that_only_we_know(shop: Shop) -> None:
    order = a_paid_order(shop)
    ask(order, 500)
    outbox.drain()
    assert shop.proves()
    with atomic() as session:
        session.execute(delete(Refund))

    assert not shop.proves()


def _dies(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("the worker is gone")


def _is_now(order_id: str, status: str) -> None:
    with atomic() as session:
        attempt = session.get_one(CheckoutAttempt, order_id)
        order = attempts.order_of(order_id)
        assert order is not None
        attempt.status = order.status = status


def _time_passes(shop: Shop) -> None:
    """The bank has decided, and Stripe tells it."""
    shop.clock.forward(seconds=shop.sandbox.refund_s + 1)
    shop.sandbox.tick()
    shop.deliver_and_work()
