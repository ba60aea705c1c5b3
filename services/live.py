"""The doorbell of a waiting page: when it rings, for how long, and for how many at once.

It carries no news itself. Whoever hears it asks for the page, so that there is one way to be shown
something, and a ring too many costs a request and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from sqlalchemy import bindparam, func, select

from domain.clock import now
from extensions import reading
from models import CheckoutAttempt, Order, Payment, StripeLeg
from services import orders, status_page

LOOK_EVERY_S = 0.2  # one short query each; a ring is late by half of it on average
CHECK_EVERY = timedelta(seconds=3)  # of who listens: a link may have been revoked meanwhile
SIGN_OF_LIFE_EVERY = timedelta(seconds=15)  # proxies hang up on a line silent for half a minute
LONGEST = timedelta(seconds=60)
MOST_EACH = 2  # streams of one shopper: a second tab, but not a row of them


class Streams:
    """The open streams of one process. Each keeps a thread of the web server for itself, so that
    all of them together get half: the other half answers everybody else."""

    def __init__(self, threads: int) -> None:
        self.most = threads // 2
        self.is_closing: Callable[[], bool] = lambda: False
        self._holders: list[str] = []
        self._lock = Lock()

    @property
    def held(self) -> int:
        return len(self._holders)

    @contextmanager
    def place_for(self, shopper_id: str) -> Iterator[bool]:
        """Whether this shopper may stay; the place is free again when the block ends."""
        with self._lock:
            is_free = self.held < self.most and self._holders.count(shopper_id) < MOST_EACH
            if is_free:
                self._holders.append(shopper_id)
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._holders.remove(shopper_id)


def watch(
    order_id: str,
    again: Callable[[str], orders.Dossier | None],
    *,
    may_stay: Callable[[], bool],
    since: datetime | None = None,
) -> Iterator[orders.Dossier | None]:
    """The checkout, at once and whenever its status page would show something else; None is a sign
    of life in between.

    Ends when the checkout is decided, after a minute, when ``may_stay`` says no, or when ``again``,
    which reads the checkout for whoever listens, gives None. ``since`` is when the listening page
    was opened, for what it shows only after a while. Nothing is held open between two looks.
    """
    opened = checked = told = now()
    seen = None
    while True:
        shown, moment = _shown(order_id, since), now()
        if shown != seen:
            case = again(order_id)  # read after the look: what changes in between rings again
            if case is None:
                return
            seen, checked, told = shown, moment, moment
            yield case
            if case.attempt.state != "open" or not may_stay():
                return
        elif moment - checked >= CHECK_EVERY:
            checked = moment
            if again(order_id) is None or not may_stay():
                return
        elif moment - told >= SIGN_OF_LIFE_EVERY:
            told = moment
            yield None
        if now() - opened >= LONGEST:
            return
        time.sleep(LOOK_EVERY_S)


def _shown(order_id: str, since: datetime | None) -> tuple[Any, ...]:
    """Whatever the status page depends on, to be compared with the next look."""
    waited = (now() - since).total_seconds() if since else 0
    with reading() as session:
        row = session.execute(_FACTS, {"order_id": order_id}).one_or_none()
    return (status_page.patience(waited), *(row or ()))


# Built once, because five times a second building it would cost more than sending it.
_FACTS = (
    select(
        CheckoutAttempt.state,
        CheckoutAttempt.status,
        CheckoutAttempt.is_processing,
        Order.status,
        Order.payment_status,
        Order.failure_reason,
        Order.sync_status,
        Order.refunded,
        select(func.sum(StripeLeg.version))
        .where(StripeLeg.attempt_id == CheckoutAttempt.id)
        .scalar_subquery(),
        select(func.count(Payment.id))
        .where(Payment.attempt_id == CheckoutAttempt.id)
        .scalar_subquery(),
    )
    .outerjoin(Order, Order.id == CheckoutAttempt.id)
    .where(CheckoutAttempt.id == bindparam("order_id"))
)
