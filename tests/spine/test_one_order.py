"""One real order, all the way through."""

from __future__ import annotations

import pytest

from domain.transitions import PaymentStatus, Status
from tests.shop import MUG, Shop


@pytest.mark.accept("O1", "O12", "O13")
def test_a_paid_session_confirms_the_order_that_was_waiting(shop: Shop) -> None:
    checkout = shop.shopper().buy(MUG, 2)
    waiting = shop.the_order()
    assert waiting.status == Status.PENDING_PAYMENT

    checkout.pay()
    shop.deliver_and_work()

    order = shop.the_order()
    assert order.id == waiting.id == checkout.order_id
    assert order.status == Status.PAYMENT_CONFIRMED
    assert order.payment_status == PaymentStatus.PAID
    assert [receipt.state for receipt in shop.receipts()] == ["done"]
    assert shop.proves()
