"""Printable invoices: the shop's legal data, the tax by rate, numbers without a gap (X25)."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from sqlalchemy import func, select

from extensions import atomic, db
from models import Counter, Invoice, Order
from services import invoices, refunds
from tests.pages.conftest import signed_in
from tests.plans.test_schema import an_older_order
from tests.prices.conftest import maker
from tests.shop import LAMP, MUG, Shop, TestShops

LEGAL = {
    "legal_name": "Northlight Supply GmbH",
    "legal_address": ("Lange Straße 1", "12047 Berlin", "Germany"),
    "legal_vat_id": "DE123456789",
    "legal_registration": "Amtsgericht Berlin, HRB 12345",
}


def words(page: Any) -> str:
    text = unescape(re.sub(r"<[^>]+>", " ", page.text))
    return " ".join(text.split()).replace("− ", "−")


@pytest.mark.accept("X25")
def test_an_invoice_says_who_sold_what_to_whom_and_the_tax_by_rate(shops: TestShops) -> None:
    with shops.opened(tax="stripe", tax_behavior="exclusive", **LEGAL) as shop:
        maker(shop)()
        maya = shop.shopper()
        maya.put_in_cart(LAMP)
        bought = maya.buy(MUG, 2, code="SPRING")
        address = f"/orders/{bought.order_id}/invoice"
        assert maya.get(address).status_code == 404  # it is not paid
        bought.pay()
        shop.deliver_and_work()

        page = maya.get(address)

        said = words(page)
        for wanted in (
            "Invoice INV-000001",
            "Northlight Supply GmbH Lange Straße 1 12047 Berlin Germany",
            "VAT number DE123456789",
            "Amtsgericht Berlin, HRB 12345",
            "Maya Lindqvist Sonnenallee 12 12047 Berlin DE maya@example.com",
            "Discount, SPRING −€6.90",
            "VAT 19 % on €67.00 €12.73",
            "Total €79.73",
            "Total without tax €67.00",
            "with Visa ···· 4242",
        ):
            assert wanted in said, wanted
        assert address in maya.get(f"/orders/{bought.order_id}").text
        assert shop.shopper().get(address).status_code == 404  # a stranger's eyes
        assert shop.proves()


@pytest.mark.accept("X25")
def test_the_counter_and_the_signed_link_open_it_too(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    order = shop.the_order()
    link = bought.shopper.get(f"/orders/{order.id}").text
    token = re.search(r"token=([\w.\-]+)", unescape(link))
    assert token

    assert signed_in(shop).get(f"/admin/orders/{order.id}/invoice").status_code == 200
    assert "Invoice INV-000001" in words(signed_in(shop).get(f"/admin/orders/{order.id}"))
    friend = shop.shopper()
    assert friend.get(f"/orders/{order.id}/invoice?token={token[1]}").status_code == 200
    assert friend.get(f"/orders/{order.id}/invoice?token=x{token[1]}").status_code == 404
    assert shop.shopper().get(f"/orders/{order.id}/invoice?token=x").status_code == 404


@pytest.mark.accept("X25")
def test_refunds_stand_on_it_and_its_number_stays(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    refunds.ask(bought.order_id, 500, {}, reason="Goodwill", actor="boss", key="k" * 10)
    shop.work()
    shop.deliver_and_work()

    said = words(bought.shopper.get(f"/orders/{bought.order_id}/invoice"))

    assert "Invoice INV-000001" in said
    assert "−€5.00" in said
    assert "Left after refunds €17.90" in said


@pytest.mark.accept("X25")
def test_what_the_shop_was_called_stays_on_older_invoices(shops: TestShops) -> None:
    with shops.opened(**LEGAL) as shop:
        bought = shop.shopper().buy()
        bought.pay()
        shop.deliver_and_work()
        settings = shop.app.extensions["settings"]
        shop.app.extensions["settings"] = replace(settings, legal_name="A New Name")

        page = words(bought.shopper.get(f"/orders/{bought.order_id}/invoice"))

        assert "Northlight Supply GmbH" in page
        assert "A New Name" not in page


def test_a_person_who_is_forgotten_is_on_no_invoice(sqlite_shop: Shop) -> None:
    bought = sqlite_shop.shopper().buy()
    bought.pay()
    sqlite_shop.deliver_and_work()
    with atomic() as session:
        order = session.scalars(select(Order)).one()
        order.name = order.email = order.address = None

    page = words(bought.shopper.get(f"/orders/{bought.order_id}/invoice"))

    assert "asked us to forget them" in page
    assert "Maya" not in page


@pytest.mark.accept("X25")
def test_each_paid_order_gets_the_next_number_and_no_other_does(shop: Shop) -> None:
    left = shop.shopper().buy()
    paid = [shop.shopper().buy(MUG) for _ in range(3)]
    for bought in paid:
        bought.pay()
        shop.deliver_and_work()
        shop.sandbox.tick()
    shop.deliver_and_work()

    numbers = {row.order_id: row.number for row in shop.rows(Invoice)}

    assert [numbers[bought.order_id] for bought in paid] == [1, 2, 3]
    assert left.order_id not in numbers
    assert shop.proves()


@pytest.mark.accept("X25")
def test_a_confirmation_that_rolls_back_leaves_no_gap(shop: Shop) -> None:
    first, second = some_orders(2)
    with pytest.raises(ZeroDivisionError), atomic():
        invoices.issue(first)
        raise ZeroDivisionError
    with atomic():
        invoices.issue(second)

    assert [(row.number, row.order_id) for row in shop.rows(Invoice)] == [(1, second)]


def some_orders(count: int) -> list[str]:
    made = [an_older_order(number) for number in range(1, count + 1)]
    ids = [order.id for order in made]
    with atomic() as session:
        session.add_all(made)
    return ids


def issued_at_once(shop: Shop, ids: list[str]) -> list[BaseException]:
    """Everybody at the very same moment; every third changes their mind before the end."""
    ready, failed = threading.Barrier(len(ids)), []

    def confirm(place: int, order_id: str) -> None:
        with shop.app.app_context():
            try:
                with atomic():
                    db.session.execute(select(1))
                    ready.wait(timeout=10)
                    invoices.issue(order_id)
                    if place % 3 == 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            except Exception as error:
                failed.append(error)
            finally:
                db.session.remove()

    threads = [
        threading.Thread(target=confirm, args=(place, order_id))
        for place, order_id in enumerate(ids)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


@pytest.mark.accept("X25")
def test_many_at_once_get_consecutive_numbers(postgres_shop: Shop) -> None:
    ids = some_orders(6)
    with atomic() as session:
        session.add(Counter(name=invoices.COUNTER, last=0))

    assert issued_at_once(postgres_shop, ids) == []

    assert [row.number for row in postgres_shop.rows(Invoice)] == [1, 2, 3, 4]


def test_many_at_once_without_the_locked_counter_collide(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: whoever reads the highest number and adds one does not see the others."""

    def highest_and_one() -> int:
        highest = db.session.scalar(select(func.max(Invoice.number))) or 0
        return int(highest) + 1

    monkeypatch.setattr(invoices, "_next", highest_and_one)
    ids = some_orders(6)

    failed = issued_at_once(postgres_shop, ids)

    numbers = [row.number for row in postgres_shop.rows(Invoice)]
    assert failed or len(numbers) < 4
