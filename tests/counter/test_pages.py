"""The counter's forms for one order, as an admin's browser sends them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from models import OrderItem, OutboxMessage, Refund, Shipment, StockMovement
from services import outbox
from tests.counter.scenes import a_paid_order, at_stripe
from tests.shop import MUG, Checkout, Shop, Shopper


def form_of(admin: Shopper, order: Checkout, path: str = "refund") -> dict[str, str]:
    """The hidden fields of the refund page."""
    page = admin.get(f"/admin/orders/{order.order_id}/{path}").text
    return dict(re.findall(r'type="hidden" name="(key|currency)" value="([^"]*)"', page))


def refund(admin: Shopper, order: Checkout, form: dict[str, str], **fields: Any) -> Any:
    about = {"reason": "Goodwill", **form, **fields}
    return admin.post(f"/admin/orders/{order.order_id}/refund", about)


def item_of(shop: Shop, order: Checkout) -> int:
    return int(shop.rows(OrderItem, OrderItem.order_id == order.order_id)[0].id)


def step(admin: Shopper, order: Checkout, name: str, **fields: Any) -> Any:
    """Press a button of the order's page, with what that page has hidden in it."""
    path = f"/admin/orders/{order.order_id}"
    version = re.search(r'name="version" value="(\d+)"', admin.get(path).text)
    seen = version[1] if version else "1"
    return admin.post(f"{path}/{name}", {"version": seen, **fields})


@pytest.mark.accept("X4")
def test_a_ticked_line_is_refunded_and_put_back(shop: Shop, ada: Shopper) -> None:
    order = a_paid_order(shop, quantity=3)
    line = item_of(shop, order)
    ticked = {"line": line, f"units-{line}": 2, "shipping": "1", "restock": "1"}

    answer = refund(ada, order, form_of(ada, order), **ticked)

    assert answer.status_code == 303
    page = ada.get(answer.location).text
    assert "Refund of €40.90 on its way." in page  # 2 × €18.00 and €4.90
    assert page.count("Refund on its way") == 2  # by the number, and in the list
    outbox.drain()
    assert at_stripe(shop) == [(4090, "succeeded")]
    assert [row.quantity for row in shop.rows(StockMovement, StockMovement.reason == "Goodwill")]
    assert shop.product(MUG).sold == 1


@pytest.mark.accept("X4")
def test_an_amount_that_was_typed_wins_over_the_ticks(shop: Shop, ada: Shopper) -> None:
    order = a_paid_order(shop)

    refund(ada, order, form_of(ada, order), line=item_of(shop, order), amount="3,50")

    (row,) = shop.rows(Refund)
    assert (row.amount, shop.product(MUG).sold) == (350, 1)  # restock was not ticked


@pytest.mark.accept("X4")
def test_the_same_form_sent_twice_is_one_refund(shop: Shop, ada: Shopper) -> None:
    order = a_paid_order(shop)
    form = form_of(ada, order)

    answers = [refund(ada, order, form, amount="5").status_code for _ in range(2)]

    assert answers == [303, 303]
    assert len(shop.rows(Refund)) == 1
    changed = refund(ada, order, form, amount="6")
    assert changed.status_code == 409 and "It asked for €5.00" in changed.text
    assert form["key"] not in changed.text


@pytest.mark.accept("X4")
@pytest.mark.parametrize("restock", [True, False])
def test_restock_is_ticked_while_nothing_was_sent(shop: Shop, ada: Shopper, restock: bool) -> None:
    order = a_paid_order(shop)
    if not restock:
        step(ada, order, "packing")
        step(ada, order, "shipments", carrier="DHL", **{f"units-{item_of(shop, order)}": 1})

    page = ada.get(f"/admin/orders/{order.order_id}/refund").text

    assert bool(re.search(r'name="restock" value="1" checked', page)) == restock
    assert "€22.90</span> can still be refunded to Visa" in page


BAD = [
    ({"amount": "22.91"}, 409, "€22.90 of this payment can still be refunded"),
    ({"amount": "0"}, 422, "more than nothing"),
    ({"amount": "-5"}, 422, "Type the amount in EUR"),
    ({"amount": "five"}, 422, "Type the amount in EUR"),
    ({"amount": "1.234"}, 422, "Type the amount in EUR"),
    ({"amount": "٣"}, 422, "Type the amount in EUR"),
    ({"amount": "9" * 400}, 422, "Type the amount in EUR"),
    ({"amount": "999999999999"}, 422, "more than nothing"),
    ({}, 422, "Tick what to refund"),
    ({"amount": "5", "currency": "usd"}, 422, "paid in EUR"),
    ({"amount": "5", "key": ""}, 422, "lost its key"),
    ({"amount": "5", "reason": ""}, 422, "Say why"),
    ({"amount": "5", "reason": "x" * 5000}, 422, "Say why"),
    ({"line": "999999"}, 422, "not of this order"),
    ({"line": "x' OR 1=1"}, 422, "not of this order"),
]


@pytest.mark.accept("X4")
@pytest.mark.parametrize(("fields", "status", "says"), BAD)
def test_a_form_that_cannot_be_is_refused_in_words(
    sqlite_shop: Shop, admin: Shopper, fields: dict[str, str], status: int, says: str
) -> None:
    order = a_paid_order(sqlite_shop)

    answer = refund(admin, order, form_of(admin, order), **fields)

    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert sqlite_shop.rows(Refund) == []
    owed = sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "refund")
    assert owed == []


@pytest.mark.parametrize("units", ["0", "4", "x", "-1", "1.5"])
def test_units_that_were_not_bought_are_refused(
    sqlite_shop: Shop, admin: Shopper, units: str
) -> None:
    order = a_paid_order(sqlite_shop, quantity=3)
    line = item_of(sqlite_shop, order)

    answer = refund(admin, order, form_of(admin, order), **{"line": line, f"units-{line}": units})

    assert answer.status_code == 422 and "from 1 to 3 were bought" in answer.text
    assert sqlite_shop.rows(Refund) == []


def test_what_was_ticked_and_typed_stays_after_a_refusal(sqlite_shop: Shop, admin: Shopper) -> None:
    order = a_paid_order(sqlite_shop)
    form, line = form_of(admin, order), item_of(sqlite_shop, order)

    page = refund(admin, order, form, line=line, amount="99", reason="Arrived late").text

    assert re.search(rf'name="line" value="{line}"[^>]* checked', page)
    assert 'value="99"' in page and 'value="Arrived late"' in page and form["key"] in page


def test_an_unpaid_order_has_no_refund_form(sqlite_shop: Shop, admin: Shopper) -> None:
    order = sqlite_shop.shopper().buy()

    page = admin.get(f"/admin/orders/{order.order_id}/refund")

    assert "This order is not paid" in page.text and "refund-form" not in page.text
    answer = refund(admin, order, {"key": "k" * 36}, amount="5")
    assert (answer.status_code, sqlite_shop.rows(Refund)) == (409, [])
    assert 'id="refund"' not in admin.get(f"/admin/orders/{order.order_id}").text


def test_strangers_and_unknown_orders(sqlite_shop: Shop, admin: Shopper) -> None:
    order = a_paid_order(sqlite_shop)

    for path in ("refund", "packing", "shipments", "delivery"):
        stranger = sqlite_shop.shopper().post(f"/admin/orders/{order.order_id}/{path}")
        assert stranger.location == "/admin/login"
        assert admin.post(f"/admin/orders/nope/{path}").status_code == 404
    assert admin.get("/admin/orders/nope/refund").status_code == 404


# -- parcels


@pytest.mark.accept("O20")
def test_an_order_is_packed_sent_and_delivered_from_its_page(shop: Shop, ada: Shopper) -> None:
    order = a_paid_order(shop, quantity=2)
    line = item_of(shop, order)

    assert step(ada, order, "packing").status_code == 303
    parcel = {"carrier": "DHL", "tracking": "00340 7"}
    assert step(ada, order, "shipments", **parcel, **{f"units-{line}": 1}).status_code == 303
    page = ada.get(f"/admin/orders/{order.order_id}").text
    assert "00340 7" in page and "of 1" in page
    assert step(ada, order, "shipments", **parcel, **{f"units-{line}": 1}).status_code == 303
    assert step(ada, order, "delivery").status_code == 303

    assert shop.the_order().status == "delivered"
    assert len(shop.rows(Shipment)) == 2


@pytest.mark.accept("O20")
@pytest.mark.parametrize("jump", ["shipments", "delivery"])
def test_a_jump_is_refused_with_the_order_as_it_is(
    sqlite_shop: Shop, admin: Shopper, jump: str
) -> None:
    order = a_paid_order(sqlite_shop)

    answer = step(admin, order, jump, carrier="DHL", **{f"units-{item_of(sqlite_shop, order)}": 1})

    assert answer.status_code == 409
    assert "This order is payment confirmed: it cannot be" in answer.text
    assert f"/admin/orders/{order.order_id}/packing" in answer.text
    assert sqlite_shop.rows(Shipment) == []


@pytest.mark.parametrize("seen", ["", "x", "1", "9" * 30])
def test_a_page_out_of_date_gets_the_fresh_state(
    sqlite_shop: Shop, admin: Shopper, seen: str
) -> None:
    order = a_paid_order(sqlite_shop)
    step(admin, order, "packing")

    answer = admin.post(f"/admin/orders/{order.order_id}/packing", {"version": seen})

    assert answer.status_code == 409
    assert "ada@example.com, 0 min ago: moved it to awaiting shipment." in answer.text
    assert "ship-form" in answer.text


@pytest.mark.parametrize(
    ("units", "carrier", "says"),
    [
        ("0", "DHL", "Choose what is in the parcel"),
        ("4", "DHL", "from 0 to 3 can be sent"),
        ("x", "DHL", "as a whole number"),
        ("-1", "DHL", "as a whole number"),
        ("1", "", "Say who carries"),
        ("1", "x" * 100, "too long"),
    ],
)
def test_a_parcel_that_cannot_be_keeps_what_was_typed(
    sqlite_shop: Shop, admin: Shopper, units: str, carrier: str, says: str
) -> None:
    order = a_paid_order(sqlite_shop, quantity=3)
    step(admin, order, "packing")
    fields = {f"units-{item_of(sqlite_shop, order)}": units, "carrier": carrier, "tracking": "T7"}

    answer = step(admin, order, "shipments", **fields)

    assert answer.status_code == 422 and says in answer.text
    assert 'value="T7"' in answer.text
    assert sqlite_shop.rows(Shipment) == []
