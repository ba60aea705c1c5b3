"""Planted bugs: a storm that does not find them is too weak.

Each is a patch over one world, for as long as one seed runs. ``flask storm`` knows nothing of
them. Every one is modelled so that no other guard hides it, and says which guard that would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from domain import facts as known
from domain.facts import LegState
from domain.transitions import Effect
from extensions import db, reading
from gateway import current_gateway
from models import Order
from services import attempts, desk, inbox, outbox, settle
from storm.world import World


@contextmanager
def no_lock_in_settle(world: World) -> Iterator[None]:
    """Two settles of one attempt decide on what both read before either wrote.

    On PostgreSQL this is ``lock`` without ``FOR UPDATE``: each statement reads what is committed
    at that moment, and the writes queue up behind one another with decisions already made. On
    SQLite a write transaction shuts everybody else out, lock or no lock; so here the reading ends
    its transaction, somebody else may commit, and only then the writing begins, with rows and
    decisions from before. What hides it otherwise: nothing; the unique index on payments stops a
    second payment row, but neither stock that is released twice nor lines that come back twice.
    """

    is_overtaken = desk.Desk.is_overtaken

    def read_then_let_go(of: Any, versions: dict[int, int]) -> bool:
        answer = is_overtaken(of, versions)
        session = db.session()
        session.commit()
        session.connection(execution_options={"begin": "BEGIN IMMEDIATE"})
        return answer

    with _patched(desk.Desk, is_overtaken=read_then_let_go):
        yield


@contextmanager
def dedupe_in_memory(world: World) -> Iterator[None]:
    """A set in the process remembers which events came, and the process dies.

    Alone this is harmless: a payment is known by its intent, an order moves once, and its receipt
    has a key of its own. Whoever trusts the door to let each event in once, though, needs none of
    these, so the second half of the pair is ``receipt_per_event``; with the inbox's key in place
    that one is harmless too.
    """
    seen: set[str] = set()
    copies = itertools.count(2)
    receive = inbox.receive

    def remembered(event: Any, lane: str = "webhook") -> bool:
        if event.id in seen:
            return False
        seen.add(event.id)
        if receive(event, lane):
            return True
        copy = f"{event.id}_{next(copies)}"  # a table without the key takes it once more
        payload = event.payload.replace(event.id, copy, 1)
        return receive(replace(event, id=copy, payload=payload), lane)

    world.restarts.append(seen.clear)
    with _patched(inbox, receive=remembered), receipt_per_event(world):
        yield


@contextmanager
def receipt_per_event(world: World) -> Iterator[None]:
    """The receipt is owed for the event that a session was paid, not for the order that was."""
    effects = {**desk.EFFECTS, Effect.SEND_RECEIPT: lambda of: None}
    mark = settle._mark_applied

    def marked(news: Any, attempt_id: str) -> None:
        mark(news, attempt_id)
        db.session.flush()
        paid = db.session.scalar(select(Order.payment_intent).where(Order.id == attempt_id))
        told = {f.payment_intent for f in news.facts if isinstance(f, known.PaymentSucceeded)}
        if news.type.startswith("checkout.session.") and paid in told:
            outbox.owe("receipt", f"{attempt_id}:{news.event_id}", order_id=attempt_id)

    with _patched(desk, EFFECTS=effects), _patched(settle, _mark_applied=marked):
        yield


@contextmanager
def release_before_asking(world: World) -> Iterator[None]:
    """What has run out is given back at once, and Stripe is told afterwards (against rule R5)."""
    real = settle._look

    def look(attempt_id: str, seen: settle.Look, *, end: bool, **wishes: Any) -> None:
        if not end:
            real(attempt_id, seen, end=False, **wishes)
            return
        with reading():
            live = [leg for leg in attempts.legs_of(attempt_id) if leg.state == LegState.OPEN]
            seen.versions = {leg.id: leg.version for leg in live}
        seen.facts += [known.LegEnded(leg.stripe_id or "", LegState.EXPIRED) for leg in live]

    settled = settle.settle

    def settle_then_tell(attempt_id: str, cause: Any, **wishes: Any) -> Any:
        done = settled(attempt_id, cause, **wishes)
        if wishes.get("end"):
            with reading():
                legs = attempts.legs_of(attempt_id)
            for leg in legs:
                if leg.stripe_id:
                    current_gateway().expire_session(leg.stripe_id)
        return done

    with _patched(settle, _look=look, settle=settle_then_tell):
        yield


@contextmanager
def _patched(module: Any, **names: Any) -> Iterator[None]:
    before: dict[str, Any] = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


BUGS: dict[str, Callable[[World], Any]] = {
    "no lock in settle": no_lock_in_settle,
    "dedupe in memory": dedupe_in_memory,
    "release before asking Stripe": release_before_asking,
}
