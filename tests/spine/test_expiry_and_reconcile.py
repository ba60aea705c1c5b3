"""What the clock does: end what ran out, find what was missed, and forget the person."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from domain.errors import StripeUnavailable
from extensions import atomic
from models import CheckoutAttempt, StripeLeg
from services import inbox, leases, outbox, reconcile, settle, snapshots
from services.causes import EXPIRY
from tests.shop import LAMP, MUG, Shop, TestShops


@pytest.mark.accept("O33", "V14")
def test_an_unpaid_order_gives_its_stock_back_after_its_time(shop: Shop) -> None:
    bought = shop.shopper().buy(LAMP, 2)
    assert shop.product(LAMP).free == 0

    shop.clock.forward(minutes=61)
    reconcile.sync()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("expired", "cancelled")
    assert shop.product(LAMP).free == 2
    assert bought.shopper.cart() == [(LAMP, 2)]
    assert [leg.state for leg in shop.legs(order.id)] == ["expired"]
    assert shop.proves()


@pytest.mark.accept("O33")
@pytest.mark.fault("F16")
def test_nothing_is_given_away_before_stripe_was_asked(shop: Shop) -> None:
    """Paid in the last minute, no news arrived: expiry finds the payment instead of releasing."""
    bought = shop.shopper().buy(LAMP, 2)
    shop.clock.forward(minutes=59)
    bought.pay()
    shop.clock.forward(minutes=2)

    settle.settle(bought.order_id, EXPIRY, end=True)

    assert shop.the_order().payment_status == "paid"
    assert shop.product(LAMP).sold == 2
    assert shop.exceptions() == []


def test_twin_released_before_stripe_was_asked_the_lamp_is_promised_twice(shop: Shop) -> None:
    """The guard off: stock is released on our own clock. The payment then finds none left."""
    from services import stock

    bought = shop.shopper().buy(LAMP, 2)
    bought.pay()
    with atomic() as session:
        attempt = session.get(CheckoutAttempt, bought.order_id)
        assert attempt is not None
        attempt.state, attempt.status, attempt.hold = "closed", "expired", "released"
        attempt.closed_at = attempt.deadline
        stock.release(attempt.lines)
    shop.shopper().buy(LAMP, 2)

    shop.deliver_and_work()

    assert [e.type for e in shop.exceptions()] == ["late_payment"]


@pytest.mark.fault("F16")
def test_while_stripe_cannot_be_asked_the_stock_stays(shop: Shop) -> None:
    bought = shop.shopper().buy(LAMP, 2)
    shop.clock.forward(minutes=61)
    shop.sandbox.chaos.outage = "503"

    with pytest.raises(StripeUnavailable):
        settle.settle(bought.order_id, EXPIRY, end=True)
    assert reconcile.sync().failed >= 1
    assert shop.product(LAMP).free == 0

    shop.sandbox.chaos.outage = ""
    shop.clock.forward(hours=2)
    reconcile.sync()
    assert shop.product(LAMP).free == 2


@pytest.mark.accept("X9")
@pytest.mark.fault("F16")
def test_late_money_gets_its_order_if_the_goods_are_still_there(shop: Shop) -> None:
    bought = shop.shopper().buy(LAMP, 1)
    bought.pay()
    _expire_here_only(shop, bought.order_id)

    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert bought.shopper.cart() == []
    assert shop.product(LAMP).sold == 1
    assert shop.proves()


@pytest.mark.accept("X9")
@pytest.mark.parametrize("policy", ["hold", "refund"])
def test_late_money_without_goods_is_held_or_refunded(sqlite_shops: TestShops, policy: str) -> None:
    with sqlite_shops.opened(late_payment=policy) as shop:
        bought = shop.shopper().buy(LAMP, 2)
        bought.pay()
        _expire_here_only(shop, bought.order_id)
        shop.shopper().buy(LAMP, 2)

        shop.deliver_and_work()
        shop.deliver_and_work()

        assert [e.type for e in shop.exceptions()] == ["late_payment"]
        refunded = sum(r["amount"] for r in shop.sandbox.ledger()["refunds"])
        assert refunded == (0 if policy == "hold" else shop.attempt(bought.order_id).total)
        assert shop.product(LAMP).free == 0
        assert shop.proves()


def _expire_here_only(shop: Shop, order_id: str) -> None:
    """As after a restored backup: our side ended the checkout, Stripe's did not."""
    from domain.facts import LegEnded, LegState, News, Origin

    session_id = shop.legs(order_id)[0].stripe_id
    ended = LegEnded(session_id, LegState.EXPIRED, origin=Origin(order_id))
    news = News("evt_x", "checkout.session.expired", attempt_id=order_id, facts=(ended,))
    settle.settle(order_id, EXPIRY, news=news)
    assert shop.attempt(order_id).status == "expired"


@pytest.mark.accept("D24", "D25")
@pytest.mark.fault("F8")
def test_without_any_webhook_every_payment_finds_its_order(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    bought = [shop.shopper().buy() for _ in range(5)]
    for checkout in bought:
        checkout.pay()
    shop.deliver_and_work()
    assert shop.events() == []

    tally = reconcile.sync()

    assert tally.failed == 0
    assert {order.payment_status for order in shop.rows(type(shop.order(bought[0].order_id)))} == {
        "paid"
    }
    assert {payment.lane for payment in shop.payments()} == {"sync"}
    assert shop.proves()


@pytest.mark.accept("X12")
@pytest.mark.fault("F38")
def test_the_cursor_moves_only_after_the_events_are_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sandbox.chaos.drop_pct = 100
    shop.shopper().buy().pay()
    real = inbox.receive
    seen = 0

    def die_at_the_second(*args: object, **kwargs: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise RuntimeError("the process dies here")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "receive", die_at_the_second)
        with pytest.raises(RuntimeError):
            reconcile.fetch_events()
    assert leases.read(reconcile.CURSOR) is None

    reconcile.sync()
    assert shop.the_order().payment_status == "paid"
    assert leases.read(reconcile.CURSOR) is not None


@pytest.mark.fault("F38")
def test_events_of_the_overlap_are_read_again_and_count_once(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    shop.shopper().buy().pay()
    reconcile.sync()
    stored = len(shop.events())

    assert reconcile.fetch_events() == []
    assert len(shop.events()) == stored


def test_more_events_than_a_page_are_all_fetched(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sandbox.chaos.drop_pct = 100
    for _ in range(40):
        shop.shopper().buy().pay()

    assert len(reconcile.fetch_events()) > 100  # a page of Stripe's list holds a hundred


@pytest.mark.accept("D9", "D8")
@pytest.mark.fault("F35")
def test_one_order_that_fails_does_not_stop_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = shop.shopper().buy(), shop.shopper().buy()
    shop.clock.forward(minutes=61)
    real = settle.settle

    def settle_but_not(attempt_id: str, *args: object, **kwargs: object) -> object:
        if attempt_id == bad.order_id:
            raise RuntimeError("this one is broken")
        return real(attempt_id, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(settle, "settle", settle_but_not)
    tally = reconcile.sync()

    assert (tally.synced, tally.failed) == (1, 1)
    assert shop.order(good.order_id).status == "expired"  # type: ignore[union-attr]
    looked_at = shop.order(bad.order_id)
    assert looked_at is not None
    assert (looked_at.sync_attempts, looked_at.last_sync_attempt) == (1, shop.clock.now())


@pytest.mark.accept("D40")
def test_every_order_that_was_looked_at_has_a_line_in_the_log(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    bought = shop.shopper().buy()
    shop.clock.forward(minutes=5)

    with capture_logs() as logs:
        reconcile.sync()

    lines = [entry for entry in logs if entry["event"] == "sync.order"]
    assert [(entry["order"], entry["outcome"]) for entry in lines] == [(bought.order_id, "same")]


def test_a_young_order_is_left_in_peace(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.shopper().buy()

    assert reconcile.sync().as_dict() == {"synced": 0, "failed": 0, "skipped": 0}


@pytest.mark.accept("A7", "P6")
def test_the_person_is_forgotten_when_the_order_is_settled(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()

    assert snapshots.purge() == 1

    attempt = shop.attempt(bought.order_id)
    assert "maya" not in json.dumps(attempt.snapshot).lower()
    assert attempt.lines[0]["sku"] == MUG  # the tombstone still knows what was bought
    assert shop.rows(StripeLeg)[0].parameters is None
    assert shop.the_order().email == "maya@example.com"


@pytest.mark.accept("P5", "P23")
def test_an_unpaid_attempt_keeps_its_person_for_a_day(shop: Shop) -> None:
    bought = shop.shopper().buy()
    shop.clock.forward(minutes=61)
    reconcile.sync()
    assert shop.attempt(bought.order_id).email == "maya@example.com"

    shop.clock.forward(hours=23)
    assert snapshots.purge() == 0
    shop.clock.forward(hours=1, minutes=1)
    assert snapshots.purge() == 1
    assert shop.attempt(bought.order_id).email is None


def test_a_second_clock_waits_for_the_lease(shop: Shop) -> None:
    assert leases.take_lease("clock", "first", 30)
    assert not leases.take_lease("clock", "second", 30)
    assert leases.take_lease("clock", "first", 30)

    shop.clock.forward(seconds=31)
    assert leases.take_lease("clock", "second", 30)
    assert not leases.take_lease("clock", "first", 30)

    leases.give_up_lease("clock", "second")
    assert leases.take_lease("clock", "first", 30)


@pytest.mark.accept("D15")
def test_until_quiet_repeats_until_nothing_is_left(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    for _ in range(3):
        shop.shopper().buy().pay()

    tally = reconcile.until_quiet()

    assert tally.failed == 0
    assert inbox.is_empty()
    assert outbox.is_empty()
    assert len(shop.receipts()) == 3
    assert shop.proves()


@pytest.mark.fault("F3", "F30")
def test_a_crash_right_after_a_refusal_does_not_leave_the_attempt_open(shop: Shop) -> None:
    """Refused is final, so no leg is live any more; the attempt is still found and closed."""
    bought = shop.shopper().buy(LAMP, 2)
    with atomic() as session:
        leg = session.scalars(select(StripeLeg)).one()
        leg.state, leg.stripe_id = "refused", None
    shop.clock.forward(minutes=3)

    reconcile.sync()

    assert shop.the_order().status == "cancelled"
    assert shop.product(LAMP).free == 2
    assert bought.shopper.cart() == [(LAMP, 2)]
