"""The reconciler: steady while Stripe answers, patient while it does not, and never in the way."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from sqlalchemy import event as sql_event
from structlog.testing import capture_logs

from extensions import db
from models import CheckoutAttempt, Order
from services import leases, reconcile
from services.causes import Cause
from tests.shop import MUG, Shop

READ = "GET /v1/checkout/sessions/*"


@pytest.mark.accept("D5", "D6", "D8")
def test_orders_whose_last_look_is_old_are_looked_at_and_the_look_is_counted(
    dual_track: Shop,
) -> None:
    shop = dual_track
    shop.sandbox.chaos.drop_pct = 100
    shopper = shop.shopper()
    bought = shopper.buy()
    shopper.come_back(bought)
    young = shop.clock.now()

    reconcile.sync()
    assert shop.the_order().sync_attempts == 0  # younger than RECONCILE_SECONDS

    shop.clock.forward(seconds=121)
    reconcile.sync()
    order = shop.the_order()
    assert (order.sync_attempts, order.last_sync_attempt) == (1, young + timedelta(seconds=121))
    assert (order.is_provisional, order.sync_status) == (True, "syncing")

    shop.clock.forward(seconds=60)
    reconcile.sync()
    assert shop.the_order().sync_attempts == 1

    bought.pay()
    shop.sandbox.store.objects["event"].clear()  # only a look can tell
    shop.clock.forward(seconds=61)
    reconcile.sync()
    order = shop.the_order()
    assert (order.sync_attempts, order.payment_status, order.paid_lane) == (2, "paid", "sync")


@pytest.mark.accept("D7")
def test_what_failed_for_good_at_stripe_fails_here(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    bought = shop.shopper().buy()
    bought.pay("bank_debit_fails")
    shop.shopper().buy()
    shop.clock.forward(days=4)
    shop.sandbox.tick()
    shop.sandbox.store.objects["event"].clear()

    reconcile.sync()

    assert shop.attempt(bought.order_id).status == "cancelled"
    assert shop.product(MUG).held == 0
    assert shop.proves()


@pytest.mark.accept("D8", "D11")
def test_a_look_that_fails_comes_again_soon_and_then_ever_later(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.shopper.come_back(bought)
    shop.sandbox.chaos.error_500 = {"pct": 100, "only": READ}
    shop.clock.forward(seconds=121)
    pauses = []

    for _ in range(6):
        reconcile.sync()
        attempt = shop.attempt(bought.order_id)
        assert attempt.next_look_at is not None
        pauses.append((attempt.next_look_at - shop.clock.now()).total_seconds())
        reconcile.sync()  # not before its time
        assert shop.attempt(bought.order_id).failed_looks == len(pauses)
        shop.clock.moment = attempt.next_look_at

    assert pauses == [15, 30, 60, 120, 150, 150]
    if order := shop.order(bought.order_id):
        assert (order.sync_attempts, order.sync_status) == (6, "failed")
        assert order.last_sync_attempt is not None

    shop.sandbox.chaos.clear()
    reconcile.sweep()  # the clock's short round takes up what has failed
    assert shop.attempt(bought.order_id).failed_looks == 0
    if order := shop.order(bought.order_id):
        assert (order.sync_attempts, order.sync_status) == (7, "syncing")


@pytest.mark.accept("D9", "D11")
@pytest.mark.parametrize(("fault", "asked"), [("error_500", 3), ("rate_429", 1)])
def test_while_stripe_does_not_answer_a_pass_stops_and_leaves_the_rest(
    shop: Shop, fault: str, asked: int
) -> None:
    for _ in range(8):
        shop.shopper().buy()
    shop.clock.forward(seconds=121)
    setattr(shop.sandbox.chaos, fault, {"pct": 100, "only": READ})
    shop.sandbox.requests.clear()

    with capture_logs() as logs:
        tally = reconcile.sync()

    assert (tally.failed, tally.skipped) == (asked, 8 - asked)
    assert [entry["left"] for entry in logs if entry["event"] == "sync.stopped_early"] == [
        8 - asked
    ]
    reads = {call["path"] for call in shop.sandbox.requests if "/sessions/" in call["path"]}
    assert len(reads) == asked

    shop.sandbox.chaos.clear()
    shop.clock.forward(seconds=121)
    assert reconcile.sync().as_dict() == {"synced": 0, "failed": 0, "skipped": 8}


@pytest.mark.accept("D9")
@pytest.mark.fault("F38")
def test_an_outage_asks_nothing_more_and_moves_no_cursor(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    reconcile.sync()
    cursor = leases.read(reconcile.CURSOR)
    shop.sandbox.chaos.outage = "503"
    shop.clock.forward(hours=24)
    shop.sandbox.requests.clear()

    assert reconcile.sync().failed == 1
    assert leases.read(reconcile.CURSOR) == cursor

    shop.sandbox.chaos.clear()
    assert reconcile.sync().failed == 0


@pytest.mark.accept("D5")
def test_looks_keep_below_stripes_rate_limit(shop: Shop) -> None:
    for _ in range(10):
        shop.shopper().buy()
    shop.clock.forward(seconds=121)

    started = time.monotonic()
    tally = reconcile.sync()

    assert tally.skipped == 10
    assert time.monotonic() - started >= 9 / reconcile.LOOKS_PER_S


@pytest.mark.accept("D5")
def test_a_pass_costs_the_same_however_many_orders_are_finished(shop: Shop) -> None:
    def statements() -> int:
        shop.clock.forward(seconds=121)
        seen: list[str] = []
        note = lambda *args: seen.append(args[2])  # noqa: E731
        sql_event.listen(db.engine, "before_cursor_execute", note)
        reconcile.sync()
        sql_event.remove(db.engine, "before_cursor_execute", note)
        return len(seen)

    shop.shopper().buy()
    reconcile.sync()
    before = statements()
    for _ in range(5):
        shop.shopper().buy().pay()
    shop.deliver_and_work()
    reconcile.sync()
    reconcile.sync()
    shop.sandbox.store.objects["event"].clear()

    assert statements() == before


@pytest.mark.accept("D15", "D10")
def test_one_person_one_button_and_the_clock_run_the_same_pass(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    paid = [shop.shopper().buy() for _ in range(2)]
    for bought in paid:
        bought.pay()
    shop.sandbox.store.objects["event"].clear()
    shop.shopper().buy()

    tally = reconcile.sync(cause=Cause("admin", actor="ada"), due_only=False)

    assert tally.as_dict() == {"synced": 2, "failed": 0, "skipped": 1}
    orders = shop.rows(Order, Order.payment_status == "paid")
    assert {order.paid_lane for order in orders} == {"admin"}
    told = [row for row in shop.history(paid[0].order_id) if row.kind == "payment"]
    assert [row.actor for row in told] == ["ada"]


@pytest.mark.accept("X12", "D25")
@pytest.mark.fault("F38")
def test_a_day_without_webhooks_is_made_up_for(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    paid = []
    for _ in range(6):
        bought = shop.shopper().buy()
        bought.pay()
        paid.append(bought)
        shop.clock.forward(hours=4)

    tally = reconcile.until_quiet()

    assert tally.failed == 0
    assert {order.id for order in shop.rows(Order)} == {bought.order_id for bought in paid}
    assert {order.payment_status for order in shop.rows(Order)} == {"paid"}
    assert shop.proves()


@pytest.mark.accept("D15")
def test_whoever_waits_for_a_pass_gets_an_answer_in_time(shop: Shop) -> None:
    for _ in range(6):
        shop.shopper().buy()
    shop.clock.forward(seconds=121)

    tally = reconcile.sync(due_only=False, budget_s=2.5 / reconcile.LOOKS_PER_S)

    assert tally.as_dict() == {"synced": 0, "failed": 0, "skipped": 6}
    looked_at = [a for a in shop.rows(CheckoutAttempt) if a.next_look_at > shop.clock.now()]
    assert 1 <= len(looked_at) < 6
