"""The strategies side by side, as the checkouts of a week tell: what a rollout is judged by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from domain.clock import now
from domain.strategies import STRATEGIES
from extensions import reading
from models import CheckoutAttempt, Order, StripeEvent
from services.metrics import MOST, MOST_TIMED, PAID_EVENT, payment_time, percentile, share

WINDOW = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Side:
    """One strategy; shares are 0–1, None where there is nothing yet. A checkout that is open still
    is begun and not paid."""

    name: str
    begun: int
    paid: int
    failing: int  # orders that could not be brought in step with Stripe
    p50_s: float | None  # from Stripe's payment to the paid order
    p95_s: float | None

    @property
    def paid_share(self) -> float | None:
        return share(self.paid, self.begun)


def side_by_side() -> list[Side]:
    """All strategies, whether or not they are in use; of at most the newest ten thousand."""
    since = now() - WINDOW
    begun, paid, failing = Counter[str](), Counter[str](), Counter[str]()
    newest = (
        select(CheckoutAttempt.strategy_name.label("strategy"), CheckoutAttempt.state)
        .where(CheckoutAttempt.created_at >= since)
        .order_by(CheckoutAttempt.created_at.desc())
        .limit(MOST)
        .subquery()
    )
    wrong = (
        select(Order.strategy, func.count())
        .where(Order.created_at >= since, Order.sync_status == "failed")
        .group_by(Order.strategy)
    )
    with reading() as session:
        for name, state, count in session.execute(
            select(newest.c.strategy, newest.c.state, func.count()).group_by(
                newest.c.strategy, newest.c.state
            )
        ):
            begun[name] += count
            paid[name] += count if state == "settled" else 0
        for name, count in session.execute(wrong):
            failing[name] += count
    return [
        Side(name, begun[name], paid[name], failing[name], *_times(name)) for name in STRATEGIES
    ]


def _times(name: str) -> tuple[float | None, float | None]:
    """Half and 95 of 100 of the newest paid orders were paid within so many seconds."""
    query = (
        select(Order.paid_at, StripeEvent.payload)
        .join(StripeEvent, StripeEvent.attempt_id == Order.id)
        .where(
            Order.strategy == name,
            Order.created_at >= now() - WINDOW,
            Order.paid_at.is_not(None),
            StripeEvent.type == PAID_EVENT,
            StripeEvent.object_id == Order.payment_intent,
        )
        .order_by(Order.created_at.desc(), Order.id.desc())
        .limit(MOST_TIMED)
    )
    with reading() as session:
        rows: Any = session.execute(query).all()
    took = [payment_time(row.paid_at, row.payload) for row in rows]
    return percentile(took, 50), percentile(took, 95)
