"""What a page of ours asks of the shopper where it can be paid: the secrets, sums and words."""

from __future__ import annotations

from dataclasses import dataclass

from flask_babel import gettext as _

from domain import plans
from domain.clock import now
from domain.facts import LegState
from services import language, legs, orders
from services.cart import Renewal
from services.checkout import PayPage


@dataclass(frozen=True, slots=True)
class Asked:
    """Amounts in minor units: ``once`` and ``first`` are still due now, for what is bought once and
    for what recurs; ``renewal`` is what follows."""

    currency: str
    setup_secret: str | None
    once: int
    first: int
    renewal: Renewal | None
    is_paid: bool  # what is bought once; the card for the rest is yet to be saved

    @property
    def headline(self) -> str:
        if self.is_paid:
            return _("Save a card for your subscription")
        if not self.has_sum:
            return _("Start your trial")
        return _("Pay %(sum)s", sum=self._sum(self.once + self.first))

    @property
    def has_sum(self) -> bool:
        """Whether anything is charged today."""
        return bool(self.once or self.first)

    @property
    def press(self) -> str:
        """What the button says."""
        if self.renewal is None:
            return self.press_once
        return self._subscribe(self.once + self.first)

    @property
    def press_card(self) -> str:
        """The same where what is bought once turns out to be paid."""
        return self._subscribe(self.first)

    @property
    def press_once(self) -> str:
        """The same once the card is saved."""
        return _("Pay %(sum)s", sum=self._sum(self.once))

    @property
    def charges(self) -> tuple[str, str] | None:
        """What is charged in two steps today, if it is: for what is bought once, and to begin."""
        return (self._sum(self.once), self._sum(self.first)) if self.once and self.first else None

    def _subscribe(self, due: int) -> str:
        if not due:
            return _("Save card and start trial")
        return _("Pay %(sum)s now, and subscribe", sum=self._sum(due))

    def _sum(self, amount: int) -> str:
        return language.money(amount, self.currency)


def describe(case: orders.Dossier, page: PayPage) -> Asked:
    """Say what is left to be done for a checkout whose ``page`` is open."""
    attempt = case.attempt
    due, recurring = legs.due_now(attempt), plans.recurring(attempt.lines)
    once = due.pop(plans.ONCE, 0)
    return Asked(
        currency=attempt.currency,
        setup_secret=_setup_secret(case, page),
        once=once if page.client_secret else 0,
        first=sum(due.values()),
        renewal=_renewal(recurring),
        is_paid=attempt.state == "settled",
    )


def _renewal(recurring: list[plans.Line]) -> Renewal | None:
    """Lines of one checkout share a rhythm."""
    if not recurring:
        return None
    plan = recurring[0]["plan"]
    return Renewal(plan, sum(map(plans.price, recurring)), plans.charged_next(plan, now()))


def _setup_secret(case: orders.Dossier, page: PayPage) -> str | None:
    """Also of a card that is saved already: the page asks Stripe which one that is, so that nobody
    has to enter it again for what is bought once."""
    if page.session_id or page.setup_client_secret:
        return page.setup_client_secret
    newest = next((leg for leg in reversed(case.legs) if leg.kind == legs.SAVES_CARD), None)
    return newest.client_secret if newest and newest.state == LegState.COMPLETE else None
