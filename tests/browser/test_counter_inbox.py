"""What needs a person, and the inbox, before a real browser: with scripts and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


@pytest.mark.accept("X16", "X17", "D32")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_exception_is_seen_to_and_that_is_undone(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    maya = visit(shop)
    session_id = maya.goes_to_payment(email=f"odd{scripts}@example.com")
    order = maya.order(session_id)
    shop.tell("pay", session=session_id, card="wrong_amount")
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    card = admin.page.get_by_role("region", name=f"for {order['number']}")
    for _ in range(20):
        admin.opens("/admin/exceptions")
        if card.count():
            break
        admin.page.wait_for_timeout(250)

    expect(card).to_contain_text("which is not what was due")
    card.get_by_text("Mark as seen to").click()
    card.get_by_label("What was done about it?").fill("Sent back by bank transfer")
    card.get_by_role("button", name="Seen to", exact=True).click()
    admin.sees("Seen to. It stands under")
    expect(card).to_have_count(0)
    admin.presses("Undo")

    admin.sees("Open again.")
    expect(card).to_have_count(1)


@pytest.mark.accept("X16", "X17")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_event_is_found_rehearsed_and_replayed(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    maya = visit(shop)
    session_id = maya.buys(email=f"again{scripts}@example.com")
    maya.sees_paid()
    order = maya.order(session_id)
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)

    admin.opens("/admin/webhooks")
    admin.page.get_by_label("Find events by their id").fill(order["number"])
    admin.presses("Find")
    row = admin.page.get_by_role("row", name="checkout.session.completed")
    expect(row).to_contain_text(order["number"])
    row.get_by_role("checkbox").check()
    admin.presses("What would it change?")
    admin.sees("Nothing: all that it says is known here already.")
    admin.presses("Replay it")

    admin.sees("One event is applied again.")
    admin.opens("/admin/webhook-setup")
    admin.sees("Does Stripe’s news reach us?")
