"""A person is forgotten on request: their words go, wherever they stand; every cent stays.

What people typed about somebody (a reason, a note, an answer of a mail server that quotes the
address) is searched for their words. What Stripe sends about them afterwards is applied and then
emptied, by ``services.snapshots``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Text, cast, delete, false, func, or_, select, update

from domain.clock import now
from domain.roles import ROLES
from extensions import atomic, db, is_postgresql
from models import (
    AuditEntry,
    CheckoutAttempt,
    Order,
    OrderEvent,
    OutboxMessage,
    Payment,
    Refund,
    Shipment,
    ShopException,
    ShopperSession,
    SignInLink,
    StripeEvent,
    StripeLeg,
    User,
)
from services import order_views, people, plan_rows, snapshots
from services.outbox import MAIL_KINDS

log = structlog.get_logger()

ERASED = "erased"
GAP = "[erased]"
SHORTEST_WORD = 3  # shorter parts of a name are parts of other words, too

# Where people and machines write freely: the column that says which order it is about, and those
# with the text.
FREE_TEXT: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (OrderEvent, "order_id", ("detail",)),
    (ShopException, "order_id", ("detail", "resolution")),
    (Refund, "order_id", ("reason",)),
    (Shipment, "order_id", ("carrier", "tracking")),
    (StripeLeg, "attempt_id", ("last_error",)),
    (AuditEntry, "subject", ("subject", "detail")),
    (OutboxMessage, "order_id", ("error", "payload")),
    (StripeEvent, "attempt_id", ("error",)),
)
KEPT_OF_RESULTS = ("message_id", "payments", "refund", "state", "invoice", "ended", "not_sent")


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows forgot the person, and what could not yet."""

    orders: int
    attempts: int
    mails: int
    events: int
    still_open: int  # checkouts, mails and events that are not done with
    running: tuple[str, ...] = ()  # subscriptions that keep their person, to be ended first
    file_is_clean: bool = True  # of SQLite: what was overwritten is not in its free pages either


def erase(email: str, actor: str = "command line") -> Erased:
    """Forget the person in one transaction; safe to repeat. Orders, payments, refunds and history
    stay to the cent. A checkout whose money may still come, or whose mail is not sent yet, keeps
    its person until that is over: then run it again. So does an order whose subscription still
    runs, because it charges, and has somebody to be written to: end it first."""
    email = email.strip().lower()
    with atomic() as session:
        orders = session.scalars(people.orders_of(email)).all()
        attempts = people.attempts_of(email)
        of_orders = [order.id for order in orders]
        running = [row for row in people.plans_of(of_orders) if plan_rows.runs([row])]
        kept = {row.checkout_attempt_id or "" for row in running}
        waiting = {attempt.id for attempt in attempts if attempt.state == "open"}
        owed = (m for m in people.mails_of(email, of_orders) if m.state == "new")
        waiting |= {m.order_id for m in owed if m.order_id}
        forgotten = [order for order in orders if order.id not in waiting | kept]
        over = [attempt for attempt in attempts if attempt.id not in waiting | kept]
        ids = list(dict.fromkeys([order.id for order in forgotten] + [one.id for one in over]))
        words = {email, *_words_of(forgotten, over)}
        for order in forgotten:
            order.name = order.email = order.phone = order.address = None
            order.link_version += 1  # links in old mails open nothing any more
            order.version += 1
        for attempt in over:
            if attempt.purged_at is None:
                attempt.snapshot = {"lines": attempt.lines}
                attempt.purged_at = now()
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.attempt_id.in_(ids))
            .values(parameters=None, client_secret=None, url=None)
        )
        handles = _handles(ids)
        session.execute(
            update(CheckoutAttempt)
            .where(CheckoutAttempt.id.in_(ids))
            .values(stripe_customer=None, erased_at=now())
        )
        for row in people.plans_of(ids):
            row.stripe_customer = row.pay_url = None
        mails = [m for m in people.mails_of(email, ids) if m.order_id not in waiting | kept]
        for message in mails:
            _empty(message)
        events, undecided = _events_about(handles, email, waiting | kept)
        for event in events:
            event.payload = snapshots.emptied(event.payload)
        session.execute(delete(SignInLink).where(SignInLink.email == email))
        session.execute(delete(ShopperSession).where(ShopperSession.email == email))
        for user in session.scalars(
            select(User).where(func.lower(User.email) == email, User.role.not_in(ROLES))
        ):
            user.email, user.name, user.stripe_customer_id = f"{ERASED}-{user.id}@invalid", "", None
        session.flush()
        _blot_out(words, ids)
        if not kept and not waiting:
            _blot_out_everywhere(words, email)
        session.add(AuditEntry(actor=actor, action="erased a person", detail=f"{len(ids)} rows"))
    named = tuple(dict.fromkeys(f"{row.stripe_id} ({row.title})" for row in running))
    still_open = len(waiting - kept) + undecided
    return Erased(
        len(forgotten), len(over), len(mails), len(events), still_open, named, _write_anew()
    )


def _words_of(orders: Iterable[Order], attempts: Iterable[CheckoutAttempt]) -> Iterator[str]:
    """What names the person in these: full name and its parts, addresses, phone, street."""
    said: list[dict[str, Any]] = []
    for order in orders:
        contact = {"name": order.name, "email": order.email, "phone": order.phone}
        said.append({**(order.address or {}), **contact})
    for attempt in attempts:
        snapshot = attempt.snapshot
        said.append({**(snapshot.get("address") or {}), **(snapshot.get("contact") or {})})
    for one in said:
        name = str(one.get("name") or "")
        parts = [part for part in name.split() if len(part) >= SHORTEST_WORD]
        whole = (name, one.get("email"), one.get("phone"), one.get("line1"), one.get("line2"))
        yield from (str(word) for word in (*whole, *parts) if word)


def _is_unmistakable(word: str) -> bool:
    """Whether it names this person wherever it stands, and not also somebody else's first name."""
    return "@" in word or len(re.sub(r"\D", "", word)) >= 6 or (" " in word and len(word) > 7)


def _handles(ids: list[str]) -> list[str]:
    """The ids by which Stripe's events may speak of these checkouts."""
    session = db.session
    legs = session.execute(
        select(StripeLeg.stripe_id, StripeLeg.payment_intent).where(StripeLeg.attempt_id.in_(ids))
    )
    paid = session.execute(
        select(Payment.payment_intent, Payment.charge_id).where(Payment.attempt_id.in_(ids))
    )
    buyers = session.execute(
        select(CheckoutAttempt.stripe_customer).where(CheckoutAttempt.id.in_(ids))
    )
    plans = [(row.stripe_id, row.stripe_customer) for row in people.plans_of(ids)]
    named = {id_ for row in (*legs, *paid, *buyers, *plans) for id_ in row if id_}
    return [*ids, *sorted(named)]


def _events_about(handles: list[str], email: str, kept: set[str]) -> tuple[list[StripeEvent], int]:
    """The events that name one of these or the address, and how many more are not applied yet:
    those are emptied when they are."""
    about = or_(
        *(StripeEvent.payload.contains(id_, autoescape=True) for id_ in handles),
        func.lower(StripeEvent.payload).contains(email, autoescape=True),
        false(),
    )
    found = db.session.scalars(select(StripeEvent).where(about)).all()
    found = [event for event in found if event.attempt_id not in kept]
    done = [event for event in found if event.state in ("done", "ignored")]
    return done, len(found) - len(done)


def _empty(message: OutboxMessage) -> None:
    """A refund or a subscription that is yet to be made keeps what it needs for that; a letter
    keeps only that it was sent."""
    if message.kind in MAIL_KINDS:
        message.payload = {}
    result = message.result or {}
    message.result = {k: v for k, v in result.items() if k in KEPT_OF_RESULTS}


def _blot_out(words: set[str], ids: list[str]) -> None:
    """In what was written about these orders."""
    for model, about, columns in FREE_TEXT:
        rows = db.session.scalars(select(model).where(getattr(model, about).in_(ids))).all()
        _without(rows, columns, words)


def _blot_out_everywhere(words: set[str], email: str) -> None:
    """In what was written about anything, where it says something that names nobody else. What a
    colleague did stays under the colleague's name."""
    telling = {word.lower() for word in words if _is_unmistakable(word)}
    is_colleague = db.session.scalar(
        select(User.id).where(func.lower(User.email) == email, User.role.in_(ROLES))
    )
    for model, _, columns in FREE_TEXT:
        if model is AuditEntry and is_colleague:
            continue
        texts = [func.lower(cast(getattr(model, name), Text)) for name in columns]
        named = or_(*(text.contains(word, autoescape=True) for text in texts for word in telling))
        _without(db.session.scalars(select(model).where(named)).all(), columns, words)
    order_views.forget(telling)


def _without(rows: Iterable[Any], columns: Iterable[str], words: set[str]) -> None:
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first), re.IGNORECASE
    )
    for row in rows:
        for name in columns:
            said = getattr(row, name)
            cleaned = _cleaned(said, pattern)
            if cleaned != said:
                setattr(row, name, cleaned)


def _cleaned(said: Any, pattern: re.Pattern[str]) -> Any:
    match said:
        case str():
            return pattern.sub(GAP, said)
        case dict():
            return {key: _cleaned(value, pattern) for key, value in said.items()}
        case list():
            return [_cleaned(value, pattern) for value in said]
    return said


def _write_anew() -> bool:
    """SQLite leaves what was overwritten in free pages and in its log: copy the file without them.
    False if somebody else was using it; PostgreSQL sees to that by itself."""
    if is_postgresql():
        return True
    connection = db.engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("VACUUM")
        return not cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.OperationalError as error:
        log.warning("erasure.file_not_cleaned", why=str(error))
        return False
    finally:
        connection.close()
