"""Parcels: packed, sent in one or in several, delivered. One step at a time, as the table says.

A step names the version of the order that its page showed, so that a second press, or somebody
else's, is told what happened instead of doing it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from domain.transitions import Ignore, LineState, Outcome, Status, decide
from extensions import atomic, db, reading, retrying
from models import (
    AuditEntry,
    CheckoutAttempt,
    Order,
    OrderEvent,
    OrderItem,
    OutboxMessage,
    Shipment,
)
from services import (
    attempts,
    disputes,
    history,
    language,
    letters,
    links,
    mail,
    orders,
    outbox,
    refunds,
)
from services.causes import Cause

LONGEST_CARRIER, LONGEST_TRACKING = 60, 120


class NotAParcel(ShopError):
    """What was to be sent cannot be sent like that."""

    code = "shipment_invalid"
    http_status = 422
    headline = "Nothing was sent"


class Overtaken(Conflict):
    """The order is no longer as the page showed it."""

    code = "order_changed"
    headline = "This order changed while you were looking at it"


class Held(Conflict):
    """The money for the goods is in doubt, or gone."""

    code = "order_disputed"
    headline = "The payment is disputed"

    def __init__(self, why: str) -> None:
        super().__init__(f"Nothing was done. {why}")


@retrying
def pack(order_id: str, *, actor: str, version: int | None) -> None:
    """Take a paid order to the packing table. Raises NotFound, Held, Overtaken, Conflict."""
    with atomic():
        attempt, order = _opened(order_id, version, may_be_disputed=False)
        _move(attempt, order, Outcome.PACKED, actor)


@retrying
def ship(
    order_id: str,
    units: Mapping[int, int],
    *,
    carrier: str,
    tracking: str,
    actor: str,
    version: int | None,
) -> None:
    """Send a parcel with so many ``units`` of these order items; the order is shipped once nothing
    of it is left to send, nor may come to be. Without units it only says so, where the rest went
    back on the shelf.

    Raises NotFound, NotAParcel, Held, Overtaken, Conflict; then nothing was written.
    """
    if len(carrier) > LONGEST_CARRIER or len(tracking) > LONGEST_TRACKING:
        raise NotAParcel("Carrier or tracking number is too long.")
    with atomic() as session:
        attempt, order = _opened(order_id, version, may_be_disputed=False)
        _must_lead_somewhere(order, Outcome.SHIPPED)
        left = left_to_ship(order, parcels_of(order_id))
        lines = _packed(order, units, left)
        rest = sum(left.values()) - sum(line["quantity"] for line in lines)
        undecided = not_yet(order.items)
        if not lines and rest:
            raise NotAParcel("Choose what is in the parcel.")
        if not lines and undecided:
            raise NotAParcel(f"{undecided[0].title} is not paid yet: it may have to be sent still.")
        if lines:
            if not carrier:
                raise NotAParcel("Say who carries the parcel.")
            parcel = Shipment(
                order_id=order_id,
                carrier=carrier,
                tracking=tracking,
                lines=lines,
                actor=actor[:120],
                at=now(),
            )
            session.add(parcel)
            session.flush()
            is_last = rest == 0 and not undecided
            outbox.owe("shipped", str(parcel.id), order_id=order_id, is_last=is_last)
            _write_down(order, "sent", f"{_listed(lines)} with {carrier} {tracking}".strip(), actor)
        if rest == 0 and not undecided:
            _move(attempt, order, Outcome.SHIPPED, actor)
        else:
            order.version += 1


@retrying
def deliver(order_id: str, *, actor: str, version: int | None) -> None:
    """All of it has arrived, which is worth knowing in a dispute too. Raises NotFound, Overtaken,
    Conflict."""
    with atomic():
        attempt, order = _opened(order_id, version, may_be_disputed=True)
        _move(attempt, order, Outcome.DELIVERED, actor)


def _opened(
    order_id: str, version: int | None, *, may_be_disputed: bool
) -> tuple[CheckoutAttempt, Order]:
    """The locked attempt and its order, if it is still as the page showed it. News of a dispute
    waits for the same lock, so it comes before the parcel or after it, and never in between."""
    attempt = attempts.lock(order_id)
    order = attempts.order_of(order_id)
    if attempt is None or order is None:
        raise NotFound("There is no such order.")
    why = None if may_be_disputed else disputes.why_held(order_id)
    if why:
        raise Held(why)
    if version != order.version:
        raise Overtaken(f"Nothing was done. {_last_deed(order_id)}Look at it again below.")
    return attempt, order


def _last_deed(order_id: str) -> str:
    last = db.session.scalar(
        select(OrderEvent)
        .where(OrderEvent.order_id == order_id, OrderEvent.actor != "")
        .order_by(OrderEvent.id.desc())
        .limit(1)
    )
    if last is None:
        return ""
    what = f"moved it to {last.to_status}".replace("_", " ") if last.to_status else last.detail
    minutes = max(round((now() - last.at).total_seconds() / 60), 0)
    return f"{last.actor}, {minutes} min ago: {what}. "


def _must_lead_somewhere(order: Order, outcome: Outcome) -> Status:
    decision = decide(Status(order.status), outcome)
    if isinstance(decision, Ignore):
        is_now = order.status.replace("_", " ")
        raise Conflict(f"This order is {is_now}: it cannot be {outcome} now.")
    return decision.to


def _move(attempt: CheckoutAttempt, order: Order, outcome: Outcome, actor: str) -> None:
    to = _must_lead_somewhere(order, outcome)
    before = Status(order.status)
    attempt.status = order.status = to
    order.version += 1
    history.moved(order.id, before, to, Cause("admin", actor=actor), detail=str(outcome))
    db.session.add(AuditEntry(actor=actor, action=str(outcome), subject=order.id))


def _write_down(order: Order, action: str, said: str, actor: str) -> None:
    history.noted(order.id, "parcel", Cause("admin", actor=actor), said)
    db.session.add(AuditEntry(actor=actor, action=action, subject=order.id, detail=said))


def _packed(
    order: Order, units: Mapping[int, int], left: Mapping[int, int]
) -> list[dict[str, Any]]:
    items = {item.id: item for item in order.items}
    lines: list[dict[str, Any]] = []
    for item_id, quantity in units.items():
        item = items.get(item_id)
        if item is None:
            raise NotAParcel("One of the lines is not of this order.")
        if quantity and item.state != LineState.ACTIVE:
            raise NotAParcel(f"{item.title} is not paid, so it cannot be sent.")
        if not 0 <= quantity <= left[item_id]:
            raise NotAParcel(f"{item.title}: from 0 to {left[item_id]} can be sent.")
        if quantity:
            lines.append(
                {"item": item.id, "sku": item.sku, "title": item.title, "quantity": quantity}
            )
    return lines


def left_to_ship(order: Order, parcels: Iterable[Shipment]) -> dict[int, int]:
    """Units of each order item that are yet to be sent: what went back on the shelf is not, nor a
    line that has not begun."""
    back = refunds.restocked(order.id)
    sent: dict[int, int] = {}
    for parcel in parcels:
        for line in parcel.lines:
            sent[line["item"]] = sent.get(line["item"], 0) + line["quantity"]
    return {
        item.id: max(item.quantity - sent.get(item.id, 0) - _back(item, back), 0)
        if item.state == LineState.ACTIVE
        else 0
        for item in order.items
    }


def not_yet(items: Iterable[OrderItem]) -> list[OrderItem]:
    """The lines that may still come to be sent: their first payment is not decided."""
    return [item for item in items if item.state in (LineState.PENDING, LineState.PAST_DUE)]


def _back(item: OrderItem, back: Mapping[int, int]) -> int:
    return back.get(item.product_id, 0) if item.product_id is not None else 0


def parcels_of(order_id: str) -> list[Shipment]:
    """Oldest first."""
    with reading() as session:
        return list(
            session.scalars(
                select(Shipment).where(Shipment.order_id == order_id).order_by(Shipment.id)
            )
        )


def waiting(order: Order, parcels: Iterable[Shipment]) -> dict[int, int]:
    """``left_to_ship`` for a page."""
    with reading():
        return left_to_ship(order, parcels)


def waiting_of(order_id: str) -> dict[int, int]:
    """``left_to_ship`` of an order by its id."""
    with reading() as session:
        order = session.scalars(select(Order).where(Order.id == order_id)).one()
        return left_to_ship(order, parcels_of(order_id))


def _listed(lines: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{line['quantity']} × {line['title']}" for line in lines)


@outbox.handles("shipped")
def tell(message: OutboxMessage) -> outbox.Result:
    """Write to the shopper that a parcel is on its way; once per parcel."""
    with reading() as session:
        parcel = session.get_one(Shipment, int(message.key))
        order = session.get_one(Order, message.order_id)
    if not order.email:
        return {"not_sent": "the order has no address"}
    number = orders.number(order)
    about = {
        "number": number,
        "parcel": parcel,
        "is_last": message.payload["is_last"],
        "link": letters.origin() + links.path(order),
    }
    with language.speaking(order.language):
        subject = _("Order %(number)s is on its way", number=number)
        return mail.send(letters.letter(message, order.email, subject, "shipped", **about))
