"""Stock: one conditional UPDATE per product, always in id order, last before the commit.

Every function here belongs inside the caller's ``atomic()``. Quantities are units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from sqlalchemy import bindparam, select, update

from domain.clock import now
from domain.errors import Conflict, OutOfStock, ProductUnavailable
from extensions import db
from models import Product, StockMovement

Line = dict[str, Any]

_products: Any = Product.__table__
_c: Any = _products.c
_n: Any = bindparam("n")
_ONE = update(_products).where(_c.id == bindparam("product"))
_HOLD = _ONE.where(_c.on_hand - _c.held >= _n).values(held=_c.held + _n)
_RELEASE = _ONE.where(_c.held >= _n).values(held=_c.held - _n)
_SELL = _ONE.where(_c.held >= _n).values(
    on_hand=_c.on_hand - _n, held=_c.held - _n, sold=_c.sold + _n
)
_RESTOCK = _ONE.where(_c.sold >= _n).values(on_hand=_c.on_hand + _n, sold=_c.sold - _n)
_seen: Any = bindparam("seen")
# Nothing but what comes in changes on_hand + sold: a second press finds another sum.
_RECEIVE = _ONE.where(_c.on_hand + _c.sold == _seen).values(on_hand=_c.on_hand + _n)
_CORRECT = _ONE.where(_c.on_hand == _seen, _c.held <= _n).values(on_hand=_n)


class StockMoved(Conflict):
    """``on_hand`` is what is there by now."""

    code = "stock_moved"
    headline = "The stock has moved"

    def __init__(self, on_hand: int) -> None:
        self.on_hand = on_hand
        super().__init__(
            "Something was sold, came back or was booked while you had this page open, so nothing "
            f"of yours was booked. {on_hand:,} are on hand now: look at the number, and book again."
        )


class BelowHeld(Conflict):
    code = "stock_held"
    headline = "That is less than what is held"

    def __init__(self, wanted: int, held: int, on_hand: int) -> None:
        super().__init__(
            f"Checkouts that are under way hold {held:,} of the {on_hand:,} on hand, so there "
            f"cannot be only {wanted:,}. Nothing was booked. Correct to {held:,} or more, or wait "
            "until those checkouts have ended."
        )


def hold(lines: Iterable[Line]) -> None:
    """Set units aside. Raises OutOfStock; the caller's transaction rolls back what was held."""
    for line in _in_order(lines):
        if not db.session.execute(_HOLD, _units(line)).rowcount:  # type: ignore[attr-defined]
            left = db.session.scalar(
                select(Product.on_hand - Product.held).where(Product.id == line["product_id"])
            )
            raise OutOfStock(line["sku"], line["title"], max(left or 0, 0))


def must_be_sold(lines: Iterable[Line]) -> None:
    """Raises ProductUnavailable if one of these is no longer for sale."""
    wanted = [line["product_id"] for line in lines]
    gone = db.session.scalar(
        select(Product.title).where(Product.id.in_(wanted), Product.active.is_(False))
    )
    if gone:
        raise ProductUnavailable(gone)


def release(lines: Iterable[Line]) -> None:
    """Give held units back."""
    _move(_RELEASE, lines)


def sell(lines: Iterable[Line]) -> None:
    """Held units leave the house."""
    _move(_SELL, lines)


def carry_out(moves: Iterable[tuple[Callable[[list[Line]], None], Line]]) -> None:
    """Several moves of different lines, in one order of products whatever the moves are."""
    in_order = sorted(moves, key=lambda move: move[1]["product_id"])
    for move, some in groupby(in_order, key=lambda move: move[0]):
        move([line for _, line in some])


def restock(lines: Iterable[Line], *, order_id: str, reason: str, actor: str) -> None:
    """Sold units of an order come back on the shelf, each line with a movement that says why."""
    lines = list(lines)
    if not lines:
        return
    db.session.add_all(
        StockMovement(
            product_id=line["product_id"],
            kind="restocked",
            quantity=line["quantity"],
            reason=reason,
            order_id=order_id,
            actor=actor[:120],
            at=now(),
        )
        for line in lines
    )
    db.session.flush()
    _move(_RESTOCK, lines)


def receive(product_id: int, units: int, *, came: int, reason: str, actor: str) -> None:
    """Units come in. ``came`` is on_hand + sold as the actor saw it. Raises StockMoved."""
    _book(product_id, units, reason, actor)
    values = {"product": product_id, "n": units, "seen": came}
    if not db.session.execute(_RECEIVE, values).rowcount:  # type: ignore[attr-defined]
        raise StockMoved(_there(product_id)[0])


def correct(product_id: int, to: int, *, on_hand: int, reason: str, actor: str) -> None:
    """There are ``to`` on hand and not ``on_hand``, as the actor saw it: the difference counts as
    received, which may be negative. Raises StockMoved, BelowHeld."""
    _book(product_id, to - on_hand, reason, actor)
    values = {"product": product_id, "n": to, "seen": on_hand}
    if not db.session.execute(_CORRECT, values).rowcount:  # type: ignore[attr-defined]
        there, held = _there(product_id)
        raise BelowHeld(to, held, there) if held > to else StockMoved(there)


def _book(product_id: int, units: int, reason: str, actor: str) -> None:
    """The movement goes before the row that everybody waits for."""
    db.session.add(
        StockMovement(
            product_id=product_id, kind="received", quantity=units, reason=reason, actor=actor[:120]
        )
    )
    db.session.flush()


def _there(product_id: int) -> tuple[int, int]:
    """What is on hand by now, and how much of it is held."""
    row = db.session.execute(
        select(Product.on_hand, Product.held).where(Product.id == product_id)
    ).one()
    return row.on_hand, row.held


def _move(statement: Any, lines: Iterable[Line]) -> None:
    units = [_units(line) for line in _in_order(lines)]
    if db.session.execute(statement, units).rowcount != len(units):  # type: ignore[attr-defined]
        skus = ", ".join(line["sku"] for line in lines)
        raise RuntimeError(f"stock of {skus} does not add up: run `flask check`")


def _units(line: Line) -> dict[str, int]:
    return {"product": line["product_id"], "n": line["quantity"]}


def _in_order(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: line["product_id"])
