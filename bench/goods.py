"""Orders that wait for their payment, written straight into the databases.

In the shop's database they look as its own checkout leaves them once Stripe has opened the
session; in the rival's as its own tables want them.
"""

from __future__ import annotations

import itertools
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from bench.events import (
    CURRENCY,
    EVENT,
    INTENT,
    SESSION,
    SHIPPING,
    SUBTOTAL,
    TOTAL,
    Purchase,
    body,
)

PRODUCTS = 200  # few enough to be a shop, enough that two orders seldom meet on a row
IN_STOCK = 10_000_000
_numbers = itertools.count(1)


def purchases(count: int) -> list[Purchase]:
    """So many purchases of two products each, with ids that no other run of this process has."""
    return [_purchase(next(_numbers)) for _ in range(count)]


def _purchase(number: int) -> Purchase:
    first, second = sorted(random.sample(range(1, PRODUCTS + 1), 2))
    return Purchase(
        attempt_id=str(uuid.uuid4()),
        session_id=_numbered(SESSION, number),
        intent_id=_numbered(INTENT, number),
        event_id=_numbered(EVENT, number),
        lines=((first, 1), (second, 2)),
    )


def _numbered(pattern: str, number: int) -> str:
    return f"{pattern[: -len(str(number))]}{number}"


class ShopTables:
    """The shop's own tables, for rows as its checkout writes them."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        with self.connection.cursor() as cursor:
            _copy(
                cursor,
                "products",
                "sku slug title subtitle description category picture prices active on_hand held "
                "sold created_at",
                (
                    (
                        *(f"SKU-{n}", f"product-{n}", f"Product {n}", "", "", "", ""),
                        *(json.dumps({CURRENCY: 1400}), True, IN_STOCK, 0, 0, _now()),
                    )
                    for n in range(1, PRODUCTS + 1)
                ),
            )

    def add_open(self, waiting: list[Purchase]) -> None:
        """Attempt, order, items, history, open leg and stock hold of each."""
        moment = _now()
        deadline = moment + timedelta(hours=1)
        contact = {"name": "Ada Example", "email": "shopper@example.com", "phone": None}
        address = {
            "line1": "Kaiser-Joseph-Straße 17",
            "line2": None,
            "city": "Freiburg im Breisgau",
            "postal_code": "79098",
            "state": None,
            "country": "DE",
        }
        delivery = {"code": "standard", "label": "Standard delivery", "amount": SHIPPING}
        with self.connection.transaction(), self.connection.cursor() as cursor:
            carts = [
                row[0]
                for row in cursor.execute(
                    "INSERT INTO carts (shopper_id, currency, created_at, updated_at) "
                    "SELECT gen_random_uuid(), 'eur', %s, %s FROM generate_series(1, %s) "
                    "RETURNING id",
                    (moment, moment, len(waiting)),
                )
            ]
            _copy(
                cursor,
                "checkout_attempts",
                "id cart_id shopper_id strategy payment_ui fingerprint snapshot currency subtotal "
                "shipping total state status is_processing hold lines_out deadline created_at "
                "next_look_at",
                (
                    (
                        *(one.attempt_id, cart, str(uuid.uuid4()), "order_first", "hosted"),
                        uuid.uuid4().hex * 2,
                        json.dumps(
                            {
                                "lines": [_line(*line) for line in one.lines],
                                "contact": contact,
                                "address": address,
                                "delivery": delivery,
                            }
                        ),
                        *(CURRENCY, SUBTOTAL, SHIPPING, TOTAL, "open", "pending_payment", False),
                        *("held", True, deadline, moment, deadline),
                    )
                    for one, cart in zip(waiting, carts, strict=True)
                ),
            )
            numbers = [
                row[0]
                for row in cursor.execute(
                    "SELECT nextval('order_numbers') FROM generate_series(1, %s)", (len(waiting),)
                )
            ]
            _copy(
                cursor,
                "orders",
                "id checkout_attempt_id number shopper_id strategy status payment_status "
                "is_provisional sync_status sync_attempts currency subtotal discount shipping tax "
                "total refunded name email address delivery link_version version created_at "
                "updated_at",
                (
                    (
                        *(one.attempt_id, one.attempt_id, number, str(uuid.uuid4())),
                        *("order_first", "pending_payment", "pending", False, "syncing", 0),
                        *(CURRENCY, SUBTOTAL, 0, SHIPPING, 0, TOTAL, 0),
                        *(contact["name"], contact["email"]),
                        *(json.dumps(address), json.dumps(delivery), 1, 1, moment, moment),
                    )
                    for one, number in zip(waiting, numbers, strict=True)
                ),
            )
            _copy(
                cursor,
                "order_items",
                "order_id product_id sku title subtitle picture unit_amount quantity state",
                (
                    (one.attempt_id, *_line(*line).values(), "active")
                    for one in waiting
                    for line in one.lines
                ),
            )
            _copy(
                cursor,
                "order_events",
                "order_id kind to_status cause actor detail at",
                (
                    (one.attempt_id, "transition", "pending_payment", "checkout", "", "", moment)
                    for one in waiting
                ),
            )
            _copy(
                cursor,
                "stripe_legs",
                "attempt_id stripe_id payment_intent kind is_ours amount currency state url "
                "idempotency_key parameters deadline asked_at version created_at",
                (
                    (
                        *(one.attempt_id, one.session_id, None, "session", True, TOTAL, CURRENCY),
                        *("open", f"https://checkout.stripe.com/c/pay/{one.session_id}"),
                        f"{one.attempt_id}:leg1:g1",
                        json.dumps({"client_reference_id": one.attempt_id, "mode": "payment"}),
                        *(deadline, moment, 2, moment),
                    )
                    for one in waiting
                ),
            )
            held = Counter[int]()
            for one in waiting:
                held.update(dict(one.lines))
            cursor.executemany(
                "UPDATE products SET held = held + %s WHERE id = %s",
                [(units, product) for product, units in held.items()],
            )
        self.connection.execute("VACUUM ANALYZE")

    def give_up(self, waiting: list[Purchase]) -> None:
        """End them unpaid, stock and all, as if their time had run out."""
        ids = [one.attempt_id for one in waiting]
        with self.connection.transaction():
            for one in waiting:
                for product, units in one.lines:
                    self.connection.execute(
                        "UPDATE products SET held = held - %s WHERE id = %s", (units, product)
                    )
            self.connection.execute(
                "UPDATE stripe_legs SET state = 'expired', version = version + 1 "
                "WHERE attempt_id = ANY(%s)",
                (ids,),
            )
            self.connection.execute(
                "UPDATE orders SET status = 'expired', sync_status = 'synced' WHERE id = ANY(%s)",
                (ids,),
            )
            self.connection.execute(
                "UPDATE checkout_attempts SET state = 'closed', status = 'expired', "
                "hold = 'released', closed_at = now() WHERE id = ANY(%s)",
                (ids,),
            )

    def add_events(self, told: list[Purchase]) -> None:
        """Events that are stored and leased by somebody who will never come back for them."""
        moment = _now()
        with self.connection.cursor() as cursor:
            _copy(
                cursor,
                "stripe_events",
                "id type object_id api_version livemode payload lane state tries next_at "
                "received_at",
                (
                    (
                        *(one.event_id, "checkout.session.completed", one.session_id),
                        *("2026-10-28.endive", False, body(one).decode(), "webhook", "new", 0),
                        *(moment + timedelta(hours=1), moment),
                    )
                    for one in told
                ),
            )

    def waiting(self) -> int:
        """Events that are stored and not applied."""
        return self._number("SELECT count(*) FROM stripe_events WHERE state = 'new'")

    def stored(self) -> int:
        return self._number("SELECT count(*) FROM stripe_events")

    def settled(self) -> int:
        """Orders that are paid, each with its payment, its goods sold and its receipt owed."""
        return self._number(
            "SELECT count(*) FROM orders o JOIN checkout_attempts a ON a.id = o.id "
            "JOIN payments p ON p.attempt_id = a.id AND p.role = 'settles' "
            "JOIN outbox x ON x.order_id = o.id AND x.kind = 'receipt' "
            "WHERE o.status = 'payment_confirmed' AND a.hold = 'sold'"
        )

    def applied(self, told: list[Purchase]) -> tuple[float, float]:
        """When the first and the last of these events were applied, in seconds since 1970."""
        found = self.connection.execute(
            "SELECT extract(epoch FROM min(applied_at)), extract(epoch FROM max(applied_at)) "
            "FROM stripe_events WHERE id = ANY(%s)",
            ([one.event_id for one in told],),
        ).fetchone()
        assert found is not None
        return float(found[0]), float(found[1])

    def _number(self, query: str) -> int:
        found = self.connection.execute(query).fetchone()
        assert found is not None
        return int(found[0])


class BaselineTables:
    """The rival's tables, which it has made by itself."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        with self.connection.cursor() as cursor:
            rows = ((n, f"Product {n}", IN_STOCK) for n in range(1, PRODUCTS + 1))
            _copy(cursor, "product", "id title stock", rows)

    def add_open(self, waiting: list[Purchase]) -> None:
        moment = _now().replace(tzinfo=None)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            _copy(
                cursor,
                "orders",
                "id status email total currency created_at",
                (
                    (one.attempt_id, "pending", "shopper@example.com", TOTAL, CURRENCY, moment)
                    for one in waiting
                ),
            )
            _copy(
                cursor,
                "order_item",
                "order_id product_id quantity",
                ((one.attempt_id, *line) for one in waiting for line in one.lines),
            )
        self.connection.execute("VACUUM ANALYZE")

    def settled(self) -> int:
        found = self.connection.execute(
            "SELECT count(*) FROM orders o JOIN receipt r ON r.order_id = o.id "
            "JOIN order_history h ON h.order_id = o.id WHERE o.status = 'paid'"
        ).fetchone()
        assert found is not None
        return int(found[0])


def _line(product: int, quantity: int) -> dict[str, Any]:
    return {
        "product_id": product,
        "sku": f"SKU-{product}",
        "title": f"Product {product}",
        "subtitle": "",
        "picture": "",
        "unit_amount": SUBTOTAL // 3,
        "quantity": quantity,
    }


def _copy(
    cursor: psycopg.Cursor[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    names = ", ".join(columns.split())
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _now() -> datetime:
    return datetime.now(UTC)
