"""Subscribing on a page of the shop, alone and beside other things, in a real browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.conftest import DemoShop, Visitor, opened

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]

MUG, COFFEE, PRINTS = "enamel-mug", "monthly-coffee", "print-club"
ASKS_WHO_IS_THERE = "4000 0025 0000 3155"  # saved with the bank's yes, it is charged without asking


@pytest.fixture(scope="module")
def own_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoShop]:
    folder = tmp_path_factory.mktemp("plans")
    with opened(folder, PAYMENT_UI="elements", ORDER_STRATEGY="dual_track") as shop:
        yield shop
        assert shop.check()["violations"] == []


def _goes_to_pay(visitor: Visitor, *slugs: str) -> str:
    for count, slug in enumerate(slugs, 1):
        visitor.opens(f"/products/{slug}")
        visitor.presses("Add to basket")
        expect(visitor.page.locator("#basket-count")).to_contain_text(str(count))
    visitor.follows("Checkout")
    visitor.fills_in()
    visitor.page.locator("#checkout-form button.go").click()
    visitor.page.wait_for_url("**/checkout/pay/*")
    _is_ready(visitor.page)
    return visitor.page.url.rsplit("/", 1)[-1]


def _is_ready(page: Page) -> None:
    expect(page.locator("#pay-now")).to_be_enabled()


def _fields(page: Page) -> FrameLocator:
    return page.frame_locator("#pay-fields iframe")


def _button(page: Page) -> str:
    return page.locator("#pay-now").inner_text().strip()


def _enters(page: Page, card: str) -> None:
    """A test card by its button's name, or a number."""
    if card[0].isdigit():
        _fields(page).get_by_label("Card number").fill(card)
    else:
        _fields(page).get_by_role("button", name=card, exact=True).click()


def _presses(page: Page, card: str) -> None:
    _enters(page, card)
    page.locator("#pay-now").click()


def _answers_the_bank(visitor: Visitor, answer: str = "Yes") -> None:
    visitor.page.wait_for_url(f"{visitor.shop.sandbox}/c/bank/*")
    visitor.page.get_by_role("button", name=re.compile(f"^{answer}")).click()


def _is_led_to(visitor: Visitor, order_id: str) -> None:
    visitor.page.wait_for_url(f"**/order-success/{order_id}*")


def _order(visitor: Visitor, order_id: str, *, until: str = "paid") -> dict[str, Any]:
    """The order as the API shows it, as soon as its payment status is ``until``."""
    for _ in range(100):
        order: dict[str, Any] = visitor.context.request.get(f"/api/orders/{order_id}").json()
        if order["paymentStatus"] == until:
            return order
        time.sleep(0.1)
    raise AssertionError(order)


def _ledger(visitor: Visitor, kind: str, order_id: str) -> list[dict[str, Any]]:
    """What Stripe has of this order."""
    told = visitor.context.request.get(f"{visitor.shop.sandbox}/_sandbox/ledger").json()
    return [row for row in told[kind] if order_id in json.dumps(row)]


def _plan(visitor: Visitor, order_id: str, status: str) -> None:
    """Stripe has one subscription for this order, and it comes to be ``status``."""
    for _ in range(100):
        found = [row["status"] for row in _ledger(visitor, "subscriptions", order_id)]
        if found == [status]:
            return
        time.sleep(0.1)
    raise AssertionError(found)


def test_a_subscription_alone_is_paid_with_the_card_that_is_saved(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, COFFEE)
    assert maya.headline == "Pay €12.00"
    assert _button(maya.page) == "Pay €12.00 now, and subscribe"
    maya.sees("Then €12.00 every month, first on")

    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "active")


def test_a_trial_begins_with_nothing_to_pay(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, PRINTS)
    assert _button(maya.page) == "Save card and start trial"
    maya.sees("Nothing is charged today. After 14 days free, €9.00 every month, first on")

    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["total"] == 0
    _plan(maya, order_id, "trialing")


@pytest.mark.accept("A13", "A26", "O18")
@pytest.mark.parametrize(
    ("plan", "says", "status"),
    [
        (COFFEE, "Pay €34.90 now, and subscribe", "active"),
        (PRINTS, "Pay €22.90 now, and subscribe", "trialing"),
    ],
)
def test_a_mixed_basket_is_bought_with_one_card_and_one_press(
    own_shop: DemoShop, visit: Visit, plan: str, says: str, status: str
):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, plan)
    assert _button(maya.page) == says

    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    kept = maya.page.evaluate("[Object.entries(sessionStorage), Object.entries(localStorage)]")
    assert kept == [[["checkoutAttemptId", order_id]], []]
    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, status)


@pytest.mark.accept("A28")
def test_the_bank_asks_at_each_step_and_leads_back_to_it(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    _presses(maya.page, ASKS_WHO_IS_THERE)
    _answers_the_bank(maya)
    maya.page.wait_for_url(f"**/checkout/pay/{order_id}")
    _is_ready(maya.page)
    assert _button(maya.page) == "Pay €22.90 with saved card"
    maya.sees("Nothing has been charged yet")
    assert _order(maya, order_id, until="pending")["total"] == 3490

    maya.page.reload()
    _is_ready(maya.page)
    assert _button(maya.page) == "Pay €22.90 with saved card"
    maya.page.locator("#pay-now").click()
    _answers_the_bank(maya)
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "active")


def test_a_no_at_the_second_step_leaves_the_card_saved(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    _presses(maya.page, ASKS_WHO_IS_THERE)
    _answers_the_bank(maya)
    maya.page.wait_for_url(f"**/checkout/pay/{order_id}")
    maya.page.locator("#pay-now:enabled").click()
    _answers_the_bank(maya, "No")
    _is_led_to(maya, order_id)
    assert _order(maya, order_id, until="failed")["status"] == "pending_payment"

    maya.opens(f"/checkout/pay/{order_id}")
    _is_ready(maya.page)
    maya.presses("Pay with another card")
    _is_ready(maya.page)
    _presses(maya.page, "Pays")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "active")
    maya.opens(f"/checkout/pay/{order_id}")
    maya.page.wait_for_url(f"**/orders/{order_id}")


@pytest.mark.accept("V24")
def test_trying_again_after_a_no_enters_a_card_anew(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    maya.expected.append("402 (")
    order_id = _goes_to_pay(maya, MUG, COFFEE)
    _presses(maya.page, "Saved, never pays")
    expect(maya.page.locator("#pay-trouble")).to_contain_text("declined")

    maya.opens("/")
    token = maya.page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    retried = maya.context.request.post(
        f"/api/orders/{order_id}/retry-session", headers={"X-CSRFToken": token}
    )
    maya.page.goto(retried.json()["url"])
    _is_ready(maya.page)
    assert _button(maya.page) == "Pay €34.90 now, and subscribe"
    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "active")


def test_whoever_the_bank_does_not_know_may_enter_another_card(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    _presses(maya.page, "Bank asks")
    _answers_the_bank(maya, "No")
    maya.page.wait_for_url(f"**/checkout/pay/{order_id}")
    expect(maya.page.locator("#pay-trouble")).to_contain_text("unable to authenticate")
    _is_ready(maya.page)
    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "active")


@pytest.mark.accept("X3")
def test_a_card_that_cannot_be_saved_is_said_beside_the_fields(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    maya.expected.append("402 (")
    order_id = _goes_to_pay(maya, COFFEE)

    _presses(maya.page, "Declined")
    expect(maya.page.locator("#pay-trouble")).to_contain_text("declined")
    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    _plan(maya, order_id, "active")


@pytest.mark.accept("X3")
def test_a_saved_card_that_does_not_pay_gives_way_to_another(own_shop: DemoShop, visit: Visit):
    """The subscription stays on the first card, as the page says, and so its first payment is
    declined as well."""
    maya = visit(own_shop)
    maya.expected.append("402 (")
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    _presses(maya.page, "Saved, never pays")
    expect(maya.page.locator("#pay-trouble")).to_contain_text("declined")
    _is_ready(maya.page)
    assert _button(maya.page) == "Pay €22.90"
    maya.sees("Your subscription stays on the card that you saved first; €12.00 is charged")
    maya.presses("Pay with saved card")
    assert _button(maya.page) == "Pay €22.90 with •••• 0341"
    maya.page.reload()
    _is_ready(maya.page)
    assert "with saved card" in _button(maya.page)
    maya.presses("Pay with another card")
    _is_ready(maya.page)
    _presses(maya.page, "Pays")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"
    _plan(maya, order_id, "incomplete")


def test_a_card_that_is_saved_and_does_not_pay_leaves_the_order_unpaid(
    own_shop: DemoShop, visit: Visit
):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, COFFEE)

    _presses(maya.page, "Saved, never pays")
    _is_led_to(maya, order_id)

    _plan(maya, order_id, "incomplete")
    assert _order(maya, order_id, until="failed")["status"] == "pending_payment"
    maya.opens(f"/checkout/pay/{order_id}")  # the page is over: the order says what is to be done
    maya.page.wait_for_url(f"**/orders/{order_id}")


def test_a_bank_debit_is_saved_and_pays_later(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    _fields(maya.page).get_by_label("Bank debit").check()
    maya.page.locator("#pay-now").click()
    _is_led_to(maya, order_id)

    assert _order(maya, order_id, until="processing")["status"] == "pending_payment"
    assert _ledger(maya, "subscriptions", order_id) == []  # not before the rest is there


def test_while_stripe_is_silent_the_page_says_so_and_nothing_is_lost(
    own_shop: DemoShop, visit: Visit
):
    maya = visit(own_shop)
    maya.expected.append("503 (")
    order_id = _goes_to_pay(maya, MUG, COFFEE)

    own_shop.chaos(outage="503")
    maya.page.reload()
    expect(maya.page.locator("#pay-trouble")).to_contain_text("did not load")
    own_shop.chaos(clear=True)
    maya.page.reload()
    _is_ready(maya.page)
    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    assert _order(maya, order_id)["status"] == "payment_confirmed"


def test_a_second_tab_goes_on_where_the_first_one_is(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    maya.expected += ["400 (", "402 ("]
    order_id = _goes_to_pay(maya, MUG, COFFEE)
    first, second = maya.page, maya.context.new_page()
    second.goto(first.url)
    _is_ready(second)

    _presses(first, "Saved, never pays")  # saved there, and declined for the mug
    expect(first.locator("#pay-trouble")).to_contain_text("declined")
    _presses(second, "Is saved")
    expect(second.locator("#pay-label")).to_have_text("Pay €22.90 with saved card")
    _is_ready(second)  # nobody is charged on a card that was not chosen in this tab
    assert _order(maya, order_id, until="failed")["status"] == "pending_payment"

    _is_ready(first)
    _presses(first, "Pays")
    _is_led_to(maya, order_id)
    second.locator("#pay-now").click()
    second.wait_for_url(f"**/order-success/{order_id}*")
    assert _order(maya, order_id)["paymentStatus"] == "paid"
    paid = [row for row in _ledger(maya, "payments", order_id) if row["status"] == "succeeded"]
    assert len(paid) == 1


def test_once_the_rest_is_paid_the_page_asks_for_the_card_alone(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    order_id = _goes_to_pay(maya, MUG, COFFEE)
    secret = maya.page.locator("#pay-form").get_attribute("data-secret") or ""
    own_shop.tell("confirm", intent=secret.split("_secret_")[0])
    _order(maya, order_id)

    maya.page.reload()
    _is_ready(maya.page)
    assert maya.headline == "Save a card for your subscription"
    assert _button(maya.page) == "Pay €12.00 now, and subscribe"
    assert maya.page.get_by_role("button", name="separate page").count() == 0
    _presses(maya.page, "Is saved")
    _is_led_to(maya, order_id)

    _plan(maya, order_id, "active")


def test_without_scripts_a_mixed_basket_is_bought_on_stripes_page(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop, java_script_enabled=False)
    maya.opens("/products/enamel-mug")
    maya.presses("Add to basket")
    maya.puts_in_basket(COFFEE)
    maya.fills_in()
    maya.presses("Pay")
    maya.page.wait_for_url("**/checkout/pay/*")
    order_id = maya.page.url.rsplit("/", 1)[-1]
    assert "needs JavaScript" in maya.page.locator("main").inner_text()

    maya.presses("Pay on a separate page instead")
    maya.page.wait_for_url(f"{own_shop.sandbox}/c/pay/*")
    maya.pays()
    maya.page.wait_for_url("**/checkout/success?*")

    assert _order(maya, order_id)["status"] == "payment_confirmed"


def test_an_embedded_checkout_sells_a_mixed_basket(own_shop: DemoShop, visit: Visit):
    maya = visit(own_shop)
    maya.opens("/")
    order_id = maya.page.evaluate(_EMBEDDED)
    maya.opens(f"/checkout/pay/{order_id}")
    assert maya.headline == "Pay €34.90"

    frame = maya.page.frame_locator("#pay-fields iframe")
    frame.locator("#number").fill("4242 4242 4242 4242")
    frame.get_by_role("button", name=re.compile("^(Pay|Subscribe)")).first.click()
    maya.page.wait_for_url("**/checkout/success?*")

    assert _order(maya, order_id)["status"] == "payment_confirmed"


_EMBEDDED = """async () => {
  const token = document.querySelector("meta[name=csrf-token]").content;
  const body = {
    contact: {name: "Maya Lindqvist", email: "maya@example.com"},
    shipping: {line1: "Sonnenallee 12", city: "Berlin", postalCode: "12047", country: "DE"},
    items: [{sku: "MUG-FOR-35", quantity: 1}, {sku: "COF-SUB-M", quantity: 1}],
    uiMode: "embedded",
  };
  const answer = await fetch("/api/checkout/create-session", {
    method: "POST", body: JSON.stringify(body),
    headers: {"Content-Type": "application/json", "X-CSRFToken": token},
  });
  return (await answer.json()).orderId;
}"""
