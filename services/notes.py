"""What people of the shop write down about an order, for each other; shoppers never see it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from extensions import atomic
from models import AuditEntry, CheckoutAttempt, OrderEvent
from services import history
from services.causes import Cause
from services.history import NOTE

LONGEST = 2000
CHANGED_WITHIN = timedelta(minutes=10)  # afterwards colleagues may have acted on it
WROTE, CHANGED = "wrote a note", "changed a note"
DEEDS = (WROTE, CHANGED)  # of the audit log; writing down is no intervention in an order


class NotANote(ShopError):
    code = "not_a_note"
    http_status = 422
    headline = "The note was not kept"

    def __init__(self) -> None:
        super().__init__(f"Write something, in at most {LONGEST} characters.")


def write(order_id: str, text: str, actor: str) -> None:
    """Add a note to the order's history. Raises NotFound, NotANote."""
    kept = _checked(text)
    with atomic() as session:
        if session.get(CheckoutAttempt, order_id) is None:
            raise NotFound("There is no such order.")
        history.noted(order_id, NOTE, Cause("admin", actor=actor), kept)
        session.add(AuditEntry(actor=actor, action=WROTE, subject=order_id))


def change(order_id: str, note_id: int, text: str, actor: str) -> None:
    """Write one's own note anew, within ten minutes. Raises NotFound, NotANote, Conflict."""
    kept = _checked(text)
    with atomic() as session:
        note = session.scalar(
            select(OrderEvent).where(
                OrderEvent.id == note_id,
                OrderEvent.order_id == order_id,
                OrderEvent.kind == NOTE,
                OrderEvent.actor == actor,
            )
        )
        if note is None:
            raise NotFound("There is no such note of yours.")
        if not may_change(note, actor):
            raise Conflict("After ten minutes a note stays as it is. Write another one.")
        session.add(
            AuditEntry(actor=actor, action=CHANGED, subject=order_id, detail=f"was: {note.detail}")
        )
        note.detail = kept


def may_change(note: OrderEvent, actor: str) -> bool:
    """Whether it is a note of theirs that is young enough."""
    return note.kind == NOTE and note.actor == actor and now() - note.at <= CHANGED_WITHIN


def _checked(text: str) -> str:
    kept = text.strip()
    if not 1 <= len(kept) <= LONGEST:
        raise NotANote
    return kept
