"""Whole orders in currencies without decimals, with three, and with Stripe's exceptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from domain import delivery
from extensions import atomic
from models import Cart, Product
from services import refunds
from tests.prices.conftest import maker
from tests.shop import MUG, Shop


@pytest.mark.accept("X7", "X20")
@pytest.mark.parametrize(
    ("currency", "price", "parcel", "discount", "total"),
    [
        ("jpy", 2950, 800, 295, 2 * 2950 - 590 + 800),
        ("krw", 32_455, 5000, 0, 2 * 32_455 - 6491 + 5000),
        ("kwd", 6150, 1500, 0, 2 * 6150 - 1230 + 1500),
        ("isk", 265_500, 90_000, 0, 2 * 265_500 - 53_100 + 90_000),
        ("huf", 719_999, 150_000, 0, 2 * 719_999 - 144_000 + 150_000),
        ("twd", 64_999, 8000, 0, 2 * 64_999 - 13_000 + 8000),
    ],
)
def test_an_order_with_a_code_is_paid_and_refunded_to_the_smallest_unit(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    currency: str,
    price: int,
    parcel: int,
    discount: int,
    total: int,
) -> None:
    maker(shop)("TENTH")
    sell_in(shop, monkeypatch, currency, price, parcel)
    maya = shop.shopper()
    maya.put_in_cart(MUG)
    with atomic() as session:
        session.scalars(select(Cart)).one().currency = currency
    maya.post("/cart/lines", {"sku": MUG, "quantity": "2"})

    bought = maya.opened(maya.check_out(code="TENTH"))
    bought.pay()
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.currency, order.total, order.payment_status) == (currency, total, "paid")
    refunds.ask(order.id, None, {}, reason="Goodwill", actor="boss", key="k" * 10)
    shop.work()
    shop.deliver_and_work()
    assert shop.the_order().refunded == total
    assert shop.proves()


def sell_in(shop: Shop, patch: pytest.MonkeyPatch, currency: str, price: int, parcel: int) -> None:
    with atomic() as session:
        mug = session.scalars(select(Product).where(Product.sku == MUG)).one()
        mug.prices = {**mug.prices, currency: price}
    standard: Any = delivery.DELIVERIES["standard"]
    priced = replace(standard, prices={**standard.prices, currency: parcel})
    patch.setitem(delivery.DELIVERIES, "standard", priced)
