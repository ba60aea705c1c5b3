"""What the tables promise of attempts, orders and subscriptions, and how older ones get there."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from flask_migrate import upgrade
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from app import create_app
from extensions import atomic, db
from models import Order, Subscription
from tests.plans.buying import OwnPage
from tests.shop import MUG, Shop, settings_for
from tests.spine.stripe_says import event, paid_intent, post

MIGRATIONS = str(Path(__file__).resolve().parent.parent.parent / "migrations")


def columns(table: str) -> dict[str, Any]:
    return {column["name"]: column for column in inspect(db.engine).get_columns(table)}


def an_older_order(number: int, **more: Any) -> Order:
    """One from before there were attempts."""
    amounts = {"subtotal": 100, "total": 100, "currency": "eur"}
    return Order(id=str(uuid.uuid4()), number=number, strategy="order_first", **amounts, **more)


@pytest.mark.accept("A8")
def test_an_attempt_has_one_order_and_an_older_order_needs_none(shop: Shop) -> None:
    bought = shop.shopper().buy()
    assert columns("orders")["checkout_attempt_id"]["nullable"]

    with atomic() as session:
        session.add_all([an_older_order(1), an_older_order(2)])
    with pytest.raises(IntegrityError), atomic() as session:
        session.add(an_older_order(3, checkout_attempt_id=bought.order_id))


@pytest.mark.accept("A9")
def test_subscriptions_may_share_an_attempt_or_have_none(shop: Shop) -> None:
    bought = shop.shopper().buy()
    assert columns("subscriptions")["checkout_attempt_id"]["nullable"]
    indexed = [index["column_names"] for index in inspect(db.engine).get_indexes("subscriptions")]
    assert ["checkout_attempt_id"] in indexed

    def a_plan(part: str, attempt_id: str | None) -> Subscription:
        price = {"unit_amount": 1, "quantity": 1, "currency": "eur", "interval": "month"}
        ids = {"part": part, "checkout_attempt_id": attempt_id, "stripe_id": f"sub_{part}"}
        return Subscription(title=part, status="active", **price, **ids)

    with atomic() as session:
        session.add_all([a_plan(part, bought.order_id) for part in ("A", "B")])
        session.add(a_plan("C", None))
    with pytest.raises(IntegrityError), atomic() as session:
        session.add(a_plan("A", bought.order_id))


@pytest.mark.accept("A10")
def test_a_shop_of_before_keeps_its_orders_and_learns_to_subscribe(tmp_path: Path) -> None:
    app = create_app(settings_for(f"sqlite:///{tmp_path / 'older.db'}", 1))
    with app.app_context():
        upgrade(directory=MIGRATIONS, revision="0005")
        ids = {"id": "a1", "checkout_attempt_id": "a1"}
        _insert("checkout_attempts", id="a1", state="open")
        _insert("orders", **ids, number=10001, status="pending_payment")
        _insert("stripe_legs", id=1, attempt_id="a1", stripe_id="cs_1", state="open")
        _insert("payments", id=1, attempt_id="a1", leg_id=1, payment_intent="pi_1", role="settles")

        upgrade(directory=MIGRATIONS)

        with db.engine.connect() as connection:
            kept = connection.execute(text("SELECT id, checkout_attempt_id FROM orders")).all()
            legs = connection.execute(text("SELECT stripe_id, part FROM stripe_legs")).all()
            paid = connection.execute(text("SELECT payment_intent, part FROM payments")).all()
        assert (kept, legs, paid) == ([("a1", "a1")], [("cs_1", "")], [("pi_1", "")])
        assert {"checkout_attempt_id", "part", "stripe_id"} <= set(columns("subscriptions"))
        db.engine.dispose()


@pytest.mark.accept("X25")
def test_what_was_paid_before_there_were_invoices_gets_its_numbers(tmp_path: Path) -> None:
    app = create_app(settings_for(f"sqlite:///{tmp_path / 'paid.db'}", 1))
    with app.app_context():
        upgrade(directory=MIGRATIONS, revision="0009")
        for number, paid_at in ((1, "2026-11-03 10:00:00"), (2, "2026-11-02 10:00:00"), (3, None)):
            _insert("orders", id=f"o{number}", number=number, paid_at=paid_at)

        upgrade(directory=MIGRATIONS)

        with db.engine.connect() as connection:
            given = connection.execute(text("SELECT number, order_id FROM invoices")).all()
            last = connection.execute(text("SELECT name, last FROM counters")).all()
        assert sorted(given) == [(1, "o2"), (2, "o1")]
        assert last == [("invoices", 2)]
        db.engine.dispose()


def _insert(table: str, **values: Any) -> None:
    """A row of an older shop: what it says, and something in every other column that wants it."""
    blank = {"INTEGER": 0, "BOOLEAN": False, "DATETIME": "2026-11-01 00:00:00", "JSON": "{}"}
    for name, column in columns(table).items():
        if not column["nullable"] and name not in values and column["default"] is None:
            values[name] = blank.get(str(column["type"]), "x")
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f":{name}" for name in values)
    with db.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


@pytest.mark.accept("A15")
def test_the_intents_own_success_is_enough(shop: Shop) -> None:
    """Nothing else is told: neither of its session nor of its charge."""
    opened = OwnPage(shop).opened(MUG)

    body = event("payment_intent.succeeded", paid_intent(opened.intent, 2290, opened.order_id))
    assert post(shop, body) == 200
    shop.work()

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.status, order.payment_intent) == ("payment_confirmed", opened.intent)
