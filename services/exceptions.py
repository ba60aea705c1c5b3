"""Money or goods that need a person. Opened inside the caller's transaction, once per object."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import delete, func, select, update

from domain.clock import now
from extensions import db, insert_once, reading
from models import ShopException

log = structlog.get_logger()


def open_exception(
    type_: str,
    stripe_id: str,
    detail: str,
    *,
    order_id: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
) -> None:
    """Open one, unless this object already has one of this type. ``amount`` in minor units."""
    opened = insert_once(
        ShopException,
        type=type_,
        stripe_id=stripe_id,
        order_id=order_id,
        amount=amount,
        currency=currency,
        detail=detail,
        state="open",
        opened_at=now(),
    )
    if opened:
        log.error("exception.opened", type=type_, object=stripe_id, order=order_id)


def resolve(type_: str, stripe_id: str) -> None:
    """Take one back inside the caller's transaction: its cause is being tried again, and opens it
    again if it fails."""
    db.session.execute(
        delete(ShopException).where(
            ShopException.type == type_, ShopException.stripe_id == stripe_id
        )
    )


def close_exception(type_: str, stripe_id: str) -> None:
    """What it was about has been decided elsewhere: it stays on record, inside the caller's
    transaction."""
    db.session.execute(
        update(ShopException)
        .where(
            ShopException.type == type_,
            ShopException.stripe_id == stripe_id,
            ShopException.state == "open",
        )
        .values(state="resolved", resolved_at=now())
    )


def of_order(order_id: str) -> list[ShopException]:
    """Open exceptions of one order, oldest first."""
    return _open(ShopException.order_id == order_id)


def all_open() -> list[ShopException]:
    """What a person has to look at, oldest first."""
    return _open()


def count_open() -> int:
    with reading() as session:
        return (
            session.scalar(
                select(func.count()).select_from(ShopException).where(ShopException.state == "open")
            )
            or 0
        )


def _open(*where: Any) -> list[ShopException]:
    with reading():
        return list(
            db.session.scalars(
                select(ShopException)
                .where(ShopException.state == "open", *where)
                .order_by(ShopException.opened_at)
            )
        )
