"""Every page of the counter, found in the shop's own map: nothing on it keeps anybody out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from app import create_app
from tests.browser.conftest import DemoShop, Visitor
from tests.shop import settings_for

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RUN = """async (rules) => {
  const all = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const told = await axe.run(document, {runOnly: rules ?? all});
  return told.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`);
}"""
# What may change by night or where it is narrow: all else is looked at once.
LOOKS = {"type": "rule", "values": ["color-contrast", "target-size"]}
WIDE = "[document.documentElement.scrollWidth, innerWidth]"
WIDTHS = (1280, 390)
# Pages that are no pages, and what a page needs to be worth a look.
NO_PAGE = {
    "/admin",
    "/admin/login",
    "/admin/order-changes",
    "/admin/orders/<order_id>/person",  # a download
    "/admin/products.csv",
}
MORE = (
    "/admin/login",
    "/admin/orders?payment=paid&least=10",
    "/admin/orders?q=nothing+like+it",
    "/admin/orders?view=refunds",
    "/admin/exceptions?view=healed",
    "/admin/health?span=week",
    "/admin/settings?email=maya",
)


def pages(folder: Path) -> list[str]:
    """The address of every page at the counter, with the places that are to be filled."""
    app = create_app(settings_for(f"sqlite:///{folder}/map.db", 9))
    found = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("admin.") and "GET" in (rule.methods or ())
    }
    return sorted(found - NO_PAGE)


def test_no_page_of_the_counter_fails_the_rules_for_access(
    shop: DemoShop, visit: Visit, admin_state: Any, tmp_path: Path
) -> None:
    """Wide and narrow, by day and by night; one page is loaded once."""
    maya = visit(shop)
    session_id = maya.buys(email="axe@example.com")
    maya.sees_paid()
    order = maya.order(session_id)["id"]
    maya.goes_to_payment(email="axe@example.com")
    admin = visit(shop, storage_state=admin_state)
    admin.opens(f"/admin/orders/{order}")
    admin.page.locator("#note").fill("Called.")
    admin.presses("Keep note")
    admin.opens("/admin/webhooks")
    event = admin.page.locator("tbody tr").first.get_attribute("id") or ""
    places = {"order_id": order, "event_id": event, "sku": "MUG-FOR-35"}
    ticked = {
        "/admin/order-shipments": f"?order={order}",
        "/admin/packing-slips": f"?order={order}",
    }
    admin.expected.append("422 (")
    broken: dict[str, list[str]] = {}
    looked = 0

    for rule in (*pages(tmp_path), *MORE):
        path = re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", lambda found: places[found[1]], rule)
        answer = admin.opens(path + ticked.get(path, ""))
        assert answer and answer.status in (200, 422), (path, answer and answer.status)
        admin.page.evaluate(AXE)
        for width in WIDTHS:
            admin.page.set_viewport_size({"width": width, "height": 844})
            if rule == "/admin/orders":
                admin.page.locator(".tick").first.set_checked(width == WIDTHS[0])
            for scheme in ("light", "dark"):
                admin.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                found = admin.page.evaluate(
                    RUN, None if (width, scheme) == (WIDTHS[0], "light") else LOOKS
                )
                wide, window = admin.page.evaluate(WIDE)
                found += [f"{wide} px wide"] if wide > window else []
                looked += 1
                if found:
                    broken[f"{path} {width} {scheme}"] = found

    assert broken == {}
    assert looked >= 4 * 25


@pytest.mark.accept("X18")
def test_with_keys_alone_an_order_is_found_and_a_line_of_it_refunded(
    shop: DemoShop, visit: Visit, admin_state: Any
) -> None:
    """One field finds it; from the list it is three acts: R, Space, Enter."""
    maya = visit(shop)
    session_id = maya.buys(email="three.acts@example.com")
    maya.sees_paid()
    number = maya.order(session_id)["number"]
    admin = visit(shop, storage_state=admin_state)
    press, page = admin.page.keyboard.press, admin.page
    admin.opens("/admin/health")
    press("g")
    press("o")
    page.wait_for_url("**/admin/orders")

    press("/")
    page.keyboard.type("three.acts@")
    expect(page.locator("tbody tr")).to_have_count(1)
    press("Escape")
    page.locator("#find").evaluate("node => node.blur()")
    press("j")
    expect(page.get_by_role("link", name=number)).to_be_focused()
    press("r")
    expect(page.get_by_label("Enamel mug")).to_be_focused()
    press("Space")
    press("Enter")

    admin.sees("Refund of €18.00 on its way.")
    press("n")
    expect(page.locator("#note")).to_be_focused()
    page.keyboard.type("It was a gift.")
    press("Control+Enter")
    admin.sees("Your note is kept.")
    press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.get_by_label("Single keys do this").uncheck()
    press("Escape")
    press("g")
    press("h")
    page.wait_for_timeout(100)
    assert "/admin/orders/" in page.url, "keys that are off do nothing"
    page.evaluate("localStorage.clear()")


def test_the_list_changes_under_ones_eyes_and_keeps_what_is_ticked(
    shop: DemoShop, visit: Visit, admin_state: Any
) -> None:
    maya = visit(shop)
    session_id = maya.goes_to_payment(email="live@example.com")
    order = maya.order(session_id)["id"]
    admin = visit(shop, storage_state=admin_state)
    admin.page.clock.install()
    asked: list[str] = []
    admin.page.on("request", lambda sent: asked.append(sent.url))
    admin.opens("/admin/orders")
    row = admin.page.locator(f"#o-{order}")
    row.locator(".tick").check()
    expect(row).to_contain_text("Not paid yet")
    top = row.bounding_box()
    maya.pays()
    maya.sees_paid()
    asked.clear()

    admin.page.clock.fast_forward(16_000)

    expect(row).to_contain_text("Paid")
    expect(row).to_contain_text("To pack")
    expect(row.locator(".tick")).to_be_checked()
    assert row.bounding_box() == top, "nothing jumps"
    assert [url.partition("?")[0].rpartition("/")[2] for url in asked] == ["order-changes"]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_what_is_ticked_is_shipped_together(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
) -> None:
    maya = visit(shop)
    orders = []
    for _ in range(2):
        session_id = maya.buys(email=f"together{scripts}@example.com".lower())
        maya.sees_paid()
        orders.append(maya.order(session_id)["id"])
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)

    admin.opens(f"/admin/orders?q=together{scripts}@example.com".lower())
    for order in orders:
        admin.page.locator(f"#o-{order} .tick").check()
    expect(admin.page.locator(".bulk")).to_be_visible()
    admin.page.locator(".bulk").get_by_role("button", name="Ship").click()
    admin.page.get_by_label(re.compile("Tracking number of")).first.fill("00340 9")
    admin.presses("Ship all 2")

    admin.sees("2 sent, 0 failed, 0 skipped")
