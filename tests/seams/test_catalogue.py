"""A catalogue that is kept elsewhere lists what is for sale; stock and money stay the shop's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from app import create_app
from config import SettingsError
from extensions import doorbell
from jobs import schedule
from models import AuditEntry, Product, StockMovement
from services import foreign_goods, goods
from services.catalogue import Good
from services.goods_file import BadFile
from tests.shop import Shop, TestShops

ATLAS = Good("BOOK-1", "Moon atlas", {"eur": 3900, "usd": 4200}, units=3, subtitle="Ines Ortiz")
NOVEL = Good("BOOK-2", "A novel", {"eur": 1900}, units=5, category="Books")


class Listed:
    """A foreign catalogue whose list the test writes."""

    now: Iterable[Good] = ()

    def goods(self) -> Iterable[Good]:
        return self.now


HERE = f"{__name__}:Listed"


@pytest.fixture
def shop(shops: TestShops) -> Iterator[Shop]:
    Listed.now = [ATLAS, NOVEL]
    with shops.opened(catalogue=HERE) as opened:
        foreign_goods.sync()
        yield opened


@pytest.fixture
def lite(sqlite_shops: TestShops) -> Iterator[Shop]:
    Listed.now = [ATLAS, NOVEL]
    with sqlite_shops.opened(catalogue=HERE) as opened:
        foreign_goods.sync()
        yield opened


def for_sale(shop: Shop) -> list[str]:
    return [row.sku for row in shop.rows(Product, Product.active)]


@pytest.mark.accept("X21")
def test_what_is_listed_is_on_the_shelf_and_nothing_else(shop: Shop) -> None:
    shopper = shop.shopper()

    assert for_sale(shop) == ["BOOK-1", "BOOK-2"]
    assert "Ines Ortiz" in shopper.get("/products/moon-atlas").text
    assert "A novel" in shopper.get("/?category=Books").text
    assert "Moon atlas" in shopper.get("/?q=atlas").text
    assert shop.product("BOOK-1").on_hand == 3
    movements = shop.rows(StockMovement, StockMovement.product_id == shop.product("BOOK-1").id)
    assert [(row.kind, row.quantity, row.actor) for row in movements] == [
        ("initial", 3, "catalogue")
    ]
    assert foreign_goods.sync() == foreign_goods.Synced()
    assert shop.proves()


@pytest.mark.accept("X21")
def test_stock_is_the_shops_once_a_good_was_seen(shop: Shop) -> None:
    order = shop.shopper().buy("BOOK-1", 2)
    Listed.now = [replace(ATLAS, units=100), NOVEL]
    foreign_goods.sync()
    assert (shop.product("BOOK-1").on_hand, shop.product("BOOK-1").held) == (3, 2)

    order.pay()
    shop.deliver_and_work()
    foreign_goods.sync()

    assert (shop.product("BOOK-1").on_hand, shop.product("BOOK-1").sold) == (1, 2)
    assert shop.proves()


@pytest.mark.accept("X21")
def test_a_price_that_changed_is_shown_before_it_is_charged(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart("BOOK-1")
    Listed.now = [replace(ATLAS, prices={"eur": 4500})]
    foreign_goods.sync()

    assert shopper.check_out().status_code == 409
    assert "€45.00" in shopper.get("/cart").text
    shopper.post("/cart/prices")
    opened = shopper.opened(shopper.check_out())
    assert shop.attempt(opened.order_id).subtotal == 4500
    assert "usd" not in shop.product("BOOK-1").prices


def test_an_open_checkout_keeps_its_prices_and_its_goods(shop: Shop) -> None:
    order = shop.shopper().buy("BOOK-1")
    Listed.now = [replace(NOVEL, prices={"eur": 1})]
    foreign_goods.sync()
    order.pay()
    shop.deliver_and_work()

    assert shop.the_order().subtotal == 3900
    assert for_sale(shop) == ["BOOK-2"]
    assert shop.proves()


@pytest.mark.accept("X21")
def test_what_is_gone_is_archived_and_comes_back_when_it_is_listed_again(shop: Shop) -> None:
    Listed.now = [NOVEL]
    assert foreign_goods.sync() == foreign_goods.Synced(archived=1)
    assert for_sale(shop) == ["BOOK-2"]

    Listed.now = [ATLAS, NOVEL]
    assert foreign_goods.sync() == foreign_goods.Synced(brought_back=1)
    assert for_sale(shop) == ["BOOK-1", "BOOK-2"]


def test_what_a_person_has_archived_stays_so(lite: Shop) -> None:
    goods.put_on_sale("ada@example.com", "BOOK-1", False, reason="recalled by the publisher")
    foreign_goods.sync()
    assert for_sale(lite) == ["BOOK-2"]

    goods.put_on_sale("ada@example.com", "BOOK-1", True, reason="reprinted")
    foreign_goods.sync()
    assert for_sale(lite) == ["BOOK-1", "BOOK-2"]


def test_whatever_changes_stands_in_the_audit_log(lite: Shop) -> None:
    Listed.now = [replace(ATLAS, title="The moon atlas")]
    foreign_goods.sync()

    (last,) = [
        entry
        for entry in lite.rows(AuditEntry, AuditEntry.subject == "product:BOOK-1")
        if entry.action == "imported goods"
    ]
    assert last.actor == "catalogue"
    assert "The moon atlas" in last.detail


def test_addresses_last_and_are_never_shared(lite: Shop) -> None:
    Listed.now = [replace(ATLAS, title="Atlas of the moon"), NOVEL, replace(NOVEL, sku="BOOK-3")]
    foreign_goods.sync()

    slugs = {sku: lite.product(sku).slug for sku in ("BOOK-1", "BOOK-2", "BOOK-3")}
    assert slugs == {"BOOK-1": "moon-atlas", "BOOK-2": "a-novel", "BOOK-3": "a-novel-book-3"}


def _cut_short() -> Iterator[Good]:
    yield replace(ATLAS, prices={"eur": 1})
    raise ConnectionError("the feed was cut short")


def test_a_list_that_is_cut_short_empty_or_wrong_changes_nothing(lite: Shop) -> None:
    lists: list[tuple[Any, type[Exception], str]] = [
        (_cut_short(), ConnectionError, "cut short"),
        ([], foreign_goods.NothingListed, "Nothing was changed"),
        ([ATLAS, replace(NOVEL, prices={"eur": -100})], BadFile, "BOOK-2: .* is no price in EUR"),
        (
            [replace(ATLAS, description="two\nlines"), replace(NOVEL, title="")],
            BadFile,
            "BOOK-2: the title is empty",
        ),
        ([ATLAS, ATLAS], BadFile, "BOOK-1: BOOK-1 stands in line"),
        ([replace(ATLAS, sku="a b")], BadFile, "is no sku"),
    ]
    for listed, error, said in lists:
        Listed.now = listed
        with pytest.raises(error, match=said):
            foreign_goods.sync()

    assert for_sale(lite) == ["BOOK-1", "BOOK-2"]
    assert lite.product("BOOK-1").prices == {"eur": 3900, "usd": 4200}


def test_words_that_look_like_formulas_or_have_lines_come_through_as_they_are(lite: Shop) -> None:
    odd = replace(ATLAS, subtitle="=1+1", description='two\nlines, "quoted"; and \'one')
    Listed.now = [odd]
    foreign_goods.sync()

    product = lite.product("BOOK-1")
    assert (product.subtitle, product.description) == (odd.subtitle, odd.description)


def test_the_clock_rings_for_it_and_goes_on_when_it_fails(
    lite: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [task.name for task in schedule.periodic(lite.app)]
    assert names == ["sweep", "sync", "watch", "goods"]

    Listed.now = _cut_short()
    with capture_logs() as logs:
        foreign_goods.by_clock()
    assert [line["event"] for line in logs] == ["goods.sync_failed"]

    Listed.now = [NOVEL]
    monkeypatch.setattr(doorbell, "enqueue", lambda name, **_: False)
    schedule.tick(schedule.periodic(lite.app), "this one")
    assert for_sale(lite) == ["BOOK-1", "BOOK-2"], "a list may hang, and the clock must not"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"catalogue": "no.such.module:Books"}, "CATALOGUE"),
        ({"catalogue": f"{__name__}:Nobody"}, "CATALOGUE"),
        ({"listeners": ("no.such.module",)}, "LISTENERS"),
    ],
)
def test_a_shop_does_not_start_without_what_it_was_to_use(
    sqlite_shop: Shop, change: dict[str, Any], name: str
) -> None:
    settings = replace(sqlite_shop.app.extensions["settings"], **change)

    with pytest.raises(SettingsError) as refused:
        create_app(settings)
    (problem,) = refused.value.problems
    assert problem.name == name
    assert "cannot be used" in problem.what


def test_the_command_takes_it_over_now_and_says_what_it_did(lite: Shop) -> None:
    Listed.now = [NOVEL]

    run = lite.app.test_cli_runner().invoke(args=["products", "sync"])

    assert (run.exit_code, run.output) == (0, "0 new, 0 changed, 1 archived, 0 brought back\n")


def test_the_command_without_a_catalogue_says_so(sqlite_shop: Shop) -> None:
    run = sqlite_shop.app.test_cli_runner().invoke(args=["products", "sync"])

    assert run.exit_code == 1
    assert "CATALOGUE names one" in run.output
