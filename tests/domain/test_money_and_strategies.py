"""Money in Stripe's minor units; strategies as moments."""

from __future__ import annotations

import pytest

from domain import money
from domain.strategies import STRATEGIES, Moment, bucket, choose


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1800, "eur", "€18.00"),
        (5, "usd", "$0.05"),
        (1234567, "jpy", "¥1,234,567"),
        (12340, "kwd", "KWD 12.340"),
        (50000, "isk", "ISK 500"),
        (-490, "eur", "−€4.90"),
    ],
)
def test_minor_units_are_shown_as_people_write_them(amount: int, currency: str, shown: str) -> None:
    assert money.display(amount, currency) == shown


def test_stripe_takes_isk_and_ugx_with_two_decimals() -> None:
    assert money.exponent("isk") == money.exponent("ugx") == 2


def test_no_strategy_makes_an_order_after_its_money() -> None:
    for strategy in STRATEGIES.values():
        assert strategy.order_born <= Moment.PAYMENT
        assert strategy.lines_leave_cart == strategy.order_born


@pytest.mark.accept("O31")
def test_a_rollout_treats_the_same_person_alike() -> None:
    addresses = [f"shopper{n}@example.com" for n in range(2000)]

    def share(percent: int) -> int:
        chosen = [choose(a, "order_first", ("dual_track", percent))[0].name for a in addresses]
        return chosen.count("dual_track")

    assert share(0) == 0
    assert share(100) == 2000
    assert 140 < share(10) < 260
    assert bucket("Maya@Example.com ") == bucket("maya@example.com")
