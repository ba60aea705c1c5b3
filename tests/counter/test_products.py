"""Goods at the counter: found, changed with a reason, counted, archived."""

from __future__ import annotations

import re
import threading
import time
from html import unescape
from typing import Any

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from extensions import atomic
from models import AuditEntry, Product, StockMovement
from services import catalogue, export, goods, stock
from services.demo_goods import GOODS
from tests.counter.scenes import ADA, a_paid_order, at_once
from tests.shop import KETTLE, LAMP, MUG, ORIGIN, Shop, Shopper

LIST = "/admin/products"
PAGE = f"{LIST}/{MUG}"
HTMX = {"HX-Request": "true"}


def form(ada: Shopper, name: str, sku: str = MUG, **fields: str) -> dict[str, str]:
    """A form of the product's page as it is shown, with some fields changed."""
    page = ada.get(f"{LIST}/{sku}").text.partition(f'id="{name}-form"')[2].partition("</form>")[0]
    shown = {}
    for tag in re.findall(r"<input\b[^>]*>", page):
        of = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        shown[of["name"]] = unescape(of.get("value", ""))
    description = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.S)
    if description:
        shown["description"] = unescape(description[1])
    shown.pop("csrf_token")
    return {**shown, "reason": "because", **fields}


def save(ada: Shopper, **fields: str) -> TestResponse:
    return ada.post(PAGE, form(ada, "goods", **fields))


def receive(ada: Shopper, units: str, sku: str = MUG, **fields: str) -> TestResponse:
    return ada.post(f"{LIST}/{sku}/receipts", form(ada, "receive", sku, units=units, **fields))


def correct(ada: Shopper, to: str, sku: str = MUG, **fields: str) -> TestResponse:
    return ada.post(f"{LIST}/{sku}/corrections", form(ada, "correct", sku, on_hand=to, **fields))


def skus(answer: TestResponse) -> list[str]:
    return re.findall(r'id="p-([^"]+)"', answer.text)


def words(answer: TestResponse) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def shelf(shop: Shop, sku: str = MUG) -> tuple[int, int, int]:
    product = shop.product(sku)
    return product.on_hand, product.held, product.sold


def moves(shop: Shop, sku: str = MUG) -> list[tuple[str, int, str, str]]:
    rows = shop.rows(StockMovement, StockMovement.product_id == shop.product(sku).id)
    return [(row.kind, row.quantity, row.reason, row.actor) for row in rows][1:]


def deeds(shop: Shop, sku: str = MUG) -> list[tuple[str, str]]:
    """(who, what) of this product, oldest first."""
    rows = shop.rows(AuditEntry, AuditEntry.subject == f"product:{sku}")
    return [(row.actor, row.action) for row in rows]


# -- the list


def test_the_list_shows_what_is_on_hand_held_sold_and_free(shop: Shop, ada: Shopper) -> None:
    a_paid_order(shop, MUG, 3)
    shop.shopper().buy(MUG, 2)

    row = words(ada.get(f"{LIST}?q=MUG")).partition("State")[2]

    assert "Enamel mug MUG-FOR-35 115 free, 2 held 117 2 3 €18.00 · $19.50 · ¥2,900 For sale" in row
    drawn = re.findall(r'<rect x="([\d.]+)" width="([\d.]+)"', ada.get(f"{LIST}?q=MUG").text)
    assert drawn == [("0.0", "95.8"), ("95.8", "1.7"), ("97.5", "2.5")]


@pytest.mark.parametrize(
    ("view", "expected"),
    [("sold-out", [KETTLE]), ("low", [LAMP]), ("archived", ["PEN-FNT-M"]), ("nope", None)],
)
def test_a_view_shows_its_products_and_how_many_there_are(
    shop: Shop, ada: Shopper, view: str, expected: list[str] | None
) -> None:
    goods.put_on_sale(ADA, "PEN-FNT-M", False, reason="no longer made")

    answer = ada.get(f"{LIST}?view={view}")

    assert len(skus(answer)) == len(GOODS) if expected is None else skus(answer) == expected
    assert (
        f"All {len(GOODS)} For sale {len(GOODS) - 2} Running low 1 Sold out 1 Archived 1"
        in words(answer)
    )


def test_an_empty_view_says_what_would_stand_there(shop: Shop, ada: Shopper) -> None:
    assert "never deleted" in ada.get(f"{LIST}?view=archived").text
    assert "No product matches “zzz”" in ada.get(f"{LIST}?q=zzz").text


def test_a_product_is_found_by_a_part_of_its_title_sku_or_category(
    shop: Shop, ada: Shopper
) -> None:
    for query in ("enamel", "FOR-35", "forest, 350"):
        assert skus(ada.get(LIST, query_string={"q": query})) == [MUG], query
    kitchen = {good["sku"] for good in GOODS if good["category"] == "Kitchen"}
    assert set(skus(ada.get(f"{LIST}?q=kitchen"))) >= kitchen
    for query in ("%", "_", "\\", "'", "x" * 5000, "٣"):
        assert skus(ada.get(LIST, query_string={"q": query})) == [], query


def test_every_product_is_on_exactly_one_page(shop: Shop, ada: Shopper) -> None:
    same = [
        {"sku": f"TEA-{n}", "slug": f"tea-{n}", "title": "Tea", "prices": {"eur": 5}, "units": n}
        for n in range(2 * goods.PAGE)
    ]
    catalogue.stock_up(same)
    seen, address = [], f"{LIST}?view=all"
    while address:
        answer = ada.get(address)
        seen += skus(answer)
        further = re.search(r'href="([^"]+)">Next', answer.text)
        address = unescape(further[1]) if further else ""

    assert len(seen) == len(set(seen)) == len(GOODS) + 2 * goods.PAGE
    assert skus(ada.get(f"{LIST}?after=NO-SUCH")) == seen[: goods.PAGE]


def test_a_search_as_you_type_gets_the_rows_alone(shop: Shop, ada: Shopper) -> None:
    part = ada.get(f"{LIST}?q=mug", headers=HTMX)

    assert skus(part) == [MUG] and "<html" not in part.text and 'id="say"' in part.text


def test_what_recurs_says_how_often(shop: Shop, ada: Shopper) -> None:
    club = {"sku": "CLUB", "slug": "club", "title": "Tea club", "prices": {"eur": 900}, "units": 9}
    catalogue.stock_up([{**club, "interval": "month", "interval_count": 2, "trial_days": 14}])

    assert "€9.00 every 2 months" in words(ada.get(f"{LIST}?q=CLUB"))
    assert "charged every 2 months, 14 days free first" in words(ada.get(f"{LIST}/CLUB"))


# -- changing what shoppers see


def test_what_is_saved_is_in_the_shop_and_stands_there_with_who_and_why(
    shop: Shop, ada: Shopper
) -> None:
    answer = save(ada, title="Enamel cup", price_eur="19,90", price_jpy="", reason="a new batch")

    assert answer.location == PAGE
    mug = shop.product(MUG)
    assert (mug.title, mug.prices, mug.slug) == (
        "Enamel cup",
        {"eur": 1990, "usd": 1950},
        "enamel-mug",
    )
    assert "Enamel cup" in shop.shopper().get("/products/enamel-mug").text
    page = words(ada.get(PAGE))
    assert "Changed: a new batch" in page and "Price in EUR: €18.00 → €19.90" in page
    assert "Price in JPY: ¥2,900 → nothing" in page and ADA in page
    assert deeds(shop) == [(ADA, "changed goods")]


def test_saving_what_is_there_already_changes_nothing(shop: Shop, ada: Shopper) -> None:
    save(ada)

    assert "Nothing was different" in ada.get(PAGE).text
    assert deeds(shop) == []


def test_a_new_price_does_not_touch_a_checkout_that_is_under_way(shop: Shop, ada: Shopper) -> None:
    running = shop.shopper().buy(MUG, 2)

    save(ada, price_eur="99.00")

    running.pay()
    shop.deliver_and_work()
    order = shop.the_order()
    assert (order.payment_status, order.subtotal, order.total) == ("paid", 3600, 4090)
    assert "€99.00" in shop.shopper().get("/products/enamel-mug").text
    assert shop.proves()


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("title", "", "Give it a title."),
        ("title", "x" * 121, "Title: 120 characters at most."),
        ("price_eur", "1.005", "Type the price in EUR like 18.50."),
        ("price_eur", "-1", "Type the price in EUR"),
        ("price_jpy", "1.5", "Type the price in JPY like 1850."),
        ("price_eur", "99999999.99", "Type the price in EUR"),
        ("reason", "", "Say why"),
        ("reason", "x" * 151, "at most 150 characters"),
    ],
)
def test_what_cannot_be_saved_is_said_by_its_field_and_what_was_typed_stays(
    shop: Shop, ada: Shopper, field: str, text: str, said: str
) -> None:
    answer = save(ada, subtitle="typed", **{field: text})

    assert answer.status_code == 422 and said in answer.text
    assert f'id="{field}-error"' in answer.text and f'href="#{field}"' in answer.text
    assert 'value="typed"' in answer.text
    assert shop.product(MUG).subtitle == "Forest, 350 ml" and deeds(shop) == []


def test_without_any_price_a_product_is_archived_and_not_saved(shop: Shop, ada: Shopper) -> None:
    answer = save(ada, price_eur="", price_usd="", price_jpy="")

    assert answer.status_code == 422 and "a price in one currency at least" in answer.text


def test_of_two_who_edit_at_once_the_second_sees_what_the_first_did(
    shop: Shop, ada: Shopper
) -> None:
    opened = form(ada, "goods", title="Mine", reason="late")
    goods.change(
        "bob@example.com",
        MUG,
        {**form(ada, "goods"), "title": "Bob’s mug"},
        reason="his taste",
        seen=goods.version_of(shop.product(MUG)),
    )

    answer = ada.post(PAGE, opened)

    assert answer.status_code == 409
    assert "bob@example.com changed this product" in answer.text and "his taste" in answer.text
    assert 'value="Bob’s mug"' in answer.text and "Mine" not in answer.text
    assert shop.product(MUG).title == "Bob’s mug"
    assert ada.post(PAGE, form(ada, "goods", title="Mine")).status_code == 303


def test_of_two_who_save_in_the_same_moment_one_wins(postgres_shop: Shop) -> None:
    seen = goods.version_of(postgres_shop.product(MUG))

    def saves(title: str) -> Any:
        fields = {"title": title, "price_eur": "1.00"}
        return goods.change(ADA, MUG, fields, reason="faster", seen=seen)

    done = at_once(postgres_shop, lambda: saves("A"), lambda: saves("B"))

    assert sorted(type(result).__name__ for result in done) == ["Overtaken", "bool"]
    assert deeds(postgres_shop) == [(ADA, "changed goods")]


def test_an_archived_product_leaves_the_shelf_and_comes_back(shop: Shop, ada: Shopper) -> None:
    running = shop.shopper().buy(MUG)

    assert ada.post(f"{PAGE}/archiving", {"reason": ""}).status_code == 422
    ada.post(f"{PAGE}/archiving", {"reason": "moths"})

    assert "Enamel mug" not in shop.shopper().get("/").text
    assert "Archived: moths" in words(ada.get(PAGE))
    running.pay()
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"
    ada.post(f"{PAGE}/return", {"reason": "it was dust"})
    assert "Enamel mug" in shop.shopper().get("/").text
    assert [what for _, what in deeds(shop)] == ["archived goods", "brought back goods"]
    assert shop.proves()


# -- new products

TEA = {
    "sku": "TEA-1",
    "title": "Green tea",
    "price_eur": "7,50",
    "price_jpy": "1200",
    "units": "30",
}


def test_a_new_product_is_for_sale_with_what_it_starts_with(shop: Shop, ada: Shopper) -> None:
    answer = ada.post(LIST, TEA)

    assert answer.location == f"{LIST}/TEA-1"
    tea = shop.product("TEA-1")
    assert (tea.slug, tea.prices, tea.on_hand) == ("green-tea", {"eur": 750, "jpy": 1200}, 30)
    shop.shopper().buy("TEA-1", 2)
    assert "Added" in words(ada.get(f"{LIST}/TEA-1")) and deeds(shop, "TEA-1")[0][0] == ADA
    assert shop.proves()


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("sku", MUG, "There is a product MUG-FOR-35 already"),
        ("sku", "=1+1", "A sku has letters"),
        ("sku", "", "A sku has letters"),
        ("units", "-1", "Units are a whole number"),
        ("units", "1000001", "Units are a whole number"),
        ("price_eur", "x", "Type the price in EUR"),
        ("title", "", "Give it a title"),
    ],
)
def test_a_new_product_that_cannot_be_is_not_half_there(
    shop: Shop, ada: Shopper, field: str, text: str, said: str
) -> None:
    answer = ada.post(LIST, {**TEA, field: text})

    assert answer.status_code == 422 and said in answer.text
    assert shop.count(Product) == shop.count(StockMovement) == len(GOODS)


@pytest.mark.parametrize(
    ("title", "slug"), [("Enamel mug", "enamel-mug-tea-1"), ("煎茶", "tea-1"), ("—", "tea-1")]
)
def test_a_new_product_gets_an_address_of_its_own(
    shop: Shop, ada: Shopper, title: str, slug: str
) -> None:
    ada.post(LIST, {**TEA, "title": title})

    assert shop.product("TEA-1").slug == slug
    assert title in shop.shopper().get(f"/products/{slug}").text


# -- stock


def test_what_was_received_is_for_sale_and_in_the_books(shop: Shop, ada: Shopper) -> None:
    answer = receive(ada, "1,200", reason="delivery note 4711")

    assert answer.location == PAGE
    assert shelf(shop) == (1320, 0, 0)
    assert moves(shop) == [("received", 1200, "delivery note 4711", ADA)]
    assert deeds(shop) == [(ADA, "received stock")]
    page = words(ada.get(PAGE))
    assert page.index("+1,200 on hand delivery note 4711") < page.index("+120 at the start")
    assert shop.proves()


def test_a_second_press_books_nothing_and_says_so(shop: Shop, ada: Shopper) -> None:
    once = form(ada, "receive", units="10")
    ada.post(f"{PAGE}/receipts", once)

    again = ada.post(f"{PAGE}/receipts", once)

    assert again.status_code == 409 and "130 are on hand now" in again.text
    assert 'value="10"' in again.text, "what was typed stays, for the next delivery"
    assert shelf(shop) == (130, 0, 0) and len(moves(shop)) == 1


def test_a_sale_in_between_does_not_hinder_what_came_in(shop: Shop, ada: Shopper) -> None:
    opened = form(ada, "receive", units="10")
    a_paid_order(shop, MUG, 4)

    assert ada.post(f"{PAGE}/receipts", opened).status_code == 303
    assert shelf(shop) == (126, 0, 4)
    assert shop.proves()


@pytest.mark.parametrize(("to", "units"), [("131", 11), ("118", -2), ("0", -120)])
def test_a_correction_counts_as_received_so_that_the_books_stay_true(
    shop: Shop, ada: Shopper, to: str, units: int
) -> None:
    assert correct(ada, to, reason="counted").location == PAGE

    assert shelf(shop) == (int(to), 0, 0)
    assert moves(shop) == [("received", units, f"corrected from 120 to {to}: counted", ADA)]
    row = next(row for row in export.KINDS["stock"]() if row["sku"] == MUG)
    assert row["initial"] + row["received"] == row["on_hand"] + row["sold"]
    assert shop.proves()


def test_nothing_is_corrected_below_what_checkouts_hold(shop: Shop, ada: Shopper) -> None:
    running = shop.shopper().buy(MUG, 3)

    answer = correct(ada, "2")

    assert answer.status_code == 409
    assert "hold 3 of the 120 on hand, so there cannot be only 2" in answer.text
    assert shelf(shop) == (120, 3, 0) and moves(shop) == [] and deeds(shop) == []
    assert correct(ada, "3").status_code == 303
    running.pay()
    shop.deliver_and_work()
    assert shelf(shop) == (0, 0, 3)
    assert shop.proves()


def test_what_was_counted_before_a_sale_has_to_be_counted_again(shop: Shop, ada: Shopper) -> None:
    opened = form(ada, "correct", on_hand="119")
    a_paid_order(shop, MUG, 4)

    answer = ada.post(f"{PAGE}/corrections", opened)

    assert answer.status_code == 409 and "116 are on hand now" in answer.text
    assert re.search(r'id="correct-on_hand"[^>]*value="116"', answer.text)
    assert shelf(shop) == (116, 0, 4) and moves(shop) == []


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "0", "1000001", "9" * 30, "٣", "1,2,3"])
def test_units_that_are_no_number_are_refused(shop: Shop, ada: Shopper, text: str) -> None:
    answer = receive(ada, text)

    assert answer.status_code == 422 and 'id="receive-units-error"' in answer.text
    assert shelf(shop) == (120, 0, 0) and deeds(shop) == []


@pytest.mark.parametrize("book", [receive, correct])
def test_stock_moves_for_a_reason_only(shop: Shop, ada: Shopper, book: Any) -> None:
    answer = book(ada, "7", reason=" ")

    assert answer.status_code == 422 and "Say why" in answer.text
    assert shelf(shop) == (120, 0, 0) and moves(shop) == []


@pytest.mark.parametrize("seen", ["", "x", "-5", "9999999999"])
def test_a_form_that_does_not_say_what_was_seen_books_nothing(
    shop: Shop, ada: Shopper, seen: str
) -> None:
    assert receive(ada, "7", came=seen).status_code == 409
    assert correct(ada, "7", seen=seen).status_code == 409
    assert shelf(shop) == (120, 0, 0)


def test_the_history_goes_back_to_the_start_page_by_page(shop: Shop, ada: Shopper) -> None:
    for number in range(goods.LATEST + 3):
        receive(ada, "1", reason=f"box {number}")
    page = ada.get(PAGE)
    assert "box 22" in page.text and "box 2<" not in page.text and "at the start" not in page.text

    older = re.search(r'href="([^"#]+)#movements">Older', page.text)
    assert older
    rest = ada.get(unescape(older[1])).text

    assert "box 2 " in rest and "at the start" in rest and "box 3 " not in rest


def test_units_that_came_back_lead_to_their_order(shop: Shop, ada: Shopper) -> None:
    order = a_paid_order(shop, MUG, 2)
    with atomic():
        line = {"product_id": shop.product(MUG).id, "sku": MUG, "title": "Mug", "quantity": 1}
        stock.restock([line], order_id=order.order_id, reason="refunded", actor="")

    page = ada.get(PAGE).text

    assert f'href="/admin/orders/{order.order_id}"' in page and "back from an order" in page


def test_a_product_that_is_not_there_is_a_404_for_every_act(shop: Shop, ada: Shopper) -> None:
    audited = shop.count(AuditEntry)
    assert ada.get(f"{LIST}/NOPE").status_code == 404
    fields = {"reason": "because", "units": "1", "on_hand": "1", "came": "0", "seen": "0"}
    for act in ("", "/receipts", "/corrections", "/archiving", "/return"):
        assert ada.post(f"{LIST}/NOPE{act}", fields).status_code == 404, act
    assert shop.count(AuditEntry) == audited


def test_the_pages_need_somebody_who_is_signed_in(shop: Shop) -> None:
    stranger = shop.shopper()
    for path in (LIST, PAGE, f"{LIST}.csv", "/admin/new-product", "/admin/product-imports"):
        assert stranger.get(path).location == "/admin/login", path
    assert stranger.post(f"{PAGE}/receipts", {"units": "9", "came": "120"}).status_code == 303
    assert shelf(shop) == (120, 0, 0)


def test_a_fragment_says_what_came_of_it(shop: Shop, ada: Shopper) -> None:
    """What htmx swaps in after a press: the whole answer holds the part and the spoken word."""
    fields = {"csrf_token": ada.token(), **form(ada, "receive", units="7")}
    answer = ada.browser.post(
        f"{PAGE}/receipts", data=fields, headers=HTMX, base_url=ORIGIN, follow_redirects=True
    )

    assert 'id="admin-product"' in answer.text and "7 received." in answer.text
    assert re.search(r'id="say">7 received\.<', answer.text)


# -- races: PostgreSQL lets two transactions run at once


def corrected_during_a_sale(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A correction that was typed before a sale and arrives while the sale commits."""
    sale = shop.shopper().buy(MUG, 4)
    sale.pay()
    shop.deliver()
    sold, sell = threading.Event(), stock.sell

    def sell_slowly(lines: Any) -> None:
        sell(lines)
        sold.set()
        time.sleep(0.5)  # the correction is waiting for this row by now

    monkeypatch.setattr(stock, "sell", sell_slowly)

    def corrects() -> Any:
        assert sold.wait(10)
        return goods.correct(ADA, MUG, "130", reason="counted", on_hand=120)

    return at_once(shop, shop.work, corrects)[1]


def test_a_correction_that_meets_a_sale_is_told_so(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = corrected_during_a_sale(postgres_shop, monkeypatch)

    assert isinstance(result, stock.StockMoved) and result.on_hand == 116
    assert shelf(postgres_shop) == (116, 0, 4)
    assert postgres_shop.proves()


def test_without_its_condition_the_same_correction_breaks_the_books(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: it shows that the test above can fail."""
    careless = stock._ONE.values(on_hand=stock._n)
    monkeypatch.setattr(stock, "_CORRECT", careless)

    result = corrected_during_a_sale(postgres_shop, monkeypatch)

    assert result is True
    assert shelf(postgres_shop) == (130, 0, 4), "134 in all, where 130 ever came in"
    assert not postgres_shop.proves()


def test_two_presses_in_the_same_moment_book_once(postgres_shop: Shop) -> None:
    def books() -> Any:
        return goods.receive(ADA, MUG, "10", reason="one box", came=120)

    done = at_once(postgres_shop, books, books, books)

    assert sorted(type(result).__name__ for result in done) == ["StockMoved", "StockMoved", "int"]
    assert shelf(postgres_shop) == (130, 0, 0)
    assert postgres_shop.proves()


def test_a_correction_never_goes_below_what_is_held_in_the_same_moment(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, hold = threading.Event(), stock.hold

    def hold_slowly(lines: Any) -> None:
        hold(lines)
        held.set()
        time.sleep(0.5)

    monkeypatch.setattr(stock, "hold", hold_slowly)
    shopper = postgres_shop.shopper()

    def corrects() -> Any:
        assert held.wait(10)
        return goods.correct(ADA, LAMP, "0", reason="broken", on_hand=2)

    _, result = at_once(postgres_shop, lambda: shopper.buy(LAMP), corrects)

    assert isinstance(result, stock.BelowHeld) and "hold 1 of the 2" in result.message
    assert shelf(postgres_shop, LAMP) == (2, 1, 0)
    assert postgres_shop.proves()


def test_the_condition_is_in_the_statement_and_not_in_a_look_before(shop: Shop) -> None:
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(on_hand=119))

    with pytest.raises(stock.StockMoved):
        goods.correct(ADA, MUG, "100", reason="counted", on_hand=120)
    assert shelf(shop) == (119, 0, 0)
