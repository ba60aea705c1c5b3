"""A host whose clock is wrong hears nothing from Stripe, loses nothing, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from domain.clock import running_on
from gateway.webhooks import TOLERANCE_S
from services import alerts, diagnosis, reconcile
from tests.shop import Shop


def is_alert(shop: Shop) -> bool:
    return "clock_off" in {alert.code for alert in alerts.standing()}


def doctor_names_it() -> bool:
    (finding,) = (one for one in diagnosis.examine(live=True) if one["name"] == "webhooks: clock")
    return not finding["ok"]


@contextmanager
def ours_is_off(shop: Shop, seconds: float) -> Iterator[None]:
    """The shop reads a clock that is ahead of Stripe's by so much."""
    with running_on(lambda: shop.clock.now() + timedelta(seconds=seconds)):
        yield


@pytest.mark.fault("F34")
@pytest.mark.parametrize("off_s", [600, -600], ids=["ahead of Stripe", "behind Stripe"])
def test_a_host_ten_minutes_off_refuses_webhooks_and_settles_all_the_same(
    shop: Shop, off_s: int
) -> None:
    bought = shop.shopper().buy()
    assert not is_alert(shop)
    bought.pay()

    with ours_is_off(shop, off_s):
        assert {status for _, status in shop.deliver()} == {400}

        assert shop.events() == []
        assert is_alert(shop)
        assert doctor_names_it()
        shop.clock.forward(seconds=121)
        reconcile.sync()
        order = shop.the_order()
        assert (order.payment_status, order.paid_lane) == ("paid", "sync")
        assert len(shop.receipts()) == 1
        assert is_alert(shop)  # what was fetched does not say that the clock is right

    shop.clock.forward(seconds=off_s if off_s > 0 else 1)
    shop.shopper().buy().pay()
    assert {status for _, status in shop.deliver()} == {200}
    assert not is_alert(shop)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("off_s", [TOLERANCE_S - 5, 5 - TOLERANCE_S])
def test_a_host_less_than_five_minutes_off_hears_everything(sqlite_shop: Shop, off_s: int) -> None:
    sqlite_shop.shopper().buy().pay()

    with ours_is_off(sqlite_shop, off_s):
        assert {status for _, status in sqlite_shop.deliver()} == {200}
        assert not is_alert(sqlite_shop)


@pytest.mark.fault("F34")
def test_a_clock_that_was_set_back_leaves_no_alert_for_a_time_to_come(sqlite_shop: Shop) -> None:
    sqlite_shop.shopper().buy().pay()
    with ours_is_off(sqlite_shop, 86_400):
        sqlite_shop.deliver()
        assert is_alert(sqlite_shop)

    assert not is_alert(sqlite_shop)
