"""The admin's side of the counter."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


@pytest.fixture
def admin(shop: DemoShop, visit: Visit, admin_state: Any) -> Visitor:
    """Somebody who is signed in."""
    return visit(shop, storage_state=admin_state)


def test_the_link_that_the_shop_prints_signs_in_once(shop: DemoShop, visit: Visit):
    owner, thief = visit(shop), visit(shop)
    thief.expected.append("403 (")

    owner.opens(shop.admin_link)
    owner.presses("Sign in")
    owner.page.wait_for_url("**/admin/orders")
    thief.opens(shop.admin_link)
    thief.presses("Sign in")

    assert owner.headline == "Orders"
    thief.sees("This link has been used or is too old.")
    thief.opens("/admin/orders")
    assert thief.page.url.endswith("/admin/login")


@pytest.mark.accept("V16", "V29")
def test_an_admin_sees_the_order_its_payment_and_how_it_came_about(
    shop: DemoShop, visit: Visit, admin: Visitor
):
    maya = visit(shop)
    session_id = maya.buys("linen-apron", email="apron@example.com")
    maya.sees_paid()
    order = maya.order(session_id)

    admin.opens("/admin/orders")
    row = admin.page.get_by_role("row", name=order["number"])
    for words in ("Maya Lindqvist", "apron@example.com", "1 × Linen apron", "€52.90", "Paid"):
        expect(row).to_contain_text(words)
    row.get_by_role("link").click()

    expect(admin.page.get_by_role("heading", name="Shop and Stripe agree")).to_be_visible()
    page = admin.page.locator("main")
    for words in ("Linen apron", "€48.00", "€52.90", "Visa", "Sonnenallee 12", "To pack"):
        expect(page).to_contain_text(words)
    for stripe_id in (session_id, order["paymentIntentId"]):
        expect(admin.page.get_by_title(stripe_id).first).to_be_visible()
    timeline = admin.page.get_by_role("region", name="Timeline")
    for words in ("Order is payment confirmed, was pending payment", "Payment seen"):
        expect(timeline).to_contain_text(words)


def test_sync_now_asks_stripe_and_says_what_came_of_it(
    shop: DemoShop, visit: Visit, admin: Visitor
):
    shop.chaos(drop_pct=100)
    maya = visit(shop)
    session_id = maya.goes_to_payment(email="unseen@example.com")
    order = maya.order(session_id)
    shop.tell("pay", session=session_id)
    admin.opens(f"/admin/orders/{order['id']}")
    expect(admin.page.locator("main")).to_contain_text("Not paid yet")

    admin.presses("Sync now")

    admin.sees("Asked Stripe: brought up to date")
    expect(admin.page.locator("main")).to_contain_text("Paid")
    expect(admin.page.get_by_role("status")).to_contain_text("brought up to date")
    admin.presses("Sync now")
    admin.sees("Asked Stripe, nothing new")
    assert maya.order(session_id)["paymentStatus"] == "paid"


@pytest.mark.accept("D17")
def test_one_press_syncs_everything_open_and_the_list_shows_it(
    shop: DemoShop, visit: Visit, admin: Visitor
):
    shop.chaos(drop_pct=100)
    maya = visit(shop)
    session_id = maya.goes_to_payment(email="unheard@example.com")
    number = maya.order(session_id)["number"]
    shop.tell("pay", session=session_id)
    admin.opens("/admin/orders?q=unheard")
    row = admin.page.get_by_role("row", name=number)
    expect(row).to_contain_text("Not paid yet")

    admin.presses("Sync with Stripe")

    expect(row).to_contain_text("Paid")
    expect(row).not_to_contain_text("Not paid yet")
    result = re.compile(r"[1-9]\d* synced, 0 failed, \d+ skipped")
    expect(admin.page.locator("#admin-orders")).to_contain_text(result)
    expect(admin.page.get_by_role("status")).to_have_text(result)
    expect(admin.page.get_by_role("button", name="Sync with Stripe")).to_be_focused()


@pytest.mark.accept("D33", "D34")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_flag_is_switched_seen_everywhere_and_undone(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    owner = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    owner.expected.append("422 (")
    owner.opens("/admin/settings")
    owner.page.get_by_role("group", name="Background sync").get_by_label("Off").check()
    owner.presses("Save settings")
    if scripts:
        expect(owner.page.get_by_role("alert").filter(has_text="look")).to_be_focused()
    owner.follows("Say why")
    owner.page.get_by_label("Why do you change this?").fill("the clock looks slow")
    owner.presses("Save settings")

    owner.sees("Saved. It counts from the next checkout on.")
    owner.opens("/admin/orders")
    owner.sees("Background sync is switched off.")
    owner.follows("See to it")
    owner.presses("Undo")
    owner.sees("Undone.")
    expect(owner.page.get_by_text("Background sync is switched off.")).to_have_count(0)
    expect(owner.page.locator("#background_sync")).to_be_checked()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_address_is_answered_with_its_strategy_and_why(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    owner = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    owner.opens("/admin/settings")
    owner.page.get_by_label("Why do you change this?").fill("half a sentence")
    owner.page.get_by_label("A shopper’s e-mail address").fill("maya@example.com")

    owner.presses("Which strategy, and why?")

    owner.sees("Because everybody gets order-first")
    expect(owner.page.locator("#admin-shopper")).to_contain_text(
        "maya@example.com gets order-first"
    )
    if scripts:  # what was typed elsewhere on the page stays
        expect(owner.page.get_by_label("Why do you change this?")).to_have_value("half a sentence")
        expect(owner.page.get_by_role("status")).to_have_text("maya@example.com gets order-first")


def test_search_finds_an_order_by_all_its_names_while_one_types(
    shop: DemoShop, visit: Visit, admin: Visitor
):
    maya = visit(shop)
    session_id = maya.buys("beeswax-candle", name="Ole Søndergård", email="candle@example.com")
    maya.sees_paid()
    order = maya.order(session_id)
    admin.opens("/admin/orders")
    rows = admin.page.locator("#admin-order-rows tbody tr")
    search = admin.page.get_by_role("searchbox")

    search.fill("nobody at all")
    admin.sees("No order matches “nobody at all”")
    for text in (order["number"], "candle@", "søndergård", session_id, order["paymentIntentId"]):
        with admin.page.expect_response(re.compile(f"q={quote(text)}$")):
            search.fill(text)
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text(order["number"])

    expect(search).to_be_focused()
    expect(admin.page).to_have_url(re.compile("q=pi_"))


def test_the_stored_events_can_be_read(shop: DemoShop, visit: Visit, admin: Visitor):
    maya = visit(shop)
    maya.buys()
    maya.sees_paid()

    admin.opens("/admin/webhooks")
    row = admin.page.get_by_role("row", name="payment_intent.succeeded").first
    while "Waiting" in row.inner_text():
        admin.page.reload()
    expect(row).to_contain_text("Done")
    admin.opens("/admin/exceptions")
    assert admin.headline == "Exceptions"


@pytest.mark.accept("D41", "X14")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_engine_room_shows_how_the_shop_is_and_checks_its_books(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    maya = visit(shop)
    maya.buys()
    maya.sees_paid()
    owner = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    owner.opens("/admin/orders")
    owner.follows("Health")

    owner.presses("Check the books now")

    owner.sees("They agree")
    assert owner.headline == "Health"
    line = owner.page.get_by_role("img", name="Orders in step with Stripe: between")
    expect(line).to_be_visible()
    owner.page.get_by_text("As a table").first.click()
    expect(owner.page.get_by_role("table", name="Orders in step with Stripe")).to_be_visible()
    owner.follows("Jobs")
    owner.sees("Worker alive")
    owner.sees("Clock alive")
    expect(owner.page.get_by_role("table", name="Workers at the queue")).to_contain_text("embedded")
    owner.sees("None failed in the last seven days")
