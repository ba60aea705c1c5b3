"""Stock: one conditional UPDATE per product, always in id order, last before the commit.

Every function here belongs inside the caller's ``atomic()``. Quantities are units.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update

from domain.errors import OutOfStock
from extensions import db
from models import Product

Line = dict[str, Any]


def hold(lines: Iterable[Line]) -> None:
    """Set units aside. Raises OutOfStock; the caller's transaction rolls back what was held."""
    for line in _in_order(lines):
        n = line["quantity"]
        taken = _change(line, Product.on_hand - Product.held >= n, held=Product.held + n)
        if not taken:
            left = db.session.scalar(
                select(Product.on_hand - Product.held).where(Product.id == line["product_id"])
            )
            raise OutOfStock(line["sku"], line["title"], max(left or 0, 0))


def release(lines: Iterable[Line]) -> None:
    """Give held units back."""
    for line in _in_order(lines):
        n = line["quantity"]
        _must(_change(line, Product.held >= n, held=Product.held - n), line)


def sell(lines: Iterable[Line]) -> None:
    """Held units leave the house."""
    for line in _in_order(lines):
        n = line["quantity"]
        _must(
            _change(
                line,
                Product.held >= n,
                on_hand=Product.on_hand - n,
                held=Product.held - n,
                sold=Product.sold + n,
            ),
            line,
        )


def _change(line: Line, condition: Any, **values: Any) -> bool:
    statement = (
        update(Product)
        .where(Product.id == line["product_id"], condition)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def _must(changed: bool, line: Line) -> None:
    if not changed:
        raise RuntimeError(f"stock of {line['sku']} does not add up: run `flask check`")


def _in_order(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: line["product_id"])
