"""Goods leave as a file that comes back unchanged, and no cell of it runs in a spreadsheet."""

from __future__ import annotations

import csv
import io
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import update

from extensions import atomic
from models import AuditEntry, Product, StockMovement
from services import catalogue, export, goods, goods_file, stock
from services.cells import bare, guarded
from services.demo_goods import GOODS
from services.goods_file import BadFile, Imported, PlanOvertaken
from tests.counter.scenes import at_once
from tests.shop import LAMP, MUG, Shop

RUNS = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet run a cell
NASTY = st.text(st.sampled_from("=+-@\t\r\n'\",;| aé€茶1"), max_size=12) | st.text(max_size=12)
ADA = "ada@example.com"
FILE = (
    "sku,title,price_eur,units,received\n"
    "MUG-FOR-35,Enamel cup,19.90,,24\n"
    "TRY-OAK-40,Wooden tray,39,,\n"
    "TEA-1,Green tea,7.50,30,\n"
)


def whole_file() -> str:
    return "".join(goods_file.write())


def cells() -> list[list[str]]:
    return list(csv.reader(io.StringIO(whole_file().removeprefix("\ufeff"), newline="")))


def named(good: Product) -> dict[str, Any]:
    return {column.name: getattr(good, column.name) for column in Product.__table__.columns}


# -- cells


@given(NASTY)
def test_no_cell_runs_and_every_cell_comes_back(text: str) -> None:
    cell = guarded(text)

    assert not cell.startswith(RUNS)
    assert bare(cell) == text


@pytest.mark.parametrize("plain", ["Tea", "", "it's", "'tis", "18.00", " =1", "a=b"])
def test_what_cannot_run_is_left_as_it_is(plain: str) -> None:
    assert guarded(plain) == bare(plain) == plain


@examples(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(title=NASTY, description=NASTY, category=NASTY)
def test_goods_with_any_words_make_a_round_trip(
    sqlite_shop: Shop, title: str, description: str, category: str
) -> None:
    """Goods as the shop takes them: without NUL, and without space around."""
    said = {"title": title, "description": description, "category": category}
    said = {name: text.replace("\0", "").strip() for name, text in said.items()}
    said["title"] = said["title"] or "-"
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(**said))

    assert not any(cell.startswith(RUNS) for row in cells() for cell in row)
    assert goods_file.plan(whole_file()).steps == []


# -- out, and in again


def test_goods_that_go_out_and_come_back_are_the_same(shop: Shop) -> None:
    catalogue.stock_up(
        [
            {"sku": "ODD", "slug": "odd", "title": "=HYPERLINK(0)", "subtitle": '"quoted", so',
             "description": "two\nlines; and ümläuts", "category": "'+1", "active": False,
             "prices": {"kwd": 1230, "gbp": 5}, "units": 3},
            {"sku": "BOX", "slug": "box", "title": "Tea box", "prices": {"eur": 900}, "units": 9,
             "interval": "month", "interval_count": 2, "trial_days": 14},
        ]
    )  # fmt: skip
    shop.shopper().buy(MUG, 2)
    before = [named(good) for good in shop.rows(Product)]
    text = whole_file()

    assert goods_file.read(text) == Imported(0, 0)
    assert [named(good) for good in shop.rows(Product)] == before
    assert shop.count(StockMovement) == len(GOODS) + 2
    assert shop.proves()


def test_the_file_has_every_column_that_the_import_reads(sqlite_shop: Shop) -> None:
    header = cells()[0]

    assert {name for name in header if not name.startswith("price_")} == goods_file.KNOWN
    assert [n for n in header if n.startswith("price_")] == ["price_eur", "price_usd", "price_jpy"]


def test_an_empty_shop_filled_from_the_file_has_the_same_goods_and_stock(shop: Shop) -> None:
    text, before = whole_file(), [named(good) for good in shop.rows(Product)]
    with atomic() as session:
        session.query(StockMovement).delete()
        session.query(Product).delete()

    assert goods_file.read(text) == Imported(len(GOODS), 0)

    def by_sku(goods: list[dict[str, Any]]) -> list[Any]:
        own = ("id", "created_at")
        told = ({k: v for k, v in good.items() if k not in own} for good in goods)
        return sorted(told, key=lambda good: good["sku"])

    assert by_sku([named(good) for good in shop.rows(Product)]) == by_sku(before)
    assert shop.proves()


def test_the_export_of_everything_runs_no_formula_either(sqlite_shop: Shop) -> None:
    sqlite_shop.shopper().buy(email="=cmd@example.com")

    lines = list(export.lines("csv", list(export.KINDS)))

    found = csv.reader(lines)
    assert not any(cell.startswith(RUNS) for row in found for cell in row)
    assert any("'=cmd@example.com" in line for line in lines)


# -- the dry run


def test_a_plan_says_line_by_line_what_the_file_does_and_does_nothing(shop: Shop) -> None:
    before = [named(good) for good in shop.rows(Product)]

    plan = goods_file.plan(FILE)

    assert (plan.new, plan.changed, plan.received, plan.lines) == (1, 1, 24, 3)
    mug, tea = plan.steps
    assert (mug.line, mug.sku, mug.units, mug.is_new) == (2, MUG, 24, False)
    assert mug.changes == {
        "title": ("Enamel mug", "Enamel cup"),
        "slug": ("enamel-mug", "enamel-cup"),
        "price_eur": (1800, 1990),
    }
    assert (tea.line, tea.is_new, tea.units) == (4, True, 30)
    assert tea.changes["price_eur"] == (None, 750)
    assert [named(good) for good in shop.rows(Product)] == before


def test_what_the_plan_said_is_what_is_done_with_who_and_why(shop: Shop) -> None:
    content = FILE.encode()
    seen = goods.plan_file(content).token

    assert goods.import_file(ADA, content, seen=seen, name="autumn.csv") == Imported(1, 2)

    assert goods_file.plan(FILE.replace(",24", ",")).steps == []
    assert shop.product(MUG).on_hand == 144
    said = [(m.kind, m.quantity, m.reason, m.actor) for m in shop.rows(StockMovement)][len(GOODS) :]
    assert said == [
        ("received", 24, "imported from autumn.csv", ADA),
        ("initial", 30, "imported from autumn.csv", ADA),
    ]
    deeds = [(deed.actor, deed.action, deed.subject) for deed in shop.rows(AuditEntry)]
    assert deeds == [
        (ADA, "imported goods", f"product:{MUG}"),
        (ADA, "added goods", "product:TEA-1"),
    ]
    assert goods.changes(shop.product(MUG))[0].steps["price_eur"] == (1800, 1990)
    assert shop.proves()


def test_one_plan_is_carried_out_once(shop: Shop) -> None:
    content = f"sku,title,received\n{MUG},Enamel mug,24\n".encode()
    seen = goods.plan_file(content).token
    goods.import_file(ADA, content, seen=seen)

    with pytest.raises(PlanOvertaken):
        goods.import_file(ADA, content, seen=seen)
    assert shop.product(MUG).on_hand == 144


def test_one_plan_is_carried_out_once_in_the_same_moment_too(postgres_shop: Shop) -> None:
    content = FILE.encode()
    seen = goods.plan_file(content).token

    def imports() -> Any:
        return goods.import_file(ADA, content, seen=seen)

    done = at_once(postgres_shop, imports, imports, imports)

    assert sorted(type(r).__name__ for r in done) == ["Imported", "PlanOvertaken", "PlanOvertaken"]
    assert postgres_shop.product(MUG).on_hand == 144
    assert postgres_shop.proves()


def test_another_file_than_the_one_seen_is_not_imported(shop: Shop) -> None:
    seen = goods.plan_file(FILE.encode()).token

    with pytest.raises(PlanOvertaken):
        goods.import_file(ADA, FILE.replace("19.90", "0.90").encode(), seen=seen)
    with pytest.raises(PlanOvertaken):
        goods.import_file(ADA, FILE.encode(), seen="")
    assert shop.product(MUG).prices["eur"] == 1800 and shop.count(AuditEntry) == 0


CHANGES_BETWEEN = {
    "its price": {"prices": {"eur": 1700, "usd": 1950}},
    "its title": {"title": "Bob’s mug"},
    "what came in": {"on_hand": 130},
}


@pytest.mark.parametrize("what", CHANGES_BETWEEN)
def test_a_plan_that_is_no_longer_true_is_not_carried_out(shop: Shop, what: str) -> None:
    seen = goods.plan_file(FILE.encode()).token
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(**CHANGES_BETWEEN[what]))

    with pytest.raises(PlanOvertaken):
        goods.import_file(ADA, FILE.encode(), seen=seen)
    assert shop.rows(Product, Product.sku == "TEA-1") == []


def test_a_sale_and_another_product_leave_a_plan_as_it_is(shop: Shop) -> None:
    seen = goods.plan_file(FILE.encode()).token
    shop.shopper().buy(MUG, 3).pay()
    shop.deliver_and_work()
    goods.put_on_sale(ADA, LAMP, False, reason="dark")

    goods.import_file(ADA, FILE.encode(), seen=seen)

    mug = shop.product(MUG)
    assert (mug.on_hand, mug.sold) == (141, 3)
    assert shop.proves()


def test_an_import_and_a_sale_of_the_same_goods_get_along(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = postgres_shop.shopper().buy(MUG, 4)
    sale.pay()
    postgres_shop.deliver()
    content = FILE.encode()
    seen = goods.plan_file(content).token
    sold, sell = threading.Event(), stock.sell

    def sell_slowly(lines: Any) -> None:
        sell(lines)
        sold.set()
        time.sleep(0.5)

    monkeypatch.setattr(stock, "sell", sell_slowly)

    def imports() -> Any:
        assert sold.wait(10)
        return goods.import_file(ADA, content, seen=seen)

    done = at_once(postgres_shop, postgres_shop.work, imports)

    assert done[1] == Imported(1, 2)
    mug = postgres_shop.product(MUG)
    assert (mug.on_hand, mug.held, mug.sold) == (140, 0, 4)
    assert postgres_shop.proves()


# -- files that are none


def test_two_lines_cannot_take_one_address(sqlite_shop: Shop) -> None:
    with pytest.raises(BadFile) as refused:
        goods_file.plan("sku,title\nA,Tea\nB,Tea\n")

    assert refused.value.problems == ["line 3: the address tea belongs to A already"]


@pytest.mark.parametrize(
    "content",
    [
        b"sku,title\rA,Tea\r",
        b'sku,title\nA,"Tea\n',
        b"sku,title\nA,T\0ea\n",
        b"sku,title\nA," + b"x" * 200_000,
        b"sku,title,units\nA,Tea," + b"0" * 5000,
        "sku,title\nA,Tea\n".encode("utf-16"),
        "sku,title\nA,Täe\n".encode("latin-1"),
        b"PK\x03\x04\x14\x00\x06\x00\x08\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"%PDF-1.7\n",
        b"<html><table><tr><td>sku</td></tr></table></html>",
        b",,,,\n,,,,\n",
        b'"""""\n',
        b"",
    ],
)
def test_what_is_no_such_file_is_a_problem_and_not_a_crash(
    sqlite_shop: Shop, content: bytes
) -> None:
    with pytest.raises(BadFile) as refused:
        goods.plan_file(content)

    assert refused.value.problems


@examples(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(
    st.binary(max_size=200)
    | st.text(st.sampled_from("sku,title;price_eur\n\r\"'=0 A"), max_size=80).map(str.encode)
    | st.lists(st.lists(NASTY, min_size=3, max_size=3), max_size=5).map(
        lambda rows: "\n".join(["sku,title,units", *map(",".join, rows)]).encode()
    )
)
def test_any_bytes_make_a_plan_or_a_list_of_problems(sqlite_shop: Shop, content: bytes) -> None:
    try:
        plan = goods.plan_file(content)
    except BadFile as refused:
        assert refused.problems
    else:
        assert plan.lines >= 1
    assert sqlite_shop.count(Product) == len(GOODS)


def test_a_file_has_its_limits(sqlite_shop: Shop) -> None:
    line = "A{},Tea {},1\n"
    most = "sku,title,price_eur\n" + "".join(line.format(n, n) for n in range(goods.MOST_LINES))
    assert goods.plan_file(most.encode()).new == goods.MOST_LINES

    with pytest.raises(BadFile, match=r"5,001 lines, and 5,000 are the most"):
        goods.plan_file((most + "B,Tea,1\n").encode())
    with pytest.raises(BadFile, match="larger than 1,024 KiB"):
        goods.plan_file(most.encode().ljust(goods.LARGEST_FILE + 1))
