"""One real order, all the way through: the tour of the whole spine in one test.

``pytest tests/spine/test_one_order.py`` shows creation, basket, webhook, ownership, payment and
receipt, on both databases.
"""

from __future__ import annotations

import pytest

from domain.transitions import PaymentStatus, Status
from tests.shop import LAMP, MUG, Shop


@pytest.mark.accept("O1", "O10", "O12", "O13", "O16", "O17", "O27", "O28", "V11")
def test_from_basket_to_receipt(shop: Shop) -> None:
    maya, stranger = shop.shopper(), shop.shopper()
    maya.put_in_cart(MUG, 2)
    maya.put_in_cart(LAMP, 1)

    checkout = maya.opened(maya.check_out())  # creation
    waiting = shop.the_order()
    assert (waiting.status, waiting.total) == (Status.PENDING_PAYMENT, 2 * 1800 + 3300 + 490)
    assert maya.cart() == []
    assert (shop.product(MUG).held, shop.product(LAMP).held) == (2, 1)
    assert checkout.session["metadata"] == {"checkout_attempt_id": checkout.order_id}

    checkout.pay()
    assert {status for _, status in shop.deliver()} == {200}  # the webhook
    shop.work()

    order = shop.the_order()
    assert order.id == checkout.order_id
    assert order.status == Status.PAYMENT_CONFIRMED
    assert order.payment_status == PaymentStatus.PAID
    payment = shop.payments()[0]  # the payment is tracked
    assert (payment.role, payment.amount, payment.currency) == ("settles", order.total, "eur")
    assert payment.method == "Visa ···· 4242"
    assert (shop.product(MUG).sold, shop.product(LAMP).sold) == (2, 1)

    assert "Thank you, Maya" in maya.come_back(checkout).text  # ownership
    assert stranger.get(f"/orders/{order.id}").status_code == 404
    assert "Maya" not in stranger.come_back(checkout).text

    receipt = shop.receipts()[0]  # the mail
    assert receipt.state == "done"
    assert receipt.result is not None
    assert receipt.result["to"] == "maya@example.com"
    assert shop.proves()
