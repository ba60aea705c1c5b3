"""Paying with Stripe's fields on a page of the shop, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import FrameLocator, expect

from tests.browser.conftest import DemoShop, Visitor, opened

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def own_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoShop]:
    folder = tmp_path_factory.mktemp("own")
    with opened(folder, PAYMENT_UI="elements", ORDER_STRATEGY="dual_track") as shop:
        yield shop
        assert shop.check()["violations"] == []


def _goes_to_pay(visitor: Visitor, slug: str = "enamel-mug") -> str:
    visitor.puts_in_basket(slug)
    visitor.fills_in()
    visitor.presses("Pay")
    visitor.page.wait_for_url("**/checkout/pay/*")
    expect(visitor.page.locator("#pay-now")).to_be_enabled()
    return visitor.page.url.rsplit("/", 1)[-1]


def _fields(visitor: Visitor) -> FrameLocator:
    return visitor.page.frame_locator("#pay-fields iframe")


def _pays(visitor: Visitor, card: str) -> None:
    _fields(visitor).get_by_role("button", name=card, exact=True).click()
    visitor.page.locator("#pay-now").click()


@pytest.mark.accept("A26", "D1", "D20", "O18")
def test_a_card_on_our_own_page_is_paid_and_the_browser_keeps_one_id(
    own_shop: DemoShop, visit: Visit
):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya)
    assert "NL-" not in maya.page.locator("main").inner_text()

    _pays(maya, "Pays")
    maya.page.wait_for_url(f"**/order-success/{order_id}*")
    maya.sees_paid()

    kept = maya.page.evaluate("[Object.entries(sessionStorage), Object.entries(localStorage)]")
    assert kept == [[["checkoutAttemptId", order_id]], []]
    order = maya.context.request.get(f"/api/orders/{order_id}").json()
    assert (order["paymentStatus"], order["sessionId"]) == ("paid", None)


@pytest.mark.accept("A27")
def test_who_comes_back_without_a_word_is_led_to_the_order(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya)
    _pays(maya, "Pays")
    maya.sees_paid()

    maya.expected.append("404 (")
    maya.opens("/payment/success")

    maya.page.wait_for_url(f"**/order-success/{order_id}")
    maya.sees_paid()


@pytest.mark.accept("X3")
def test_a_decline_is_said_beside_the_fields_and_another_card_pays(
    own_shop: DemoShop, visit: Visit
):
    maya = visit(own_shop)
    maya.expected.append("402 (")
    order_id = _goes_to_pay(maya, "canvas-tote")

    _pays(maya, "Not enough funds")
    trouble = maya.page.locator("#pay-trouble")
    expect(trouble).to_be_visible()
    expect(trouble).to_contain_text("insufficient funds")
    maya.page.reload()
    expect(maya.page.locator("#pay-now")).to_be_enabled()

    _pays(maya, "Pays")
    maya.page.wait_for_url(f"**/order-success/{order_id}*")
    maya.sees_paid()


def test_a_bank_that_asks_first_leads_there_and_back(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, "coffee-beans")

    _pays(maya, "Bank asks first")
    maya.page.wait_for_url(f"{own_shop.sandbox}/c/bank/*")
    maya.page.get_by_role("button").first.click()

    maya.page.wait_for_url(f"**/order-success/{order_id}*")
    maya.sees_paid()


def test_a_reload_after_paying_shows_the_order_and_not_the_fields(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya)
    _pays(maya, "Pays")
    maya.sees_paid()

    maya.opens(f"/checkout/pay/{order_id}")

    maya.page.wait_for_url(f"**/orders/{order_id}")
    maya.sees_paid()


def test_without_scripts_the_page_leads_to_the_hosted_one(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop, java_script_enabled=False)
    maya.puts_in_basket("dot-notebook")
    maya.fills_in()
    maya.presses("Pay")
    maya.page.wait_for_url("**/checkout/pay/*")
    assert "needs JavaScript" in maya.page.locator("main").inner_text()

    maya.presses("Pay on a separate page instead")
    maya.page.wait_for_url(f"{own_shop.sandbox}/c/pay/*")
    maya.pays()

    maya.sees_paid()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_pay_page_does_not_scroll_sideways(own_shop: DemoShop, visit: Visit, width: int):
    maya = visit(own_shop, viewport={"width": width, "height": 844})
    _goes_to_pay(maya)

    sizes = maya.page.evaluate("JSON.stringify([document.documentElement.scrollWidth, innerWidth])")

    assert json.loads(sizes)[0] <= json.loads(sizes)[1]
