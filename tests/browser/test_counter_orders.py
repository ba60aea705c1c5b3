"""Refunds and parcels at the counter, before a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
TABS_AT_MOST = 40


@pytest.mark.accept("X17", "X4", "O20")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_order_is_shipped_and_refunded(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    maya = visit(shop)
    session_id = maya.buys(email=f"parcel{scripts}@example.com")
    maya.sees_paid()
    order = maya.order(session_id)
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)

    admin.opens(f"/admin/orders/{order['id']}")
    admin.presses("Pack")
    admin.page.get_by_label("Tracking number").fill("00340 7")
    admin.presses("Ship")
    admin.sees("Sent. The shopper gets a mail")
    admin.follows("Refund")
    admin.page.get_by_label("Enamel mug, €18.00").check()
    if scripts:
        expect(admin.page.get_by_label("Amount in EUR")).to_have_value("18.00")
        expect(admin.page.get_by_role("button", name="Refund")).to_have_text(
            re.compile(r"Refund\s+€18\.00")
        )
    admin.presses("Refund")

    admin.sees("Refund of €18.00 on its way.")
    expect(admin.page.locator("main")).to_contain_text("00340 7")
    maya.opens(f"/orders/{order['id']}")
    maya.sees("DHL 00340 7, sent")
    while "We sent money back to you" not in maya.headline:
        maya.page.reload()
    maya.sees("€18.00 of this order went back")


@pytest.mark.accept("X18")
def test_an_order_is_shipped_and_refunded_with_the_keyboard_alone(
    shop: DemoShop, visit: Visit, admin_state: Any
):
    maya = visit(shop)
    session_id = maya.buys(email="keys@example.com")
    maya.sees_paid()
    admin = visit(shop, storage_state=admin_state)
    admin.opens(f"/admin/orders/{maya.order(session_id)['id']}")

    _tab_to(admin, admin.page.get_by_role("button", name="Pack"))
    admin.page.keyboard.press("Enter")
    admin.sees("Ready to be packed")
    _tab_to(admin, admin.page.get_by_label("Tracking number"))
    admin.page.keyboard.type("00340 8")
    admin.page.keyboard.press("Enter")
    admin.sees("Sent. The shopper gets a mail")
    _tab_to(admin, admin.page.locator("#refund"))
    admin.page.keyboard.press("Enter")
    expect(admin.page.get_by_label("Enamel mug")).to_be_focused()
    admin.page.keyboard.press("Space")
    admin.page.keyboard.press("Enter")

    admin.sees("Refund of €18.00 on its way.")


def _tab_to(visitor: Visitor, wanted: Locator) -> None:
    for _ in range(TABS_AT_MOST):
        visitor.page.keyboard.press("Tab")
        if wanted.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"the Tab key never reached {wanted}")
