"""Each alert is made to fire by what it warns of, and clears when that is over."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from extensions import atomic
from models import Product
from services import alerts, by_hand, leases, reconcile
from tests.shop import MUG, Shop


def standing() -> dict[str, alerts.Alert]:
    return {alert.code: alert for alert in alerts.standing()}


def looks(shop: Shop, times: int) -> None:
    """The clock's pass, each when the last one said that the next is due."""
    for _ in range(times):
        reconcile.sync()
        shop.clock.forward(seconds=151)


SESSIONS = {"pct": 100, "only": "GET /v1/checkout/sessions/*"}


@pytest.mark.accept("D30", "D32")
@pytest.mark.parametrize(
    ("fault", "passes"), [({"outage": "503"}, 3), ({"error_500": SESSIONS}, 4)]
)
def test_failing_syncs_are_an_alert_until_stripe_answers_again(
    shop: Shop, fault: dict[str, Any], passes: int
) -> None:
    shop.shopper().buy()
    shop.sandbox.chaos.update(fault)
    looks(shop, passes - 1)
    assert standing() == {}

    looks(shop, 1)

    fired = standing()
    assert set(fired) == {"sync_failing", "orders_undecided"}
    assert "One order could not" in fired["sync_failing"].detail
    shop.sandbox.chaos.clear()
    looks(shop, 1)
    assert standing() == {}


@pytest.mark.accept("D30")
@pytest.mark.parametrize(("in_step", "fires"), [(18, True), (19, False)])
def test_five_of_a_hundred_may_fail(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch, in_step: int, fires: bool
) -> None:
    shop = sqlite_shop
    for _ in range(in_step):
        shop.shopper().buy().pay()
    shop.deliver_and_work()
    shop.shopper().buy()
    shop.sandbox.chaos.outage = "503"

    looks(shop, 3)

    assert ("sync_failing" in standing()) == fires


@pytest.mark.accept("D31")
def test_an_event_that_waits_ten_minutes_is_an_alert_until_it_is_applied(shop: Shop) -> None:
    shop.shopper().buy().pay()
    shop.deliver()
    shop.clock.forward(minutes=10)
    assert "webhooks_delayed" not in standing()

    shop.clock.forward(seconds=1)

    fired = standing()["webhooks_delayed"]
    assert "the oldest for 10 min" in fired.detail
    assert fired.since and (shop.clock.now() - fired.since).total_seconds() == 1
    shop.work()
    assert "webhooks_delayed" not in standing()


@pytest.mark.accept("D32")
def test_what_nobody_looked_at_in_time_needs_a_sync_by_hand(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    shop.clock.forward(seconds=120 + 300)  # it is looked at after 120, and may be 300 late
    assert standing() == {}

    shop.clock.forward(seconds=1)

    fired = standing()["orders_undecided"]
    assert fired.since == shop.attempt(checkout.order_id).next_look_at
    by_hand.sync_orders("ada@example.com")
    assert standing() == {}


@pytest.mark.accept("D42")
@pytest.mark.parametrize("who", ["worker", "clock"])
def test_a_silent_process_is_an_alert_until_it_beats_again(shop: Shop, who: str) -> None:
    assert standing() == {}
    leases.beat(who)
    shop.clock.forward(seconds=50)
    assert standing() == {}

    shop.clock.forward(seconds=1)

    fired = standing()
    assert set(fired) == {f"{who}_silent"}
    assert "Since 51 s" in fired[f"{who}_silent"].detail
    leases.beat(who)
    assert standing() == {}


@pytest.mark.accept("X14")
def test_broken_books_are_an_alert_until_a_check_finds_them_mended(shop: Shop) -> None:
    _sell(1)
    assert standing() == {}

    by_hand.prove("ada@example.com")

    fired = standing()
    assert set(fired) == {"books_broken"}
    _sell(-1)
    assert set(standing()) == {"books_broken"}
    assert by_hand.prove("ada@example.com").holds
    assert standing() == {}


def _sell(units: int) -> None:
    """As a defect would: units are sold that nobody bought."""
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(sold=Product.sold + units))


def test_every_alert_is_known_by_the_code_that_it_fires_with() -> None:
    assert set(alerts.codes()) == {
        "sync_failing",
        "webhooks_delayed",
        "orders_undecided",
        "worker_silent",
        "clock_silent",
        "clock_off",
        "books_broken",
        "dispute_due",
        "background_sync_off",
    }
