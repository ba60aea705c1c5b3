"""The key figures of the last 24 hours, read from the database alone: right over many processes.

Each figure is a pure function of counts and times. What is read is bounded: at most ``MOST`` of the
newest rows of the window by an index on time, or a partial index that holds no finished order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from sqlalchemy import func, or_, select, union

from domain.clock import now
from extensions import reading
from models import (
    AuditEntry,
    CheckoutAttempt,
    Order,
    OrderEvent,
    OutboxMessage,
    ShopException,
    StripeEvent,
)
from services import leases, notes
from services.history import NOTE
from services.leases import SILENT_AFTER, Pulse
from services.reconcile import SHOWN_FAILED_AFTER

WINDOW = timedelta(hours=24)
HOURS = 24
WEEK = timedelta(days=7)
HALF_DAYS = 14
MOST_OF_A_HALF_DAY = 700  # rows read of each: the newest tell how it was
MOST = 10_000  # rows read of a busy day; more would say the same and cost every scrape
MOST_TIMED = 500  # orders whose payment time is read out of Stripe's event

SYNC_GOAL = 0.995
WEBHOOK_GOAL = 0.999
UPTIME_GOAL = 0.999
PAID_GOAL_S = 3.0  # from Stripe's payment to the order here, 95 of 100
EVENT_GOAL_S = 60.0  # from an event's arrival to its application, 95 of 100, with Redis down too
MANUAL_GOAL = 0.01  # of all orders; our own mark, nobody promised one

LATE_AFTER = timedelta(minutes=10)  # an event that waits longer counts as a failure
LEFT_ALONE = timedelta(seconds=300)  # the reconciler's promise: nothing decided waits longer

PROCESSES = ("worker", "clock")
PAID_EVENT = "payment_intent.succeeded"


# -- formulas


def share(part: int, whole: int) -> float | None:
    """0–1, or None where there is nothing to have a share of."""
    return part / whole if whole else None


def sync_success(synced: int, failing: int) -> float | None:
    """Orders that are in step with Stripe, of those that were to be brought into it."""
    return share(synced, synced + failing)


def webhook_success(handled: int, dead: int, late: int) -> float | None:
    """Events that were dealt with, of those that were or should have been by now."""
    return share(handled, handled + dead + late)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest value that ``percent`` of 100 values do not exceed, or None of no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def uptime(pulse: Pulse, moment: datetime, window: timedelta = WINDOW) -> float | None:
    """The part of the window in which the process was not silent; of less, if it is younger.

    A silence counts from its last beat on, once it is longer than ``SILENT_AFTER``.
    """
    start = max(pulse.since, moment - window)
    silences = list(pulse.silences)
    if moment - pulse.last > SILENT_AFTER:
        silences.append((pulse.last, moment))
    if moment <= start:
        return None
    silent = sum(
        (max(min(end, moment) - max(begin, start), timedelta()) for begin, end in silences),
        timedelta(),
    )
    return 1 - silent / (moment - start)


# -- figures


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds; None of nothing."""

    count: int
    p50_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is owed: ``oldest_s`` is how long the oldest has waited, 0 if none does."""

    count: int
    oldest_s: float
    dead: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """Checkouts that the clock should have dealt with and has not; ``since`` the oldest of them."""

    count: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Hour:
    """The same of one hour, or of half a day: by when an order was placed, an event received."""

    start: datetime
    orders: int
    sync_success: float | None
    manual: int
    event_p95_s: float | None
    paid_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the health page and ``/metrics`` tell; shares are 0–1, None: nothing yet."""

    at: datetime
    orders: int
    synced: int
    undecided: Undecided
    touched: int  # orders with an act of a person or an exception
    events_handled: int
    events_dead: int
    events_late: int
    events_fetched: int  # no webhook brought them; the reconciler found them at Stripe
    event_time: Spread
    payment_to_order: Spread
    by_lane: dict[str, Spread]
    inbox: Waiting
    outbox: Waiting
    exceptions_open: int
    uptime: dict[str, float | None]
    hours: list[Hour]

    @property
    def sync_success(self) -> float | None:
        return sync_success(self.synced, self.undecided.count)

    @property
    def webhook_success(self) -> float | None:
        return webhook_success(self.events_handled, self.events_dead, self.events_late)

    @property
    def manual_rate(self) -> float | None:
        return share(self.touched, self.orders)


def read(*, by_hour: bool = False) -> Figures:
    """All figures as they stand now, and hour by hour if asked for. It only reads."""
    moment = now()
    since = moment - WINDOW
    orders, events, paid = _orders(since), _events(since), _paid(since)
    touched = _touched(since) & {order.id for order in orders}
    late = moment - LATE_AFTER
    return Figures(
        at=moment,
        orders=len(orders),
        synced=sum(order.sync_status == "synced" for order in orders),
        undecided=undecided(),
        touched=len(touched),
        events_handled=sum(_is_handled(event) for event in events),
        events_dead=sum(event.state == "dead" for event in events),
        events_late=sum(event.state == "new" and event.received_at < late for event in events),
        events_fetched=sum(event.lane != "webhook" for event in events),
        event_time=_spread(_took(events)),
        payment_to_order=_spread(one.took_s for one in paid),
        by_lane={
            lane: _spread(one.took_s for one in paid if one.lane == lane)
            for lane in sorted({one.lane for one in paid})
        },
        inbox=inbox_waiting(),
        outbox=outbox_waiting(),
        exceptions_open=_exceptions_open(),
        uptime={name: _uptime(name, moment) for name in PROCESSES},
        hours=_hours(moment, orders, events, paid, touched) if by_hour else [],
    )


def week() -> list[Hour]:
    """The last seven days in halves of a day, oldest first; of a busy one its newest rows tell."""
    moment = now()
    touched, step = _touched(moment - WEEK), WEEK / HALF_DAYS
    starts = [moment - WEEK + number * step for number in range(HALF_DAYS)]
    return [
        _slot(
            start,
            _orders(start, start + step, MOST_OF_A_HALF_DAY),
            _events(start, start + step, MOST_OF_A_HALF_DAY),
            _paid(start, start + step, MOST_OF_A_HALF_DAY),
            touched,
        )
        for start in starts
    ]


def synced_count(most: int) -> int:
    """Orders of the last 24 hours that are in step with Stripe, counted up to ``most``."""
    since = now() - WINDOW
    synced = select(Order.id).where(Order.created_at >= since, Order.sync_status == "synced")
    with reading() as session:
        return session.scalar(select(func.count()).select_from(synced.limit(most).subquery())) or 0


def inbox_waiting() -> Waiting:
    """Events that are stored and not applied yet."""
    return _waiting(StripeEvent, StripeEvent.received_at)


def outbox_waiting() -> Waiting:
    """Effects that are owed and not carried out yet."""
    return _waiting(OutboxMessage, OutboxMessage.created_at)


def undecided() -> Undecided:
    """Checkouts whose look is overdue by more than the reconciler's promise, or failed again and
    again: only a person who syncs by hand, or mends what is broken, will bring them on."""
    every_s: int = current_app.extensions["settings"].reconcile_seconds
    due = func.coalesce(CheckoutAttempt.next_look_at, CheckoutAttempt.created_at)
    patience = max(LEFT_ALONE, timedelta(seconds=2 * every_s))
    query = select(func.count(), func.min(due)).where(
        CheckoutAttempt.state == "open",
        or_(CheckoutAttempt.failed_looks >= SHOWN_FAILED_AFTER, due < now() - patience),
    )
    with reading() as session:
        count, since = session.execute(query).one()
    return Undecided(count, since)


# -- what is read


def _between(column: Any, since: datetime, until: datetime | None) -> list[Any]:
    return [column >= since] if until is None else [column >= since, column < until]


@dataclass(frozen=True, slots=True)
class _Paid:
    placed_at: datetime
    lane: str
    took_s: float


def _orders(since: datetime, until: datetime | None = None, most: int = MOST) -> Sequence[Any]:
    with reading() as session:
        return session.execute(
            select(Order.id, Order.created_at, Order.sync_status)
            .where(*_between(Order.created_at, since, until))
            .order_by(Order.created_at.desc(), Order.id.desc())
            .limit(most)
        ).all()


def _events(since: datetime, until: datetime | None = None, most: int = MOST) -> Sequence[Any]:
    with reading() as session:
        return session.execute(
            select(
                StripeEvent.lane,
                StripeEvent.state,
                StripeEvent.received_at,
                StripeEvent.applied_at,
            )
            .where(*_between(StripeEvent.received_at, since, until))
            .order_by(StripeEvent.received_at.desc(), StripeEvent.id.desc())
            .limit(most)
        ).all()


def _paid(since: datetime, until: datetime | None = None, most: int = MOST_TIMED) -> list[_Paid]:
    """The newest paid orders, with the time from Stripe's payment to the order here.

    When Stripe took it stands in its event, in whole seconds, so that up to one second too much is
    told. An order whose event has not come yet is left out.
    """
    query = (
        select(Order.created_at, Order.paid_at, Order.paid_lane, StripeEvent.payload)
        .join(StripeEvent, StripeEvent.attempt_id == Order.id)
        .where(
            *_between(Order.created_at, since, until),
            Order.paid_at.is_not(None),
            StripeEvent.type == PAID_EVENT,
            StripeEvent.object_id == Order.payment_intent,
        )
        .order_by(Order.created_at.desc(), Order.id.desc())
        .limit(most)
    )
    with reading() as session:
        rows = session.execute(query).all()
    return [
        _Paid(row.created_at, row.paid_lane or "", payment_time(row.paid_at, row.payload))
        for row in rows
    ]


def payment_time(paid_at: datetime, payload: str) -> float:
    """Seconds from when Stripe says that it was paid to when the order knew; never below 0."""
    return max(0.0, paid_at.timestamp() - json.loads(payload)["created"])


def settled(order: Order) -> tuple[str, float | None] | None:
    """Which lane brought the news that an order is paid, and how many seconds after the money; None
    if it is not paid. The seconds are not known until Stripe's event is here."""
    if order.paid_at is None:
        return None
    query = select(StripeEvent.payload).where(
        StripeEvent.object_id == order.payment_intent, StripeEvent.type == PAID_EVENT
    )
    with reading() as session:
        payload = session.scalar(query.limit(1))
    took = payment_time(order.paid_at, payload) if payload else None
    return order.paid_lane or "", took


def _touched(since: datetime) -> set[str]:
    """Ids of what a person did something to, or has to."""
    by_hand: Any = union(
        select(OrderEvent.order_id).where(
            OrderEvent.actor != "", OrderEvent.kind != NOTE, OrderEvent.at >= since
        ),
        select(ShopException.order_id).where(ShopException.opened_at >= since),
        select(AuditEntry.subject).where(
            AuditEntry.at >= since,
            AuditEntry.subject.not_like("product:%"),
            AuditEntry.action.not_in(notes.DEEDS),
        ),
    )
    with reading() as session:
        return {found for found in session.scalars(by_hand.limit(MOST)) if found}


def _waiting(table: Any, came_at: Any) -> Waiting:
    with reading() as session:
        count, oldest = session.execute(
            select(func.count(), func.min(came_at)).where(table.state == "new")
        ).one()
        dead = session.scalar(select(func.count()).select_from(table).where(table.state == "dead"))
    waited = now() - oldest if oldest else timedelta()
    return Waiting(count, max(0.0, waited.total_seconds()), dead or 0)


def _exceptions_open() -> int:
    query = select(func.count()).select_from(ShopException).where(ShopException.state == "open")
    with reading() as session:
        return session.scalar(query) or 0


def _uptime(name: str, moment: datetime) -> float | None:
    pulse = leases.pulse(name)
    return uptime(pulse, moment) if pulse else None


# -- what is made of it


def _is_handled(event: Any) -> bool:
    return event.state in ("done", "ignored")


def _took(events: Iterable[Any]) -> Iterable[float]:
    """Seconds from received to applied. What is ignored at the door was never waited for."""
    return (
        max(0.0, (event.applied_at - event.received_at).total_seconds())
        for event in events
        if event.applied_at
    )


def _spread(seconds: Iterable[float]) -> Spread:
    values = list(seconds)
    return Spread(len(values), percentile(values, 50), percentile(values, 95))


def _hours(
    moment: datetime,
    orders: Sequence[Any],
    events: Sequence[Any],
    paid: list[_Paid],
    touched: set[str],
) -> list[Hour]:
    """The window in hours, oldest first; the last one ends now."""
    placed = _by_hour(moment, orders, lambda order: order.created_at)
    received = _by_hour(moment, events, lambda event: event.received_at)
    timed = _by_hour(moment, paid, lambda one: one.placed_at)
    return [
        _slot(
            moment - WINDOW + timedelta(hours=hour),
            placed[hour],
            received[hour],
            timed[hour],
            touched,
        )
        for hour in range(HOURS)
    ]


def _slot(
    start: datetime,
    orders: Sequence[Any],
    events: Sequence[Any],
    paid: Sequence[_Paid],
    touched: set[str],
) -> Hour:
    return Hour(
        start=start,
        orders=len(orders),
        sync_success=sync_success(
            sum(order.sync_status == "synced" for order in orders),
            sum(order.sync_status == "failed" for order in orders),
        ),
        manual=sum(order.id in touched for order in orders),
        event_p95_s=percentile(_took(events), 95),
        paid_p95_s=percentile((one.took_s for one in paid), 95),
    )


def _by_hour(
    moment: datetime, rows: Iterable[Any], when: Callable[[Any], datetime]
) -> list[list[Any]]:
    hours: list[list[Any]] = [[] for _ in range(HOURS)]
    for row in rows:
        ago = max(timedelta(), moment - when(row))
        hours[HOURS - 1 - min(HOURS - 1, ago // timedelta(hours=1))].append(row)
    return hours
