"""A subscription after it is bought, in a real browser: with scripts and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


@pytest.mark.accept("X6")
@pytest.mark.parametrize("scripts", [True, False])
def test_it_is_set_to_end_kept_and_ended_by_its_shopper(
    shop: DemoShop, visit: Visit, scripts: bool
):
    maya = visit(shop, java_script_enabled=scripts)
    _buys_coffee(maya)

    maya.presses("Cancel at the end of the period")
    maya.sees("Nothing more is charged.")
    maya.presses("Keep it after all")
    maya.sees("Active, renews on")

    sure = maya.page.get_by_role("button", name="Yes, cancel Monthly coffee now")
    expect(sure).to_be_hidden()
    maya.page.get_by_text("Cancel now").click()
    sure.click()
    maya.sees("Ended on")
    expect(maya.page.get_by_role("button", name="Keep it after all")).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1280])
def test_its_panel_fits_the_screen_on_both_sides_of_the_counter(
    shop: DemoShop, visit: Visit, admin_state: Any, width: int
):
    wide: Any = {"viewport": {"width": width, "height": 800}}
    maya, owner = visit(shop, **wide), visit(shop, storage_state=admin_state, **wide)
    _buys_coffee(maya)
    number = maya.page.locator("#order-receipt h2 .num").inner_text()
    order_id = maya.page.locator("#order-plans form").first.get_attribute("action")
    assert order_id is not None

    owner.opens(f"/admin{order_id.partition('/subscriptions')[0]}")
    owner.sees(number)
    owner.sees("Next charge")
    owner.presses("End with the period")
    owner.sees("It ends with what is paid.")

    for visitor in (maya, owner):
        widest = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert widest <= width


def _buys_coffee(maya: Visitor) -> None:
    maya.opens("/products/monthly-coffee")
    maya.presses("Add to basket")
    maya.follows("Checkout")
    maya.fills_in()
    maya.presses("Pay")
    maya.page.wait_for_url(f"{maya.shop.sandbox}/c/pay/*")
    maya.pays()
    maya.sees("Active, renews on", within_s=15)
