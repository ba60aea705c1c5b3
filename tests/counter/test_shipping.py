"""Packed, sent in one parcel or in several, delivered: one step at a time."""

from __future__ import annotations

import re
from email import message_from_string, policy
from typing import Any

import pytest

from domain.errors import Conflict, NotFound, ShopError
from models import AuditEntry, OrderItem, OutboxMessage, Shipment
from services import export, outbox, refunds, shipping
from tests.counter.scenes import ADA, a_paid_order, ask, at_once
from tests.shop import MUG, Checkout, Shop


def version(shop: Shop, order: Checkout) -> int:
    found = shop.order(order.order_id)
    assert found is not None
    return found.version


def pack(shop: Shop, order: Checkout, **more: Any) -> None:
    about = {"actor": ADA, "version": version(shop, order), **more}
    shipping.pack(order.order_id, **about)


def ship(shop: Shop, order: Checkout, units: int = 1, **more: Any) -> None:
    (item,) = shop.rows(OrderItem, OrderItem.order_id == order.order_id)
    about: dict[str, Any] = {
        "carrier": "DHL",
        "tracking": "00340 7",
        "actor": ADA,
        "version": version(shop, order),
        **more,
    }
    shipping.ship(order.order_id, {item.id: units}, **about)


def deliver(shop: Shop, order: Checkout, **more: Any) -> None:
    about = {"actor": ADA, "version": version(shop, order), **more}
    shipping.deliver(order.order_id, **about)


def text_of(mail: OutboxMessage) -> str:
    assert mail.result is not None
    parsed = message_from_string(mail.result["source"], policy=policy.default)
    body = parsed.get_body(("plain",))
    assert body
    return str(body.get_content())


STEPS = {"pack": pack, "ship": ship, "deliver": deliver}


def status(shop: Shop, order: Checkout) -> str:
    found = shop.order(order.order_id)
    assert found is not None
    return str(found.status)


@pytest.mark.accept("O20")
def test_an_order_goes_from_paid_to_delivered_one_step_at_a_time(shop: Shop) -> None:
    order = a_paid_order(shop)

    for step in STEPS.values():
        step(shop, order)

    assert [row.to_status for row in shop.history(order.order_id) if row.kind == "transition"] == [
        "pending_payment",
        "payment_confirmed",
        "awaiting_shipment",
        "shipped",
        "delivered",
    ]
    deeds = [(row.actor, row.action) for row in shop.rows(AuditEntry)]
    assert deeds == [(ADA, deed) for deed in ("packed", "sent", "shipped", "delivered")]
    shop.deliver_and_work()
    assert shop.proves()


@pytest.mark.accept("O20")
@pytest.mark.parametrize(
    ("done", "step"),
    [
        ([], "ship"),
        ([], "deliver"),
        (["pack"], "pack"),
        (["pack"], "deliver"),
        (["pack", "ship"], "pack"),
        (["pack", "ship"], "ship"),
        (["pack", "ship", "deliver"], "pack"),
        (["pack", "ship", "deliver"], "ship"),
        (["pack", "ship", "deliver"], "deliver"),
    ],
)
def test_no_step_can_be_skipped_or_done_twice(shop: Shop, done: list[str], step: str) -> None:
    order = a_paid_order(shop)
    for earlier in done:
        STEPS[earlier](shop, order)
    before, parcels = status(shop, order), shop.count(Shipment)

    with pytest.raises(Conflict, match=r"it cannot be (packed|shipped|delivered) now"):
        STEPS[step](shop, order)

    assert (status(shop, order), shop.count(Shipment)) == (before, parcels)


@pytest.mark.accept("O20")
@pytest.mark.parametrize("end", ["unpaid", "refunded"])
def test_what_is_not_paid_is_not_packed(shop: Shop, end: str) -> None:
    if end == "unpaid":
        order = shop.shopper().buy()
    else:
        order = a_paid_order(shop)
        ask(order)
        outbox.drain()

    with pytest.raises(Conflict):
        pack(shop, order)


@pytest.mark.accept("O20")
def test_an_order_is_shipped_once_every_unit_of_it_is(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    pack(shop, order)

    ship(shop, order, 2)
    assert status(shop, order) == "awaiting_shipment"
    ship(shop, order, 1, tracking="00340 8")

    assert status(shop, order) == "shipped"
    assert [parcel.lines[0]["quantity"] for parcel in shop.rows(Shipment)] == [2, 1]


@pytest.mark.parametrize("units", [0, 2, -1])
def test_no_more_is_sent_than_is_left(shop: Shop, units: int) -> None:
    order = a_paid_order(shop, quantity=3)
    pack(shop, order)
    ship(shop, order, 2)

    with pytest.raises(shipping.NotAParcel):
        ship(shop, order, units)

    assert shop.count(Shipment) == 1


@pytest.mark.parametrize(
    "more", [{"carrier": ""}, {"carrier": "x" * 61}, {"tracking": "x" * 121}], ids=str
)
def test_a_parcel_needs_a_carrier_and_fits_its_label(shop: Shop, more: dict[str, str]) -> None:
    order = a_paid_order(shop)
    pack(shop, order)

    with pytest.raises(shipping.NotAParcel):
        ship(shop, order, **more)

    assert (shop.count(Shipment), status(shop, order)) == (0, "awaiting_shipment")


def test_what_went_back_on_the_shelf_is_not_sent(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    (item,) = shop.rows(OrderItem, OrderItem.order_id == order.order_id)
    ask(order, 1800, {item.id: 1})
    shop.work()
    pack(shop, order)

    with pytest.raises(shipping.NotAParcel, match="from 0 to 2 can be sent"):
        ship(shop, order, 3)
    ship(shop, order, 2)

    assert status(shop, order) == "shipped"


def test_an_order_whose_rest_went_back_can_be_called_shipped(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    (item,) = shop.rows(OrderItem, OrderItem.order_id == order.order_id)
    pack(shop, order)
    ship(shop, order, 2)
    ask(order, 1800, {item.id: 1})
    shop.work()

    ship(shop, order, 0)

    assert (status(shop, order), shop.count(Shipment)) == ("shipped", 1)


def test_a_page_that_is_out_of_date_does_nothing_and_says_what_happened(shop: Shop) -> None:
    order = a_paid_order(shop)
    seen = version(shop, order)
    pack(shop, order, actor="grace@example.com")

    with pytest.raises(shipping.Overtaken, match=r"grace@example\.com, 0 min ago: moved"):
        ship(shop, order, version=seen)

    assert status(shop, order) == "awaiting_shipment"


@pytest.mark.accept("O20")
def test_two_who_ship_at_once_send_one_parcel(postgres_shop: Shop) -> None:
    shop = postgres_shop
    order = a_paid_order(shop)
    pack(shop, order)
    seen = version(shop, order)

    results = at_once(shop, *[lambda: ship(shop, order, version=seen)] * 3)

    assert sum(isinstance(result, ShopError) for result in results) == 2
    assert shop.count(Shipment) == 1


def test_an_unknown_order_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        shipping.pack("nope", actor=ADA, version=1)


def test_each_parcel_is_told_once_with_its_tracking_number(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    pack(shop, order)
    ship(shop, order, 2)
    shop.work()
    ship(shop, order, 1, tracking="00340 8")
    shop.work()
    shop.work()

    mails = shop.rows(OutboxMessage, OutboxMessage.kind == "shipped")
    texts = [text_of(mail) for mail in mails]
    assert len(texts) == 2
    assert "00340 7" in texts[0] and "The rest follows" in texts[0]
    assert "00340 8" in texts[1] and "The rest follows" not in texts[1]


def test_the_shopper_sees_the_parcels(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=3)
    pack(shop, order)
    ship(shop, order, 2)

    page = re.sub(r"<[^>]+>", "", order.shopper.get(f"/orders/{order.order_id}").text)
    assert "DHL 00340 7, sent" in page and "2 × Enamel mug." in page
    assert "The rest follows in another parcel." in page
    ship(shop, order, 1)
    deliver(shop, order)
    page = order.shopper.get(f"/orders/{order.order_id}").text
    assert "Delivered" in page and "The rest follows" not in page


def test_parcels_are_in_the_export(shop: Shop) -> None:
    order = a_paid_order(shop)
    pack(shop, order)
    ship(shop, order)

    (line,) = export.lines("jsonl", ["shipment"])

    assert order.order_id in line and "00340 7" in line


def test_goods_that_were_sent_still_prove(shop: Shop) -> None:
    order = a_paid_order(shop, quantity=2)
    (item,) = shop.rows(OrderItem, OrderItem.order_id == order.order_id)
    for step in (pack, lambda s, o: ship(s, o, 2), deliver):
        step(shop, order)
    ask(order, restock={item.id: 2})  # it came back by post
    shop.work()
    shop.deliver_and_work()

    assert status(shop, order) == "delivered"
    assert (shop.product(MUG).sold, refunds.of_order(order.order_id)[0].state) == (0, "succeeded")
    assert shop.proves()
