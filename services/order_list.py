"""The counter's list of orders: what is wanted, found by whatever somebody remembers, page by page.

Whatever is asked is answered with what an index holds or with the newest rows, never by walking all
orders: a shop with a million of them opens its list as quickly as one with ten thousand.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, union_all

from domain.money import amount_of
from domain.strategies import STRATEGIES
from domain.transitions import PaymentStatus, Status
from extensions import reading
from models import (
    CheckoutAttempt,
    Dispute,
    Order,
    OrderEvent,
    OrderItem,
    Payment,
    Refund,
    ShopException,
    StripeEvent,
    StripeLeg,
    Subscription,
)
from services import disputes
from services.catalogue import CURRENCIES
from services.history import NOTE
from services.shop import IDENTITY

PAGE = 50
COUNTED_UP_TO = 1000  # a view's count is exact up to here, then "1000+"
NEW_COUNTED_UP_TO = 100  # of the bar that says how many have arrived
LONGEST_SEARCH = 200
LARGEST_NUMBER = 2**31 - 1
SHORTEST_PART = 3  # of a name: an index of three letters each cannot tell shorter ones apart,
LOOKED_THROUGH = 5_000  # so those are looked for among the newest orders only

TO_SHIP = (Status.PAYMENT_CONFIRMED, Status.AWAITING_SHIPMENT)
UNPAID_ENDS = (Status.CANCELLED, Status.EXPIRED)
_TROUBLED = select(ShopException.order_id).where(
    ShopException.state == "open", ShopException.order_id.is_not(None)
)

VIEWS: dict[str, tuple[str, Any]] = {
    "all": ("All", None),
    "to-ship": (
        "To ship",
        and_(Order.status.in_(TO_SHIP), Order.payment_status != PaymentStatus.DISPUTED),
    ),
    "confirming": ("Confirming", Order.status == Status.PENDING_PAYMENT),
    "exceptions": ("Exceptions", Order.id.in_(_TROUBLED)),
    "refunds": ("Refunds", Order.refunded > 0),
    "disputes": (  # open or lost; asked by way of the few disputes there are, not of all orders
        "Disputes",
        Order.id.in_(select(Dispute.order_id).where(Dispute.status.not_in(disputes.HARMLESS))),
    ),
    "ended": ("Not paid", and_(Order.status.in_(UNPAID_ENDS), Order.paid_at.is_(None))),
}

Cursor = tuple[datetime, str]  # (created_at, id) of the last row seen


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the list is to show, as its address says it; what cannot be read says nothing.

    ``since`` and ``until`` are days (UTC, both included), ``least`` and ``most`` whole amounts in
    each order's own currency.
    """

    view: str = "all"
    q: str = ""
    payment: str = ""
    shipping: str = ""
    strategy: str = ""
    since: str = ""
    until: str = ""
    least: str = ""
    most: str = ""
    sku: str = ""
    noted: str = ""

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Wanted:
        """From an address; a value that no filter knows is left out."""
        texts = {
            field.name: given.get(field.name, "").strip()[:LONGEST_SEARCH] for field in fields(cls)
        }
        known = {name: text for name, text in texts.items() if text and _is_known(name, text)}
        return cls(**known)

    @property
    def address(self) -> dict[str, Any]:
        """The part of an address that asks for this; nothing for what is left as it is."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: text for name, text in found.items() if text and (name, text) != _ALL}

    @property
    def filters(self) -> dict[str, str]:
        """What narrows the view down, but the search."""
        return {name: text for name, text in self.address.items() if name not in ("view", "q")}


_ALL = ("view", "all")
_CHOICES: dict[str, tuple[str, ...]] = {
    "view": tuple(VIEWS),
    "payment": tuple(PaymentStatus),
    "shipping": tuple(Status),
    "strategy": tuple(STRATEGIES),
    "noted": ("yes",),
}


def _is_known(name: str, text: str) -> bool:
    if name in _CHOICES:
        return text in _CHOICES[name]
    if name in ("since", "until"):
        return day_of(text) is not None
    if name in ("least", "most"):
        return any(amount_of(text, currency) is not None for currency in CURRENCIES)
    return True


def day_of(text: str) -> date | None:
    """A day as date fields write it."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


# -- what is shown


def page(wanted: Wanted, before: Cursor | None = None, limit: int = PAGE + 1) -> list[Order]:
    """The newest orders that are wanted, newest first."""
    narrow = [*_conditions(wanted), *_after(before)]
    found = _newest(select(Order).where(*narrow), limit)
    if wanted.q:
        arms = [_newest(arm.where(*narrow), limit) for arm in _arms(wanted.q)]
        ids = union_all(*(select(arm.subquery().c[0]) for arm in arms))
        found = _newest(select(Order).where(Order.id.in_(ids)), limit)
    with reading() as session:
        return list(session.scalars(found))


def counts() -> dict[str, int]:
    """How many orders each view holds, counted up to ``COUNTED_UP_TO``."""
    return {code: count(Wanted(code)) for code in VIEWS}


def count(wanted: Wanted, most: int = COUNTED_UP_TO) -> int:
    """How many are wanted, whatever is searched for, counted up to ``most``."""
    return _count(_conditions(wanted), most)


def count_of(email: str | None, most: int) -> int:
    """How many orders there are of this very address, counted up to ``most``."""
    return _count([Order.email == email], most) if email else 0


def arrived(wanted: Wanted, newest: Cursor | None) -> int:
    """How many wanted orders are newer than the newest that is shown, up to a hundred."""
    conditions = list(_conditions(wanted))
    if newest:
        moment, last_id = newest
        conditions.append(
            or_(Order.created_at > moment, and_(Order.created_at == moment, Order.id > last_id))
        )
    return _count(conditions, NEW_COUNTED_UP_TO)


def chosen(order_ids: list[str]) -> list[Order]:
    """Those of these that there are, newest first."""
    with reading() as session:
        return list(
            session.scalars(_newest(select(Order).where(Order.id.in_(order_ids)), len(order_ids)))
        )


def look_of(orders: list[Order], troubled: set[str]) -> str:
    """A mark of everything that a row shows and that may change: the same as long as none has."""
    told = (
        f"{one.id} {one.status} {one.payment_status} {one.id in troubled}"
        for one in sorted(orders, key=lambda one: one.id)
    )
    return f"{zlib.crc32('|'.join(told).encode()):08x}"


def items_text(order_ids: list[str]) -> dict[str, str]:
    """``2 × Enamel mug, 1 × Desk lamp`` for each order, in one query."""
    texts: dict[str, list[str]] = {}
    with reading() as session:
        for item in session.scalars(
            select(OrderItem).where(OrderItem.order_id.in_(order_ids)).order_by(OrderItem.id)
        ):
            texts.setdefault(item.order_id, []).append(f"{item.quantity} × {item.title}")
    return {order_id: ", ".join(parts) for order_id, parts in texts.items()}


def with_exceptions(order_ids: list[str]) -> set[str]:
    """Which of these orders have an open exception."""
    with reading() as session:
        return set(session.scalars(_TROUBLED.where(ShopException.order_id.in_(order_ids))))


def neighbours(wanted: Wanted, order: Order) -> tuple[str | None, str | None]:
    """The ids of the order above and of the one below in the list; searches have none."""
    if wanted.q:
        return None, None
    here = (order.created_at, order.id)
    below = page(wanted, here, 1)
    moment, last_id = here
    newer = or_(Order.created_at > moment, and_(Order.created_at == moment, Order.id > last_id))
    oldest_first = select(Order.id).where(*_conditions(wanted), newer)
    with reading() as session:
        above = session.scalar(oldest_first.order_by(Order.created_at, Order.id).limit(1))
    return above, below[0].id if below else None


def _newest(query: Select[Any], limit: int) -> Select[Any]:
    return query.order_by(Order.created_at.desc(), Order.id.desc()).limit(limit)


def _count(conditions: Any, most: int) -> int:
    capped = select(Order.id).where(*conditions).limit(most).subquery()
    with reading() as session:
        return session.scalar(select(func.count()).select_from(capped)) or 0


def _after(before: Cursor | None) -> Iterator[ColumnElement[bool]]:
    if before:
        moment, last_id = before
        # The first condition is said twice, because only it is read from the index as a bound.
        yield Order.created_at <= moment
        yield or_(Order.created_at < moment, Order.id < last_id)


# -- filters


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    view = VIEWS[wanted.view][1]
    if view is not None:
        yield view
    if wanted.payment:
        yield Order.payment_status == wanted.payment
    if wanted.shipping:
        yield Order.status == wanted.shipping
    if wanted.strategy:
        yield Order.strategy == wanted.strategy
    since, until = day_of(wanted.since), day_of(wanted.until)
    if since:
        yield Order.created_at >= _midnight(since)
    if until and until < date.max:
        yield Order.created_at < _midnight(until + timedelta(days=1))
    if wanted.least:
        yield _amount(wanted.least, lambda amount: Order.total >= amount)
    if wanted.most:
        yield _amount(wanted.most, lambda amount: Order.total <= amount)
    if wanted.sku:
        yield Order.id.in_(select(OrderItem.order_id).where(OrderItem.sku == wanted.sku))
    if wanted.noted:
        yield Order.id.in_(select(OrderEvent.order_id).where(OrderEvent.kind == NOTE))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _amount(text: str, compared: Any) -> ColumnElement[bool]:
    """It means another number of minor units in each currency."""
    return or_(
        *(
            and_(Order.currency == currency, compared(min(amount, LARGEST_NUMBER)))
            for currency in CURRENCIES
            if (amount := amount_of(text, currency)) is not None
        )
    )


# -- search: each arm is one way to read what was typed, with an index of its own


def _arms(search: str) -> Iterator[Select[Any]]:
    """Number, amount, last four digits of the card, e-mail, name, or any id of Stripe's, as it was
    pasted. Each is asked for the newest few on its own."""
    ids = select(Order.id)
    bare = search.upper().removeprefix(f"{IDENTITY.number_prefix}-")
    digits = bare.isascii() and bare.isdecimal()
    if digits:
        if len(bare) <= len(str(LARGEST_NUMBER)) and int(bare) <= LARGEST_NUMBER:
            yield ids.where(Order.number == int(bare))
        if bare != search.upper():
            return
        if len(bare) == 4:
            yield ids.where(Order.id.in_(select(Payment.attempt_id).where(_last4() == bare)))
    if "_" in search and search.isascii() and search.replace("_", "").isalnum():
        for found in _named(search):
            yield ids.where(Order.id.in_(found))
    amount = search.strip("€$£¥ ")
    sums = [(one, amount_of(amount, one)) for one in CURRENCIES]
    for currency, minor in sums:
        if minor is not None and 0 < minor <= LARGEST_NUMBER:
            yield ids.where(Order.total == minor, Order.currency == currency)
    yield ids.where(Order.id == search.lower())
    if not digits:
        named = or_(
            *(column.icontains(search, autoescape=True) for column in (Order.email, Order.name))
        )
        if len(search) < SHORTEST_PART:
            recent = _newest(select(Order.id), LOOKED_THROUGH).subquery()
            named = and_(named, Order.id.in_(select(recent.c.id)))
        yield ids.where(named)


def _last4() -> ColumnElement[str]:
    """The end of ``Visa ···· 4242``, as the index has it."""
    return func.substr(Payment.method, func.length(Payment.method) - 3)


def _named(stripe_id: str) -> tuple[Any, ...]:
    """The checkouts that an id of Stripe's belongs to: of a leg, a payment, its charge or invoice,
    a refund, a subscription, a dispute, a customer or an event."""
    prefix = stripe_id.partition("_")[0]
    attempt, plan = Payment.attempt_id, Subscription.checkout_attempt_id
    known: dict[str, tuple[Any, ...]] = {
        "pi": (
            select(attempt).where(Payment.payment_intent == stripe_id),
            select(StripeLeg.attempt_id).where(StripeLeg.payment_intent == stripe_id),
            select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == stripe_id),
        ),
        "ch": (select(attempt).where(Payment.charge_id == stripe_id),),
        "py": (select(attempt).where(Payment.charge_id == stripe_id),),
        "in": (
            select(attempt).where(Payment.invoice == stripe_id),
            select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == stripe_id),
            select(plan).where(Subscription.latest_invoice == stripe_id),
        ),
        "re": (select(Refund.order_id).where(Refund.stripe_id == stripe_id),),
        "pyr": (select(Refund.order_id).where(Refund.stripe_id == stripe_id),),
        "sub": (select(plan).where(Subscription.stripe_id == stripe_id),),
        "du": (select(Dispute.order_id).where(Dispute.stripe_id == stripe_id),),
        "dp": (select(Dispute.order_id).where(Dispute.stripe_id == stripe_id),),
        "cus": (
            select(CheckoutAttempt.id).where(CheckoutAttempt.stripe_customer == stripe_id),
            select(plan).where(Subscription.stripe_customer == stripe_id),
        ),
        "evt": (select(StripeEvent.attempt_id).where(StripeEvent.id == stripe_id),),
    }
    of_a_leg = (select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == stripe_id),)
    return known.get(prefix, of_a_leg)
