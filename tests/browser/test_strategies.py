"""A shopper's way through each strategy, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor, opened

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
STRATEGIES = ("order_first", "pay_first", "dual_track")
LATE_S = 3


@pytest.mark.accept("P9", "P15", "P16", "D4", "V27")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_leaving_trying_again_and_paying_ends_in_one_order(
    tmp_path: Path, visit: Visit, strategy: str
):
    with opened(tmp_path, ORDER_STRATEGY=strategy) as shop:
        maya = visit(shop)
        first = maya.goes_to_payment("coffee-beans")
        maya.follows("Back to the shop")
        maya.page.wait_for_url("**/checkout/cancel?attempt=*")
        has_number = maya.page.get_by_text(re.compile("NL-")).count() > 0
        assert has_number == (strategy == "order_first")
        maya.opens("/cart")
        maya.sees("A payment is waiting for you")
        maya.page.go_back()

        maya.presses("Try again – €17.40")
        maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")
        assert first not in maya.page.url
        maya.pays()
        maya.sees_paid()

        maya.opens("/orders")
        maya.sees("Confirmed")
        assert maya.page.get_by_role("heading", name=re.compile("NL-")).count() == 1
        maya.opens("/cart")
        maya.sees("Your basket is empty")
        assert shop.check()["violations"] == []


@pytest.mark.accept("D1", "D4", "D22")
def test_a_provisional_order_is_there_at_once_and_confirms_itself(tmp_path: Path, visit: Visit):
    """Nobody has heard of the payment, and the page shows all of the order; nothing to press."""
    with opened(tmp_path, ORDER_STRATEGY="dual_track", RECONCILE_SECONDS="3600") as shop:
        shop.stripe_is_silent(LATE_S)
        maya = visit(shop)
        session_id = maya.goes_to_payment(slug="canvas-tote")
        maya.pays()
        maya.sees("Confirming your payment")

        order = maya.order(session_id)
        assert (order["isProvisional"], order["status"]) == (True, "pending_payment")
        receipt = maya.page.locator("#order-receipt")
        for words in (order["number"], "Canvas tote", "€33.90", "Sonnenallee 12"):
            expect(receipt).to_contain_text(words)
        indicator = maya.page.locator("#order-sync")
        expect(indicator).to_have_text("Confirming")
        assert maya.page.get_by_role("button", name="Try again").count() == 0

        maya.sees_paid()
        expect(indicator).to_have_text("Confirmed")
        expect(receipt).to_contain_text(order["number"])
        confirmed = maya.order(session_id)
        assert (confirmed["id"], confirmed["isProvisional"], confirmed["syncStatus"]) == (
            order["id"],
            False,
            "synced",
        )
