"""Sums to the smallest unit that can be charged, in every kind of currency that Stripe has."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import money
from domain.bills import Bill, part_of, percent_of, spread
from domain.codes import Code
from domain.money import amount_of, display, exponent, plain, smallest_step

# docs.stripe.com/currencies: zero-decimal, three-decimal, and the special cases.
NO_DECIMALS = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()
THREE_DECIMALS = "bhd jod kwd omr tnd".split()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

currencies = st.sampled_from(["eur", "jpy", "krw", "kwd", "isk", "ugx", "huf", "twd"])


@pytest.mark.accept("X7", "X20")
@pytest.mark.parametrize(
    ("currency", "decimals", "step", "typed", "amount", "shown"),
    [
        ("eur", 2, 1, "12.34", 1234, "€12.34"),
        ("jpy", 0, 1, "1234", 1234, "¥1,234"),
        ("krw", 0, 1, "1234", 1234, "KRW 1,234"),
        ("kwd", 3, 10, "1.230", 1230, "KWD 1.230"),
        ("bhd", 3, 10, "0.010", 10, "BHD 0.010"),
        ("isk", 2, 100, "500", 50_000, "ISK 500"),
        ("ugx", 2, 100, "500", 50_000, "UGX 500"),
        ("huf", 2, 1, "500.50", 50_050, "HUF 500.50"),  # without decimals in payouts only
        ("twd", 2, 1, "500.50", 50_050, "TWD 500.50"),
    ],
)
def test_each_kind_of_currency_is_read_and_shown_as_stripe_charges_it(
    currency: str, decimals: int, step: int, typed: str, amount: int, shown: str
) -> None:
    assert (exponent(currency), smallest_step(currency)) == (decimals, step)
    assert amount_of(typed, currency) == amount
    assert display(amount, currency) == shown
    assert amount_of(plain(amount, currency), currency) == amount


def test_the_table_is_stripes() -> None:
    assert sorted(money.ZERO_DECIMAL) == NO_DECIMALS
    assert sorted(money.THREE_DECIMAL) == THREE_DECIMALS
    assert not money.ZERO_DECIMAL & money.SHOWN_WITHOUT_DECIMALS


@pytest.mark.accept("X7")
@pytest.mark.parametrize(
    ("currency", "typed"),
    [("kwd", "1.234"), ("isk", "5.50"), ("ugx", "0.01"), ("jpy", "1.5"), ("eur", "1.234")],
)
def test_what_stripe_would_not_charge_is_no_amount(currency: str, typed: str) -> None:
    assert amount_of(typed, currency) is None


@given(
    amount=st.integers(0, 10**7),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=12),
    currency=currencies,
)
def test_what_is_spread_over_lines_sums_to_it(
    amount: int, weights: list[int], currency: str
) -> None:
    step = smallest_step(currency)
    weights = [weight * step for weight in weights]
    amount = min(amount * step, sum(weights))

    shares = spread(amount, weights, currency)

    assert sum(shares) == (amount if sum(weights) else 0)
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))
    assert all(share % step == 0 for share in shares)
    assert shares == spread(amount, weights, currency)


@given(
    paid=st.integers(0, 10**6),
    of=st.integers(1, 99),
    currency=currencies,
    data=st.data(),
)
def test_parts_of_a_line_never_give_back_more_than_was_paid(
    paid: int, of: int, currency: str, data: st.DataObject
) -> None:
    paid *= smallest_step(currency)
    units = data.draw(st.integers(1, of))
    both = part_of(paid, units, of, currency) + part_of(paid, of - units, of, currency)

    assert both <= paid
    assert part_of(paid, of, of, currency) == paid
    assert part_of(paid, units, of, currency) % smallest_step(currency) == 0


@pytest.mark.parametrize(
    ("amount", "percent", "currency", "off"),
    [
        (1805, "10", "eur", 181),  # half a cent is rounded up
        (999, "15", "eur", 150),
        (2900, "12.5", "jpy", 363),
        (10_250, "10", "kwd", 1030),  # its last digit must be 0
        (150_000, "7", "isk", 10_500),
        (155_000, "7", "isk", 10_900),  # whole krónur
        (1800, "100", "eur", 1800),
    ],
)
def test_a_share_is_what_can_be_charged(amount: int, percent: str, currency: str, off: int) -> None:
    assert percent_of(amount, Decimal(percent), currency) == off


@pytest.mark.accept("X19")
def test_a_code_says_what_it_takes_off_in_words_and_money() -> None:
    tenth = Code("promo_1", "TEN", True, percent_off=Decimal("10.0"))
    fiver = Code("promo_2", "FIVE", True, amount_off={"eur": 500, "jpy": 800})

    assert (tenth.says, fiver.says) == ("10 % off", "€5.00 off or ¥800 off")
    assert tenth.takes_off(1805, "eur") == 181
    assert (fiver.takes_off(9000, "jpy"), fiver.takes_off(300, "eur")) == (800, 300)
    assert fiver.refusal(9000, "jpy", NOON) is None
    assert "is for EUR, JPY" in str(fiver.refusal(9000, "usd", NOON))


def test_two_bills_say_where_they_differ() -> None:
    ours = Bill(1000, 100, 0, 900, "eur")

    assert ours.differs(ours) == []
    assert ours.differs(Bill(1000, 100, 0, 900, "usd")) == ["currency: eur here, usd there"]
    assert ours.differs(Bill(1000, 101, 0, 899, "eur")) == [
        "discount: 100 here, 101 there",
        "total: 900 here, 899 there",
    ]


def test_this_file_knows_no_currency_that_the_sandbox_does_not() -> None:
    known = (Path(__file__).parents[2] / "sandbox" / "api" / "amounts.py").read_text()
    codes = set(re.findall(r"[a-z]{3}", known.split("CURRENCIES", 1)[1].split(")", 1)[0]))

    assert set(NO_DECIMALS + THREE_DECIMALS) | {"isk", "ugx", "huf", "twd"} <= codes
