"""Parcels of orders with lines that recur: only what has begun is sent."""

from __future__ import annotations

import pytest

from models import OrderItem, OutboxMessage
from services import shipping
from services.shipping import NotAParcel
from tests.counter.scenes import ADA
from tests.pages.conftest import signed_in
from tests.plans.buying import COFFEE, DECLINED, GOOD, Opened, OwnPage, lines, settle
from tests.shop import MUG, Shop


def past_due(page: OwnPage) -> Opened:
    """Packed, with the mug paid and the coffee's first payment declined."""
    opened = page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(page.shop)
    shipping.pack(opened.order_id, actor=ADA, version=_version(page.shop, opened))
    return opened


def send(shop: Shop, opened: Opened, **units: int) -> None:
    items = {row.sku: row.id for row in shop.rows(OrderItem)}
    chosen = {items[MUG if name == "mug" else COFFEE]: count for name, count in units.items()}
    shipping.ship(
        opened.order_id,
        chosen,
        carrier="DHL",
        tracking="",
        actor=ADA,
        version=_version(shop, opened),
    )


def _version(shop: Shop, opened: Opened) -> int:
    order = shop.order(opened.order_id)
    assert order is not None
    return order.version


def is_last(shop: Shop) -> list[bool]:
    sent = shop.rows(OutboxMessage, OutboxMessage.kind == "shipped")
    return [message.payload["is_last"] for message in sent]


def test_what_is_not_paid_is_not_sent(any_shop: Shop) -> None:
    opened = past_due(OwnPage(any_shop))

    page = signed_in(any_shop).get(f"/admin/orders/{opened.order_id}").text
    assert "Monthly coffee is not paid yet: it can be sent once it is." in page
    with pytest.raises(NotAParcel, match="Monthly coffee is not paid, so it cannot be sent"):
        send(any_shop, opened, coffee=1)


def test_what_is_paid_later_goes_into_another_parcel(any_shop: Shop) -> None:
    shop, opened = any_shop, past_due(OwnPage(any_shop))
    send(shop, opened, mug=1)
    order = shop.order(opened.order_id)
    assert order is not None
    assert order.status == "awaiting_shipment"
    with pytest.raises(NotAParcel, match="may have to be sent still"):
        send(shop, opened)

    shop.sandbox.pay(shop.legs(opened.order_id)[-1].stripe_id, GOOD)
    settle(shop)
    assert lines(shop, opened.order_id)[COFFEE] == "active"
    send(shop, opened, coffee=1)

    order = shop.order(opened.order_id)
    assert order is not None
    assert order.status == "shipped"
    assert is_last(shop) == [False, True]
    assert shop.proves()


def test_what_never_begins_holds_up_nothing(page: OwnPage) -> None:
    shop, opened = page.shop, past_due(page)
    send(shop, opened, mug=1)
    shop.clock.forward(hours=24)
    shop.sandbox.tick()
    settle(shop)
    assert lines(shop, opened.order_id)[COFFEE] == "ended"

    send(shop, opened)

    order = shop.order(opened.order_id)
    assert order is not None
    assert order.status == "shipped"
    assert shop.proves()
