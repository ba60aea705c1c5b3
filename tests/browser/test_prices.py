"""A discount code and an invoice, in a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


@pytest.mark.accept("X17", "X19", "X25")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_a_code_is_applied_paid_and_stands_on_the_invoice(
    shop: DemoShop, visit: Visit, scripts: bool
) -> None:
    maya = visit(shop, java_script_enabled=scripts)
    maya.expected.append("status of 422")  # the code that there is not
    maya.puts_in_basket()
    maya.fills_in()
    code = maya.page.locator("#code")

    code.fill("no-such")
    maya.presses("Apply")
    expect(maya.page.locator("#code-error")).to_contain_text("There is no code “no-such”")
    expect(maya.page.locator("#line1")).not_to_have_value("")
    code.fill("welcome-10")
    maya.presses("Apply")
    expect(maya.page.locator("#code-taken")).to_have_text("WELCOME-10 takes €1.80 off.")
    expect(maya.page.locator("#pay-label")).to_have_text("Pay €21.10")
    maya.page.locator("#city").press("Enter")  # the first button of the form is the one that pays
    maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")
    maya.pays()
    maya.page.wait_for_url("**/checkout/success?*")
    link = maya.page.get_by_role("link", name="Invoice to print")
    if not scripts:
        expect(link).to_be_visible(timeout=30_000)
    link.click()

    expect(maya.page.locator("h1")).to_contain_text("Invoice INV-")
    expect(maya.page.locator("dl")).to_contain_text("Discount, WELCOME-10")
    maya.page.emulate_media(media="print")
    expect(maya.page.get_by_text("Print this page")).to_be_hidden()
