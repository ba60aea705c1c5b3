"""Discount codes: typed here, kept and counted by Stripe, the total checked to the cent (X19)."""

from __future__ import annotations

import pytest

from domain.transitions import PaymentStatus, Status
from models import OrderItem
from services import refunds
from tests.prices.conftest import MakeCode, stripe_of
from tests.shop import LAMP, MUG, Shop


@pytest.mark.accept("X19")
def test_an_order_with_a_code_from_basket_to_receipt_and_back(shop: Shop, a_code: MakeCode) -> None:
    code = a_code("SPRING-10")
    maya = shop.shopper()
    maya.put_in_cart(MUG, 2)
    maya.put_in_cart(LAMP, 1)

    checkout = maya.opened(maya.check_out(code="spring-10"))

    order = shop.the_order()
    sums = (order.subtotal, order.discount, order.shipping, order.tax, order.total)
    assert sums == (6900, 690, 490, 0, 6900 - 690 + 490)
    assert order.code == "SPRING-10"
    items = shop.rows(OrderItem)
    assert [(item.sku, item.discount, item.paid) for item in items] == [
        (MUG, 360, 3240),
        (LAMP, 330, 2970),
    ]
    assert checkout.session["amount_total"] == order.total

    checkout.pay()
    shop.deliver_and_work()

    paid = shop.the_order()
    assert (paid.status, paid.payment_status) == (Status.PAYMENT_CONFIRMED, PaymentStatus.PAID)
    assert stripe_of(shop).promotion_codes.retrieve(code.id).times_redeemed == 1
    page = maya.come_back(checkout).text
    assert "Discount, SPRING-10" in page
    assert "€6.90" in page
    answer = maya.json("GET", f"/api/orders/{order.id}").get_json()
    assert (answer["discount"], answer["discountCode"]) == (690, "SPRING-10")
    assert [item["discount"] for item in answer["items"]] == [360, 330]
    assert shop.receipts()[0].state == "done"

    refunds.ask(order.id, None, {}, reason="Goodwill", actor="boss", key="k" * 12)
    shop.work()
    shop.deliver_and_work()
    assert shop.the_order().refunded == order.total
    assert shop.proves()
