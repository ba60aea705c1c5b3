"""Without scripts, without a mouse, on a small screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DECLINED_CARD, GOOD_CARD, DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
MOST_TABS = 60
FOCUS = """() => {
  const it = document.activeElement, style = getComputedStyle(it);
  const label = it.labels?.[0]?.innerText ?? "";
  const name = it.getAttribute("aria-label") || label || it.innerText || it.value || "";
  return { name: name.trim(), ring: style.outlineStyle !== "none" || style.boxShadow !== "none" };
}"""


@pytest.mark.accept("X17")
def test_without_scripts_one_can_buy_and_see_paid(shop: DemoShop, visit: Visit):
    shop.stripe_is_silent(for_s=1)
    maya = visit(shop, java_script_enabled=False)
    maya.opens("/products/enamel-mug")
    maya.presses("Add to basket")
    maya.page.wait_for_url("**/cart")
    maya.follows("Checkout")
    maya.fills_in()
    maya.presses("Pay €")
    maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")

    maya.pays()

    maya.sees("Confirming your payment")
    expect(maya.page.locator("noscript p")).to_contain_text("This page refreshes itself")
    maya.sees_paid(within_s=8)
    expect(maya.page.locator("meta[http-equiv=refresh]")).to_have_count(0)


@pytest.mark.accept("X18")
def test_with_the_keyboard_alone_one_can_buy_and_see_paid(shop: DemoShop, visit: Visit):
    maya = visit(shop)
    maya.opens("/")
    press = maya.page.keyboard.press

    def goes_to(name: str) -> None:
        for _ in range(MOST_TABS):
            press("Tab")
            focus = maya.page.evaluate(FOCUS)
            assert focus["ring"], f"the focus on {focus['name']!r} cannot be seen"
            if focus["name"].startswith(name):
                return
        raise AssertionError(f"no {name!r} within {MOST_TABS} tabs on {maya.page.url}")

    goes_to("Enamel mug")
    press("Enter")
    maya.page.wait_for_url("**/products/enamel-mug")
    goes_to("Add to basket")
    press("Enter")
    expect(maya.page.get_by_role("heading", name="In your basket")).to_be_focused()
    goes_to("Checkout")
    press("Enter")
    maya.page.wait_for_url("**/checkout")
    for label, text in (
        ("E-mail", "maya@example.com"),
        ("Full name", "Maya Lindqvist"),
        ("Street and number", "Sonnenallee 12"),
        ("Postal code", "12047"),
        ("City", "Berlin"),
    ):
        goes_to(label)
        maya.page.keyboard.type(text)
    goes_to("Pay €")
    press("Enter")
    maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")
    goes_to("Card number")
    maya.page.keyboard.type(GOOD_CARD)
    press("Enter")

    maya.sees_paid()


def test_no_page_scrolls_sideways_on_a_phone(shop: DemoShop, visit: Visit, admin_state: Any):
    """Every page there is, with names and addresses as long as they may be."""
    maya = visit(shop, **PHONE)
    maya.expected += ["404 (", "422 ("]
    wide: list[str] = []

    def looks(path: str | None = None) -> None:
        if path:
            maya.opens(path)
        # Waited for, because a page that is just being left has no width to ask for.
        page = maya.page.wait_for_function(
            "document.readyState === 'complete'"
            " && [document.documentElement.scrollWidth, innerWidth]"
        ).json_value()
        if page[0] > page[1]:
            wide.append(f"{maya.page.url} is {page[0]} px wide")

    long = {
        "name": "Maximiliane Adelgunde von und zu Hohenlohe-Bartenstein-Jagstberg",
        "email": f"{'a.very.long.address' * 3}@{'subdomain.' * 8}example.com",
        "line1": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtenweg 12",
        "city": "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
    }
    for path in ("/", "/products/print-club", "/cart", "/orders", "/orders/find", "/nowhere",
                 "/dev/mailbox", "/admin/login", f"{shop.sandbox}/_sandbox/"):  # fmt: skip
        looks(path)
    maya.puts_in_basket("wool-blanket")
    looks("/cart")
    looks("/checkout")
    maya.presses("Pay €")
    maya.sees("another look")
    looks()  # the form with everything marked
    maya.fills_in(**long)
    maya.presses("Pay €")
    maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")
    looks()
    maya.pays(DECLINED_CARD)
    maya.sees("declined")
    looks()
    looks(maya.page.get_by_role("link", name="Back to the shop").get_attribute("href"))
    looks("/cart")
    maya.presses("Continue to payment")
    maya.pays()
    maya.sees_paid()
    looks()
    shop.stripe_is_silent()
    maya.buys("fountain-pen", **long)
    maya.sees("Confirming your payment")
    looks()
    shop.chaos(clear=True)
    maya.page.reload()
    maya.sees_paid()
    looks("/orders")
    looks("/dev/mailbox")
    maya.page.locator("main a").first.click()
    maya.page.wait_for_url("**/dev/mailbox/*")
    looks()

    looks("/admin/login?token=from-a-link")
    maya.context.clear_cookies()
    maya.context.add_cookies(admin_state["cookies"])
    for path in (
        "/admin/orders",
        "/admin/orders?q=nothing",
        "/admin/exceptions",
        "/admin/webhooks",
        "/admin/webhook-setup",
        "/admin/jobs",
        "/admin/health",
        "/admin/account",
        "/admin/people",
        "/admin/settings",
        f"/admin/settings?email={long['email']}",
        "/admin/settings?email=maya",
    ):
        looks(path)
    maya.presses("Save settings")
    maya.sees("Nothing was saved")
    looks()  # without a reason
    maya.opens("/admin/orders")
    maya.page.locator("#admin-order-rows a").first.click()
    maya.page.wait_for_url("**/admin/orders/*")
    looks()

    assert wide == []
