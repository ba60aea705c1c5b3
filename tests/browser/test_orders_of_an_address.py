"""Signing in by mail, as somebody does it who bought on another device."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


def test_on_another_device_the_mailed_link_shows_the_order_without_scripts(
    shop: DemoShop, visit: Visit
) -> None:
    laptop = visit(shop)
    laptop.buys(email="ida@example.com")
    laptop.sees_paid()

    phone = visit(shop, java_script_enabled=False, **PHONE)
    phone.expected.append("410 (")
    phone.opens("/orders")
    phone.page.locator("#email").fill("ida@example.com")
    phone.presses("Mail me a link")
    phone.sees("Look into your mailbox")
    link = phone.page.get_by_role("link", name="Sign in to see your orders").first

    def is_there() -> bool:
        phone.opens("/dev/mailbox")
        return link.is_visible()

    assert any(is_there() or phone.page.wait_for_timeout(300) for _ in range(40))
    link.click()
    found = re.search(r"https?://\S+/orders/sign-in\?token=[\w.~-]+", phone.page.content())
    assert found
    path = urlsplit(found[0])._replace(scheme="", netloc="").geturl()
    phone.opens(path)
    phone.sees("See all orders of this address?")
    phone.presses("Sign in")
    phone.page.wait_for_url("**/orders")
    expect(phone.page.get_by_role("heading", name=re.compile("NL-"))).to_have_count(1)
    phone.follows("See order")
    phone.sees("all set")

    phone.opens(path)
    phone.sees("This link has been used")
    phone.opens("/orders")
    phone.presses("Sign out everywhere")
    phone.sees("No orders in this browser yet")
