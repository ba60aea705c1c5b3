"""Invoices: a number without gaps for each order, given in the transaction that confirms it, and
what stands on the page that is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import select, update

from domain.clock import now
from extensions import db, insert_once, reading
from models import Counter, Invoice, Order, OrderItem, Refund
from services import orders, plan_pages, refunds
from services.shop import IDENTITY

COUNTER = "invoices"


@dataclass(frozen=True, slots=True)
class Seller:
    """Who sold, as the law wants it named."""

    name: str
    address: list[str] = field(default_factory=list)
    vat_id: str = ""
    registration: str = ""

    @property
    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Paper:
    """An invoice as it is printed. Amounts in minor units, times UTC; ``net`` is without tax."""

    number: str
    issued_at: datetime
    order: Order
    order_number: str
    seller: Seller
    buyer: list[str]
    lines: list[OrderItem]
    net: int
    unpaid: int
    method: str | None
    refunds: list[Refund]

    @property
    def left(self) -> int:
        """What the shop has kept of it, after refunds."""
        return self.order.total - self.unpaid - sum(row.amount or 0 for row in self.refunds)


def issue(order_id: str) -> None:
    """Give an order its number, in the transaction that is the first to confirm it. The counter's
    row is locked from here to the commit, so that a number is never lost and none is given twice:
    call it last."""
    db.session.add(
        Invoice(number=_next(), order_id=order_id, seller=seller_now().as_json, issued_at=now())
    )
    db.session.flush()


def _next() -> int:
    taking = (
        update(Counter)
        .where(Counter.name == COUNTER)
        .values(last=Counter.last + 1)
        .returning(Counter.last)
        .execution_options(synchronize_session=False)
    )
    number = db.session.scalar(taking)
    if number is None:  # the very first
        insert_once(Counter, name=COUNTER, last=0)
        number = db.session.scalar(taking)
    assert number is not None
    return number


def seller_now() -> Seller:
    """Who sells today, by the settings."""
    settings = current_app.extensions["settings"]
    return Seller(
        settings.legal_name or IDENTITY.name,
        list(settings.legal_address),
        settings.legal_vat_id,
        settings.legal_registration,
    )


def number(invoice: Invoice) -> str:
    """As people say it."""
    return f"INV-{invoice.number:06d}"


def number_of(order_id: str) -> str | None:
    """The number of an order's invoice, once it has one."""
    with reading() as session:
        found = session.scalar(select(Invoice).where(Invoice.order_id == order_id))
    return number(found) if found else None


def paper(case: orders.Dossier) -> Paper | None:
    """The invoice of an order; None until it is paid."""
    order = case.order
    if order is None:
        return None
    with reading() as session:
        found = session.scalar(select(Invoice).where(Invoice.order_id == order.id))
    if found is None:
        return None
    unpaid = plan_pages.unpaid(case.items)
    return Paper(
        number=number(found),
        issued_at=found.issued_at,
        order=order,
        order_number=orders.number(order),
        seller=Seller(**found.seller) if found.seller else seller_now(),
        buyer=_buyer(order),
        lines=case.items,
        net=order.total - order.tax - order.tax_included,
        unpaid=unpaid,
        method=next((paid.method for paid in case.settling if paid.method), None),
        refunds=[row for row in refunds.of_order(order.id) if row.state == "succeeded"],
    )


def _buyer(order: Order) -> list[str]:
    """Who bought, line by line; nobody, once they asked to be forgotten."""
    home = order.address or {}
    town = " ".join(part for part in (home.get("postal_code"), home.get("city")) if part)
    parts = (
        order.name,
        home.get("line1"),
        home.get("line2"),
        town,
        home.get("state"),
        home.get("country"),
        order.email,
    )
    return [part for part in parts if part]
