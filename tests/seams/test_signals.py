"""Code in this process is told after the commit, and can break nothing by what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from extensions import atomic, db, in_transaction
from models import Order
from services import announcements, shipping, signals
from tests.counter.scenes import ADA, a_paid_order, ask
from tests.counter.test_shipping import pack, ship
from tests.shop import Shop

Told = list[tuple[str, str, int]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What a handler of every signal was told: name, order, version."""
    heard: Told = []
    handlers = []
    for name, signal in announcements._SIGNALS.items():

        def handler(app: Any, *, order_id: str, version: int, _name: str = name, **_: Any) -> None:
            heard.append((_name, order_id, version))

        handlers.append((signal, signal.connect(handler)))
    yield heard
    for signal, connected in handlers:
        signal.disconnect(connected)


@pytest.fixture
def listen() -> Iterator[Any]:
    """Connect a handler for the length of one test."""
    connected = []

    def connect(signal: Any, handler: Any) -> None:
        connected.append((signal, signal.connect(handler, weak=False)))

    yield connect
    for signal, handler in connected:
        signal.disconnect(handler)


@pytest.mark.accept("X21")
def test_each_step_is_told_with_order_and_version(told: Told, any_database: Shop) -> None:
    shop = any_database
    order = a_paid_order(shop)
    pack(shop, order)
    ship(shop, order)
    ask(order, 500)
    shop.deliver_and_work()
    other = a_paid_order(shop)
    ask(other)
    shop.deliver_and_work()

    names = [(name, id_) for name, id_, _ in told]
    assert names[:3] == [
        ("order.confirmed", order.order_id),
        ("order.shipped", order.order_id),
        ("order.refunded", order.order_id),
    ]
    assert sorted(names[3:]) == [
        (f"order.{what}", other.order_id) for what in ("cancelled", "confirmed", "refunded")
    ]
    last = shop.order(order.order_id)
    assert last and told[2][2] == last.version


@pytest.mark.accept("X21")
def test_a_handler_sees_what_is_committed_and_holds_no_transaction_of_ours(
    listen: Any, any_database: Shop
) -> None:
    seen: list[Any] = []

    def look(app: Any, *, order_id: str, **_: Any) -> None:
        seen.append(in_transaction())
        with db.engine.connect() as other:
            where = {"id": order_id}
            seen.append(other.scalar(text("SELECT status FROM orders WHERE id = :id"), where))

    listen(signals.order_confirmed, look)
    a_paid_order(any_database)

    assert seen == [False, "payment_confirmed"]


def test_what_rolls_back_is_told_to_nobody(told: Told, sqlite_shop: Shop) -> None:
    order = a_paid_order(sqlite_shop)
    told.clear()

    with pytest.raises(ZeroDivisionError), atomic():
        announcements.announce("order.refunded", order.order_id, "r1")
        _ = 1 / 0
    with atomic():
        pass

    assert told == []


@pytest.mark.accept("X21")
def test_a_handler_that_raises_is_logged_and_breaks_nothing(
    listen: Any, any_database: Shop
) -> None:
    shop, heard = any_database, []

    def leaves_a_mess(app: Any, *, order_id: str, **_: Any) -> None:
        db.session.get_one(Order, order_id).total = 1
        db.session.execute(text("SELECT 1"))
        raise RuntimeError("a handler of somebody's")

    def breaks_its_session(app: Any, **_: Any) -> None:
        db.session.execute(text("SELECT nothing FROM nowhere"))

    listen(signals.order_confirmed, leaves_a_mess)
    listen(signals.order_confirmed, breaks_its_session)
    listen(signals.order_confirmed, lambda app, **more: heard.append(more["order_id"]))
    with capture_logs() as logs:
        order = a_paid_order(shop)

    assert heard == [order.order_id]
    assert [line["event"] for line in logs].count("signal.handler_failed") == 2
    assert shop.the_order().payment_status == "paid"
    assert [receipt.state for receipt in shop.receipts()] == ["done"]
    assert shop.proves()


@pytest.mark.accept("X21")
def test_a_handler_may_go_on_with_the_order(listen: Any, any_database: Shop) -> None:
    def pack_at_once(app: Any, *, order_id: str, version: int, **_: Any) -> None:
        shipping.pack(order_id, actor=ADA, version=version)

    listen(signals.order_confirmed, pack_at_once)
    a_paid_order(any_database)

    assert any_database.the_order().status == "awaiting_shipment"


def test_a_shopper_who_comes_back_first_tells_it_too(told: Told, sqlite_shop: Shop) -> None:
    order = sqlite_shop.shopper().buy()
    order.pay()

    assert "Thank you, Maya" in order.shopper.come_back(order).text
    sqlite_shop.deliver_and_work()
    assert [name for name, *_ in told] == ["order.confirmed"]
