"""A file at the counter: looked at first, then applied exactly as it was seen."""

from __future__ import annotations

import io
import re
import time
from html import unescape

import pytest
from werkzeug.test import TestResponse

from models import AuditEntry, Product, StockMovement
from services import goods
from services.demo_goods import GOODS
from tests.counter.test_products import words
from tests.shop import MUG, Shop, Shopper

PAGE = "/admin/product-imports"
FILE = (
    "sku;title;price_eur;units;received\r\n"
    "MUG-FOR-35;Enamel cup;19,90;;24\r\n"
    "TRY-OAK-40;Wooden tray;39;;\r\n"
    'TEA-1;"Green ""tea"", <b>";7,50;30;\r\n'
).encode("utf-8-sig")


def upload(ada: Shopper, content: bytes, name: str = "autumn.csv") -> TestResponse:
    return ada.post(PAGE, {"file": (io.BytesIO(content), name)}, content_type="multipart/form-data")


def confirm(ada: Shopper, plan: TestResponse, **changes: str) -> TestResponse:
    hidden = dict(re.findall(r'name="(seen|name|content)" value="([^"]*)"', plan.text))
    fields = {name: unescape(value) for name, value in hidden.items()}
    return ada.post(f"{PAGE}/confirmations", {**fields, **changes})


def test_an_upload_shows_what_it_would_do_and_does_nothing(shop: Shop, ada: Shopper) -> None:
    plan = upload(ada, FILE)

    assert plan.status_code == 200
    said = words(plan)
    for shown in (
        "1 new, 1 changed, 24 units received, 1 as they are. Nothing is done yet.",
        "Title: Enamel mug → Enamel cup",
        "Price in EUR: €18.00 → €19.90",
        "+24 received",
        'Green "tea", <b>',
        "+30 on hand to start with",
        "line 4",
    ):
        assert shown in said, shown
    assert "<b>&#34;" not in plan.text and "&lt;b&gt;" in plan.text
    assert shop.count(Product) == len(GOODS) and shop.product(MUG).prices["eur"] == 1800


def test_confirming_applies_exactly_what_was_shown(shop: Shop, ada: Shopper) -> None:
    done = confirm(ada, upload(ada, FILE))

    assert done.location == "/admin/products"
    assert "Imported: 1 new, 2 changed." in ada.get("/admin/products").text
    mug, tea = shop.product(MUG), shop.product("TEA-1")
    assert (mug.title, mug.prices["eur"], mug.on_hand) == ("Enamel cup", 1990, 144)
    assert (tea.title, tea.on_hand) == ('Green "tea", <b>', 30)
    page = words(ada.get(f"/admin/products/{MUG}"))
    assert "Changed by a file: imported from autumn.csv" in page and "ada@example.com" in page
    assert shop.proves()


def test_confirming_twice_imports_once_and_shows_what_is_left(shop: Shop, ada: Shopper) -> None:
    plan = upload(ada, FILE)
    confirm(ada, plan)

    again = confirm(ada, plan)

    assert again.status_code == 409 and "Nothing was imported" in again.text
    assert "0 new, 0 changed, 24 units received" in words(again), "looked at anew"
    assert shop.product(MUG).on_hand == 144
    assert confirm(ada, again).status_code == 303, "and may be imported knowingly"
    assert shop.product(MUG).on_hand == 168


def test_what_changed_meanwhile_is_shown_before_anything_is_imported(
    shop: Shop, ada: Shopper
) -> None:
    plan = upload(ada, FILE)
    goods.add("bob@example.com", {"sku": "TEA-1", "title": "Bob’s tea", "price_eur": "1"})

    late = confirm(ada, plan)

    assert late.status_code == 409
    assert "Title: Bob’s tea → Green" in words(late)
    assert shop.product("TEA-1").title == "Bob’s tea" and shop.product(MUG).on_hand == 120


@pytest.mark.parametrize("content", ["", "%%%", "c2t1", "QUJD" * 50])
def test_a_confirmation_with_other_bytes_imports_nothing(
    shop: Shop, ada: Shopper, content: str
) -> None:
    answer = confirm(ada, upload(ada, FILE), content=content)

    assert answer.status_code == 422 and "Nothing was imported" in answer.text
    assert shop.product(MUG).on_hand == 120


def test_what_goes_out_comes_back_and_changes_nothing(shop: Shop, ada: Shopper) -> None:
    out = ada.get("/admin/products.csv")

    assert out.content_type == "text/csv; charset=utf-8"
    assert re.search(
        r'attachment; filename="products-[\d-]+\.csv"', out.headers["Content-Disposition"]
    )
    again = words(upload(ada, out.data))
    assert f"autumn.csv changes nothing All {len(GOODS)} lines are as the shop has them." in again
    assert "Import exactly this" not in again


BAD = {
    "two problems": (b"sku,title\n!,Tea\nA,\n", "Line 2: '!' is no sku"),
    "another separator": (b"sku\ttitle\nA\tTea\n", "Line 1: there is no column"),
    "a wrong column": (b"sku,title,colour\nA,Tea,red\n", "there is no column 'colour'"),
    "open quotes": (b'sku,title\nA,"Tea\n', "Line 2: this cannot be read as CSV"),
    "no text": (b"\x89PNG\r\n\x1a\n\0\0\xff", "not UTF-8"),
    "a workbook": (b"PK\x03\x04\x14\0\6\0", "a spreadsheet can save as CSV UTF-8"),
    "utf-16": ("sku,title\nA,Tea\n".encode("utf-16"), "not UTF-8"),
    "nothing": (b"", "the column sku is missing"),
    "too many lines": (b"sku,title\n" + b"A,Tea\n" * 5001, "stands in line 2 already"),
    "too large": (b"sku,title\n".ljust(goods.LARGEST_FILE + 1), "larger than 1,024 KiB"),
    "a script": (b"sku,title\n<script>,Tea\n", "&lt;script&gt;"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_none_is_refused_in_words(shop: Shop, ada: Shopper, what: str) -> None:
    content, said = BAD[what]
    audited = shop.count(AuditEntry)

    answer = upload(ada, content, "<b>.csv")

    assert answer.status_code == 422
    assert "Nothing was imported" in answer.text
    assert said in (answer.text if "&lt;" in said else words(answer))
    assert "<script>," not in answer.text and "<b>.csv" not in answer.text
    assert len(answer.data) < 40_000, "a file of problems does not fill the page"
    assert shop.count(Product) == len(GOODS) and shop.count(AuditEntry) == audited


def test_a_form_without_a_file_asks_for_one(shop: Shop, ada: Shopper) -> None:
    for data in ({}, {"file": (io.BytesIO(b""), "")}):
        answer = ada.post(PAGE, dict(data), content_type="multipart/form-data")
        assert answer.status_code == 422 and "Choose a file first." in answer.text


def test_an_upload_beyond_all_measure_is_not_even_read(sqlite_shop: Shop) -> None:
    from tests.pages.conftest import signed_in

    ada = signed_in(sqlite_shop)
    assert upload(ada, b"x" * 3 * goods.LARGEST_FILE).status_code == 413
    fields = {"seen": "x", "content": "x" * 3 * goods.LARGEST_FILE}
    assert ada.post(f"{PAGE}/confirmations", fields).status_code == 413
    elsewhere = ada.post("/admin/products", {"sku": "x" * 600_000})
    assert elsewhere.status_code == 413, "other forms keep their smaller limit"


def test_a_file_of_five_thousand_lines_is_seen_and_imported_whole(shop: Shop, ada: Shopper) -> None:
    lines = (f"TEA-{n},Tea number {n},{n % 90},{'lorem ' * 25},1" for n in range(goods.MOST_LINES))
    content = "\n".join(["sku,title,price_eur,description,units", *lines]).encode()
    assert 900_000 < len(content) <= goods.LARGEST_FILE
    started = time.perf_counter()

    done = confirm(ada, upload(ada, content))

    took_s = time.perf_counter() - started
    assert done.status_code == 303
    assert shop.count(Product) == shop.count(StockMovement) == len(GOODS) + goods.MOST_LINES
    assert took_s < 25, "a dyno cuts a request at 30 s"
