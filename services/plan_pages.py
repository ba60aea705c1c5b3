"""What a page says of the subscriptions of one order: shopper's and admin's alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask_babel import gettext as _

from domain.facts import LegState
from domain.transitions import LineState, Status
from models import OrderItem, Payment, StripeLeg, Subscription
from services import language, legs, plan_rows
from services.orders import Dossier

UNPAID = ("past_due", "unpaid")


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One line of a subscription; ``price`` is that of a period, in minor units."""

    title: str
    price: int
    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlanView:
    """A subscription at Stripe, or a line that is yet to become one. Times are UTC."""

    lines: list[PlanLine]
    currency: str
    state: str  # a chip's
    words: str
    id: int | None = None  # of one of its rows, by which it is ended
    stripe_id: str | None = None
    stripe_status: str | None = None
    stripe_customer: str | None = None
    pay_url: str | None = None
    save_until: datetime | None = None  # until when a card can be saved for it
    next_at: datetime | None = None  # when it is charged again
    ends_with: str | None = None  # what it can be set to end with: period, trial
    may_end: bool = False
    may_go_on: bool = False
    renewals: list[Payment] = field(default_factory=list)

    @property
    def title(self) -> str:
        return language.listed([line.title for line in self.lines])

    @property
    def price(self) -> int:
        return sum(line.price for line in self.lines)


def of(case: Dossier) -> list[PlanView]:
    """One for each subscription at Stripe, then the lines that have none."""
    together: dict[str, list[Subscription]] = {}
    for row in case.plans:
        together.setdefault(row.stripe_id, []).append(row)
    known = {row.part for row in case.plans}
    waiting = [item for item in case.items if item.plan and item.sku not in known]
    running = [_running(rows, case.payments) for rows in together.values()]
    return running + [_waiting(item, case) for item in waiting]


def states(case: Dossier) -> dict[str, str]:
    """How each line that recurs stands, by its sku, for a chip: as its subscription does, once
    there is one."""
    found = {item.sku: item.state for item in case.items if item.plan}
    if save_until(case):
        found = {s: "save_card" if found[s] == LineState.PENDING else found[s] for s in found}
    for row in case.plans:
        found[row.part] = state_of(row)
    return found


def unpaid(items: Iterable[OrderItem]) -> int:
    """What was due with an order and is not paid: of lines that have not begun."""
    return sum(item.amount for item in items if item.state != LineState.ACTIVE)


def is_starting(case: Dossier) -> bool:
    """Whether a line of a paid order begins at this moment: its card is saved."""
    setup = _setup(case.legs)
    saved = setup is not None and setup.state == LegState.COMPLETE
    return saved and any(item.state == LineState.PENDING for item in case.items)


def save_until(case: Dossier) -> datetime | None:
    """Until when the card can be saved that lines of a paid order wait for."""
    setup = _setup(case.legs)
    waits = any(item.state == LineState.PENDING for item in case.items)
    is_open = setup is not None and setup.state == LegState.OPEN
    return setup.deadline if setup and waits and is_open else None


def first_unpaid(case: Dossier) -> StripeLeg | None:
    """The first invoice that could not be collected and can still be paid by its link."""
    asked = {row.part for row in case.plans if row.pay_url}
    return next(
        (
            leg
            for leg in case.legs
            if leg.kind == legs.PAYS_FIRST
            and leg.state == LegState.OPEN
            and (leg.failure or leg.part in asked)
        ),
        None,
    )


def state_of(row: Subscription) -> str:
    """Stripe's status, as far as people tell them apart."""
    if row.status in plan_rows.BEGUN and row.cancel_at:
        return "ending"
    if row.status in UNPAID or (row.status == "incomplete" and row.pay_url):
        return "past_due"
    return {"canceled": "ended", "incomplete_expired": "ended", "incomplete": "pending"}.get(
        row.status, row.status
    )


def _running(rows: list[Subscription], payments: Iterable[Payment]) -> PlanView:
    row, parts = rows[0], {row.part for row in rows}
    begun = row.status in plan_rows.BEGUN
    lines = [PlanLine(language.kept(one.title), one.price, _plan(one)) for one in rows]
    return PlanView(
        lines=lines,
        currency=row.currency,
        state=state_of(row),
        words=_words(row, sum(line.price for line in lines)),
        id=row.id,
        stripe_id=row.stripe_id,
        stripe_status=row.status,
        stripe_customer=row.stripe_customer,
        pay_url=row.pay_url if row.status not in plan_rows.ENDED else None,
        next_at=row.period_end if begun and not row.cancel_at else None,
        ends_with=("trial" if row.status == "trialing" else "period")
        if begun and not row.cancel_at
        else None,
        may_end=row.status not in plan_rows.ENDED,
        may_go_on=begun and row.cancel_at is not None,
        renewals=[p for p in payments if p.role == "renewal" and p.part in parts][::-1],
    )


def _waiting(item: OrderItem, case: Dossier) -> PlanView:
    until = save_until(case) if item.state == LineState.PENDING else None
    never = _("No card was saved for it in time, so nothing is charged.")
    if case.attempt.status == Status.CANCELLED:
        never = _("The order was cancelled before it began, so nothing is charged.")
    words = {
        LineState.PENDING: _("It begins once a card is saved.")
        if until
        else _("It is being set up."),
        LineState.PAST_DUE: _("Its first payment failed. Nothing was charged."),
        LineState.NOT_STARTED: never,
        LineState.ENDED: _("Its first payment was never made, so nothing is charged."),
    }
    state = LineState(item.state)
    return PlanView(
        lines=[PlanLine(language.kept(item.title), item.price, item.plan or {})],
        currency=case.attempt.currency,
        state="save_card" if until else state,
        words=words.get(state, ""),
        save_until=until,
    )


def _words(row: Subscription, price: int) -> str:
    """A sentence about where a subscription stands; ``price`` of all its lines."""
    amount, rhythm = language.money(price, row.currency), language.every(_plan(row))
    trial, period, leaves, ended = map(
        _day, (row.trial_end, row.period_end, row.cancel_at, row.ended_at)
    )
    match row.status:
        case "trialing" if leaves:
            return _("Free until %(day)s, then it ends. Nothing is charged.", day=leaves)
        case "trialing":
            return _(
                "Trial until %(day)s, then %(amount)s %(rhythm)s.",
                day=trial,
                amount=amount,
                rhythm=rhythm,
            )
        case "active" if leaves:
            return _("Ends on %(day)s. Nothing more is charged.", day=leaves)
        case "active":
            return _("Active, renews on %(day)s.", day=period)
        case "past_due" | "unpaid":
            return _("The payment of %(amount)s failed. Nothing was charged.", amount=amount)
        case "incomplete" if row.pay_url:
            return _("Its first payment failed. Nothing was charged.")
        case "incomplete":
            return _("Its first payment is being confirmed.")
        case "incomplete_expired":
            return _("Its first payment was never made, so nothing is charged.")
        case "canceled":
            return (
                _("Ended on %(day)s. Nothing more is charged.", day=ended)
                if ended
                else _("It has ended.")
            )
        case _:
            return row.status.replace("_", " ").capitalize()


def _setup(all_legs: Iterable[StripeLeg]) -> StripeLeg | None:
    """The newest leg that saves a card."""
    return next((leg for leg in reversed(list(all_legs)) if leg.kind == legs.SAVES_CARD), None)


def _plan(row: Subscription) -> dict[str, Any]:
    return {"interval": row.interval, "count": row.interval_count, "trial_days": 0}


def _day(moment: datetime | None) -> str:
    return language.day(moment) if moment else ""
