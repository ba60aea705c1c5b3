"""Signed links to an order, for guests: order id and link version, revocable by raising it.

A link that opens nothing says why to whoever holds it. Only what our signature vouches for is told:
a link that we never signed learns nothing, not even whether there is such an order.
"""

from __future__ import annotations

from typing import Any

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import update

from domain.errors import Conflict, NotFound
from domain.words import Words
from extensions import atomic, reading
from models import AuditEntry, CheckoutAttempt, Order
from services import history, outbox
from services.causes import Cause

TO_AN_ORDER = "order-link"
LONGEST = 300


class LinkDamaged(NotFound):
    code = "link_damaged"
    headline = Words("This link is not complete")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "A part of the address is missing or was changed on its way here, or it is very "
                "old. Copy the whole link out of our mail, or have a fresh one sent to you."
            )
        )


class LinkForeign(NotFound):
    code = "link_foreign"
    headline = Words("This link belongs to another order")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "The link is one of ours, but it opens another order than the one in this address. "
                "Copy the whole link out of our mail, or have a fresh one sent to you."
            )
        )


class LinkRevoked(NotFound):
    code = "link_revoked"
    headline = Words("This link has been replaced")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "A fresh link was sent to the e-mail address of this order, and older ones stopped "
                "working. Look for our newest mail, or have another link sent to you."
            )
        )


class LinkDead(NotFound):
    code = "link_dead"
    headline = Words("This order is no longer kept")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "The link is one of ours, but we no longer keep the order that it opened. Write to "
                "us if you think that it should still be here."
            )
        )


class OrderErased(NotFound):
    code = "link_erased"
    headline = Words("The details of this order were erased")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "Somebody asked us to erase the personal data of this order, so no link opens it "
                "any more. What was paid stays in our books, without the person."
            )
        )


def token(order: Order) -> str:
    """A token that opens this order until its ``link_version`` is raised."""
    return sign(TO_AN_ORDER, [order.id, order.link_version])


def opens(value: str | None, order: Order) -> bool:
    """Whether a token opens this very order now; signed with any of our keys (rotation)."""
    return read(TO_AN_ORDER, value) == [order.id, order.link_version]


def path(order: Order) -> str:
    """The order's page for whoever has this link."""
    return f"/orders/{order.id}?token={token(order)}"


def why_not(value: str, order_id: str) -> NotFound:
    """Why a token does not open ``order_id``. Nothing of the order is looked at before the token
    has proved to be ours and of this very order."""
    said = read(TO_AN_ORDER, value)
    if not isinstance(said, list) or len(said) != 2:
        return LinkDamaged()
    if said[0] != order_id:
        return LinkForeign()
    with reading() as session:
        order = session.get(Order, order_id)
        attempt = session.get(CheckoutAttempt, order_id)
    if order is None:
        return LinkDead()
    return OrderErased() if attempt and attempt.erased_at else LinkRevoked()


def replace(order_id: str, cause: Cause) -> None:
    """Let every link of an order die, and mail a fresh one to the address of the order; once per
    press, and safe to repeat. Raises Conflict where nobody could be written to."""
    with atomic() as session:
        version = session.scalar(
            update(Order)
            .where(Order.id == order_id, Order.email.is_not(None))
            .values(link_version=Order.link_version + 1, updated_at=Order.updated_at)
            .returning(Order.link_version)
            .execution_options(synchronize_session=False)
        )
        if version is None:
            raise Conflict(Words("There is no e-mail address to send a fresh link to."))
        history.noted(order_id, "note", cause, "links replaced, a fresh one mailed")
        if cause.actor:
            session.add(AuditEntry(actor=cause.actor, action="replaced links", subject=order_id))
        outbox.owe("fresh_link", f"{order_id}:{version}", order_id=order_id)


def sign(purpose: str, said: Any) -> str:
    """A text that says ``said`` and can be used for ``purpose`` only."""
    return str(_serializers(purpose)[0].dumps(said))


def read(purpose: str, value: str | None) -> Any:
    """What a text says that we signed for ``purpose``, with any of our keys; None if we did not."""
    if not value or len(value) > LONGEST:
        return None
    for serializer in _serializers(purpose):
        try:
            return serializer.loads(value)
        except BadSignature:
            continue
    return None


def _serializers(purpose: str) -> list[URLSafeSerializer]:
    keys = current_app.extensions["settings"].secret_keys
    return [URLSafeSerializer(key, salt=purpose) for key in keys]
