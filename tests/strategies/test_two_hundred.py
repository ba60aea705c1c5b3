"""Two hundred checkouts, and a Stripe whose news is lost, or comes three times in any order."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random

import pytest

from domain.strategies import Strategy
from models import Order
from services import cart, catalogue, check, checkout, inbox, outbox, reconcile
from tests.shop import Shop, TestShops

CHECKOUTS = 200
PAYS, DECLINES = "4242424242424242", "4000000000000002"
WAYS = [*[PAYS] * 6, DECLINES, "bank_debit", "bank_debit_fails", "leaves"]
TEAPOT = {"sku": "TEAPOT", "slug": "teapot", "title": "Teapot", "prices": {"eur": 2900}}
NEWS = {
    "all lost": {"drop_pct": 100},
    "thrice, late and shuffled": {"duplicate": 2, "reorder": True, "delay_s": 900},
}


@pytest.mark.accept("D24", "D25", "D39")
@pytest.mark.fault("F8", "F9", "F10")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("news", NEWS)
def test_two_hundred_checkouts_all_end_right(
    postgres_shops: TestShops, strategy: Strategy, news: str
) -> None:
    """On PostgreSQL alone, for time; the storms show the same on SQLite."""
    with postgres_shops.opened(order_strategy=strategy.name) as shop:
        catalogue.stock_up([{**TEAPOT, "units": CHECKOUTS}])
        shop.sandbox.chaos.update(NEWS[news])
        did = _shop_on(shop)
        for _ in range(3):
            shop.clock.forward(minutes=10)
            shop.deliver()
            inbox.drain()

        tally = reconcile.until_quiet()
        shop.clock.forward(minutes=61)
        last = reconcile.until_quiet()

        assert (tally.failed, last.failed) == (0, 0)
        ended = {
            way: Counter(shop.attempt(order_id).status for order_id in orders)
            for way, orders in did.items()
        }
        assert ended == {
            PAYS: {"payment_confirmed": len(did[PAYS])},
            "bank_debit": {"payment_confirmed": len(did["bank_debit"])},
            "bank_debit_fails": {"cancelled": len(did["bank_debit_fails"])},
            DECLINES: {"expired": len(did[DECLINES])},
            "leaves": {"expired": len(did["leaves"])},
        }
        paid = len(did[PAYS]) + len(did["bank_debit"])
        teapot = shop.product("TEAPOT")
        assert (teapot.sold, teapot.held, teapot.on_hand) == (paid, 0, CHECKOUTS - paid)
        assert len(shop.receipts()) == len(shop.payments()) == paid
        assert len(shop.rows(Order, Order.paid_at.is_not(None))) == paid
        assert shop.exceptions() == []
        assert inbox.is_empty() and outbox.is_empty()
        assert check.run().holds
        if news == "all lost":
            assert {payment.lane for payment in shop.payments()} == {"sync"}


def _shop_on(shop: Shop) -> dict[str, list[str]]:
    """So many checkouts, of which some are paid, some are not, and some shoppers come back; the
    orders by what was done about them."""
    rng = Random(7)
    did: dict[str, list[str]] = {}
    for number in range(CHECKOUTS):
        shopper_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        cart.add(shopper_id, "TEAPOT", 1, "eur")
        page = checkout.start(
            shopper_id,
            checkout.Contact(f"Shopper {number}", f"shopper{number}@example.com"),
            checkout.Address("Sonnenallee 12", "Berlin", "12047", "DE"),
            "standard",
        )
        way = rng.choice(WAYS)
        if way != "leaves":
            shop.pay(page.session_id or "", way)
        if rng.random() < 0.3:
            checkout.welcome_back(page.attempt_id, shopper_id)
        did.setdefault(way, []).append(page.attempt_id)
    return did
