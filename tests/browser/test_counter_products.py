"""Goods at the counter, before a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FILE = b"sku,title,price_eur,received\nCDL-BEE-20,Beeswax candle,15.00,5\n"


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_product_is_priced_counted_and_archived(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    admin.expected += ["422 ("]
    admin.opens("/admin/products?q=blanket")
    admin.follows("Wool blanket")
    page, main = admin.page, admin.page.locator("main")

    page.locator("#price_eur").fill("119,50" if scripts else "119")
    admin.presses("Save")
    admin.sees("One thing needs another look. Nothing was saved")
    expect(page.locator("#price_eur")).to_have_value("119,50" if scripts else "119")
    page.locator("#reason").fill("wool is dearer")
    admin.presses("Save")
    admin.sees("Saved.")
    page.locator("#receive-units").fill("3")
    page.locator("#receive-reason").fill("a parcel")
    admin.presses("Book as received")
    admin.sees("3 received.")
    if scripts:
        expect(page.get_by_role("button", name="Book as received")).to_be_focused()
    page.locator("#correct-on_hand").fill("17")
    page.locator("#correct-reason").fill("moths")
    admin.presses("Correct")
    admin.sees("Corrected.")
    expect(main).to_contain_text(": moths")
    page.locator("#sale-reason").fill("summer")
    admin.presses("Archive")
    admin.sees("Archived. Its page stays")
    page.locator("#sale-reason").fill("winter")
    admin.presses("Bring back")
    admin.sees("Back in the shop.")

    expect(main).to_contain_text("For sale")
    expect(main).to_contain_text("Changed: wool is dearer")


def test_typing_finds_products_without_a_press(shop: DemoShop, visit: Visit, admin_state: Any):
    admin = visit(shop, storage_state=admin_state)
    admin.opens("/admin/products")

    admin.page.get_by_label("Find a product").fill("fountain")

    expect(admin.page.get_by_role("row", name="Fountain pen")).to_be_visible()
    expect(admin.page.get_by_role("row")).to_have_count(2)
    expect(admin.page.get_by_role("status")).to_have_text("1 product on this page")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_file_is_looked_at_and_then_imported(
    shop: DemoShop, visit: Visit, admin_state: Any, scripts: bool
):
    admin = visit(shop, storage_state=admin_state, java_script_enabled=scripts)
    admin.opens("/admin/products")
    admin.follows("Import")
    content = FILE if scripts else FILE.replace(b"15.00", b"13.50")
    chosen: Any = {"name": "goods.csv", "mimeType": "text/csv", "buffer": content}
    admin.page.locator("#file").set_input_files(files=[chosen])

    admin.presses("Look what it does")
    admin.sees("What goods.csv would do")
    admin.presses("Import exactly this")

    admin.sees("Imported: 0 new, ")
    admin.opens("/admin/products/CDL-BEE-20")
    expect(admin.page.locator("main")).to_contain_text("Changed by a file: imported from goods.csv")


def test_no_page_of_the_goods_scrolls_sideways_on_a_phone(
    shop: DemoShop, visit: Visit, admin_state: Any
):
    """With a sku, a title and reasons as long as they may be."""
    admin = visit(shop, storage_state=admin_state, **PHONE)
    admin.expected += ["422 ("]
    wide: list[str] = []

    def looks() -> None:
        page = admin.page.wait_for_function(
            "document.readyState === 'complete'"
            " && [document.documentElement.scrollWidth, innerWidth]"
        ).json_value()
        if page[0] > page[1]:
            wide.append(f"{admin.page.url} is {page[0]} px wide")

    long = {"sku": "S" * 64, "title": "Donaudampfschiff" * 7, "category": "C" * 60,
            "price_eur": "21474836.47", "price_jpy": "2147483647", "units": "1000000"}  # fmt: skip
    admin.opens("/admin/new-product")
    looks()
    for name, text in long.items():
        admin.page.locator(f"#{name}").fill(text)
    admin.presses("Add product")
    admin.sees("Added. It is in the shop now.")
    admin.page.locator("#receive-units").fill("1000000")
    admin.page.locator("#receive-reason").fill("W" * 150)
    admin.presses("Book as received")
    admin.sees("1,000,000 received.")
    looks()
    for path in ("/admin/products", "/admin/products?view=archived", "/admin/product-imports"):
        admin.opens(path)
        looks()
    longest = f"sku,title,description\n{'S' * 64},{'T' * 120},{'D' * 4000}\n".encode()
    for name, content in (("w" * 200 + ".csv", longest), ("x.csv", b"sku,title," + b"y" * 200)):
        chosen: Any = {"name": name, "mimeType": "text/csv", "buffer": content}
        admin.page.locator("#file").set_input_files(files=[chosen])
        admin.presses("Look what it does")
        looks()

    assert wide == []
