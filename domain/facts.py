"""What Stripe told us, as plain values.

Two kinds (rule R3). *Final* facts are taken from a verified event as they are and never undone.
*Mirrors* are a look at something that may still change; whoever looks notes
the version of our row before, and applies the mirror only if the row still has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from domain.bills import Bill


class LegState(StrEnum):
    """Where a leg stands at Stripe; the first three are live, the others final."""

    CREATING = "creating"  # asked for, answer unknown
    OPEN = "open"
    PROCESSING = "processing"  # the shopper is done, the money is under way
    COMPLETE = "complete"
    EXPIRED = "expired"
    CANCELED = "canceled"
    FAILED = "failed"  # complete but unpaid, and the bank said no for good
    REFUSED = "refused"  # Stripe definitely refused to open it

    @property
    def is_final(self) -> bool:
        return self not in LIVE


LIVE = frozenset({LegState.CREATING, LegState.OPEN, LegState.PROCESSING})


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose object it says it is: our attempt, Stripe's customer."""

    attempt_id: str | None = None
    customer_id: str | None = None
    by_us: bool = False  # it carries the reference that only our own call sets


@dataclass(frozen=True, slots=True)
class PaymentSucceeded:
    """Final: this payment took this much money (minor units of ``currency``)."""

    payment_intent: str
    amount: int
    currency: str
    leg_id: str | None = None  # the session or invoice, when the news came through it
    method: str | None = None  # "Visa ···· 4242"
    charge_id: str | None = None
    created: datetime | None = None  # Stripe's whole seconds, UTC
    invoice: str | None = None  # of a subscription, which it paid
    subscription: str | None = None
    renews: bool = False  # it paid for a later period, and no order waits for it
    part: str | None = None  # the sku of the line whose first invoice it paid
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class LegEnded:
    """Final: this session is complete and paid, or expired; this intent succeeded or was canceled;
    this invoice is paid or void."""

    leg_id: str
    state: LegState  # COMPLETE, EXPIRED or CANCELED
    payment_intent: str | None = None
    address: dict[str, str | None] | None = None  # shipping address collected by Stripe
    origin: Origin = field(default_factory=Origin)
    part: str | None = None  # the sku of the line whose first invoice this is
    bill: Bill | None = None  # what a session added up to


@dataclass(frozen=True, slots=True)
class LegSeen:
    """Mirror: how a leg looked when Stripe was asked."""

    leg_id: str
    state: LegState
    payment_intent: str | None = None
    failure: str | None = None  # Stripe's decline or error code of the last try
    origin: Origin = field(default_factory=Origin)
    part: str | None = None  # the sku of the line whose first invoice this is


@dataclass(frozen=True, slots=True)
class RefundSeen:
    """That the refund exists is final; its status is a mirror."""

    refund_id: str
    payment_intent: str
    amount: int
    currency: str
    status: str  # Stripe's: pending, requires_action, succeeded, failed, canceled
    our_row: str | None = None  # from our metadata: the refund row that asked for it


@dataclass(frozen=True, slots=True)
class ItemSeen:
    """One item of a subscription; ``unit_amount`` in minor units."""

    item_id: str
    price_id: str
    unit_amount: int
    quantity: int


@dataclass(frozen=True, slots=True)
class SubscriptionSeen:
    """Mirror: how a subscription looked when Stripe was asked. Times are UTC."""

    subscription_id: str
    status: str  # Stripe's: incomplete, trialing, active, past_due, unpaid, canceled, …
    items: tuple[ItemSeen, ...]
    leg_id: str | None = None  # the session or first invoice through which it was found
    period_end: datetime | None = None
    trial_end: datetime | None = None
    cancel_at: datetime | None = None
    ended_at: datetime | None = None
    latest_invoice: str | None = None
    pay_url: str | None = None  # where its latest invoice can be paid, if that was tried in vain
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class DisputeSeen:
    """Mirror: a payment that the shopper's bank takes back or asks about. ``amount`` in minor
    units, ``due_by`` (UTC) is when it must be answered."""

    dispute_id: str
    payment_intent: str
    amount: int
    currency: str
    status: str  # Stripe's: needs_response, under_review, won, lost, warning_…, …
    reason: str
    due_by: datetime | None = None


Fact = DisputeSeen | PaymentSucceeded | LegEnded | LegSeen | RefundSeen | SubscriptionSeen


@dataclass(frozen=True, slots=True)
class News:
    """What one verified event is about and what it says for certain."""

    event_id: str
    type: str
    object_id: str | None = None
    attempt_id: str | None = None
    payment_intent: str | None = None
    facts: tuple[Fact, ...] = ()
    must_look: bool = False  # the event is only a mirror: read the live legs afresh
    reads: tuple[str, str] | None = None  # kind and id of what else to read afresh
    refunds_of: str | None = None  # the payment intent whose refunds to read afresh
    ignored: str | None = None  # why this event is none of our business
    begun: datetime | None = None  # when work on it began (UTC)

    def ms(self, moment: datetime) -> int | None:
        """How long the work has taken by then, milliseconds."""
        return round((moment - self.begun) / timedelta(milliseconds=1)) if self.begun else None

    @property
    def payment(self) -> PaymentSucceeded | None:
        """The money that it tells of, if it does."""
        return next((fact for fact in self.facts if isinstance(fact, PaymentSucceeded)), None)
