"""What the counter says of a dispute: Stripe's words in plain ones, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import current_app

from domain.clock import now
from models import Dispute
from services import disputes

URGENT = timedelta(days=3)  # gathering what a courier or a colleague knows takes that long


@dataclass(frozen=True, slots=True)
class Reason:
    """``words`` finish the sentence "The bank says that …"; ``helps`` is what to answer with."""

    words: str
    helps: str


_UNKNOWN = Reason(
    "something is wrong with this payment", "Whatever shows who bought what, and that it arrived."
)
_GOODS_CAME = "The tracking number, the day of delivery, and letters that you exchanged."
_SAME_PERSON = (
    "That the buyer is the cardholder: name, address, visits, earlier orders; and that the goods "
    "went to that address."
)
_TALK = "Ask the shopper to talk to the bank; letters that you exchanged, and proof of delivery."

# Stripe's reasons (docs.stripe.com/disputes/categories).
REASONS = {
    "bank_cannot_process": Reason("it could not process the payment", _TALK),
    "check_returned": Reason("the cheque came back unpaid", _TALK),
    "credit_not_processed": Reason(
        "the shopper sent something back, or cancelled, and got no money",
        "The refund, if you made one; else why none was owed.",
    ),
    "customer_initiated": Reason("the shopper asked for the money back", _TALK),
    "debit_not_authorized": Reason(
        "the account’s holder did not allow this debit", "The mandate, and who gave it when."
    ),
    "duplicate": Reason(
        "the shopper was charged twice for the same thing",
        "The other payment, and what each of the two was for.",
    ),
    "fraudulent": Reason("the cardholder did not make this payment", _SAME_PERSON),
    "general": _UNKNOWN,
    "incorrect_account_details": Reason("the account’s details were wrong", _TALK),
    "insufficient_funds": Reason("the account did not hold enough money", _TALK),
    "noncompliant": Reason(
        "the payment broke a rule of the card network", "Which rule that is: Stripe’s page says so."
    ),
    "product_not_received": Reason("the goods never arrived", _GOODS_CAME),
    "product_unacceptable": Reason(
        "the goods were broken, or not as described",
        "The description and pictures of the goods, and what you offered when it was reported.",
    ),
    "subscription_canceled": Reason(
        "the subscription had been cancelled before it was charged",
        "When it was cancelled, if at all, and what the shopper was told about renewals.",
    ),
    "unrecognized": Reason("the shopper does not know the shop’s name on the bill", _SAME_PERSON),
}

_NEXT = {
    "needs_response": "Print the evidence and answer in Stripe’s dashboard. Stripe takes one "
    "answer, so send all of it at once; without one the money is lost.",
    "under_review": "Wait. The answer is with the bank, which may take two or three months.",
    "warning_needs_response": "Nothing is taken yet. Answer in Stripe’s dashboard, or refund the "
    "payment, which ends the question.",
    "warning_under_review": "Wait. If the bank hears nothing more from the shopper, it closes "
    "the question.",
    "warning_closed": "Nothing. The bank asked, and took nothing.",
    "won": "Nothing. The money is back, and the order can be packed and sent again.",
    "lost": "Nothing is left to do at Stripe. The money stays with the shopper, and what was not "
    "sent stays here.",
    "prevented": "Nothing. It was settled before it became a dispute.",
    "appeal_needs_response": "The dispute can be taken further: see in Stripe’s dashboard what the "
    "bank still wants to know.",
    "appeal_under_review": "Wait. The bank looks at it once more.",
}

_TOLD = {
    "needs_response": "The bank disputes the payment",
    "under_review": "Dispute answered, the bank decides",
    "warning_needs_response": "The bank asks about the payment",
    "warning_under_review": "The bank’s question was answered",
    "warning_closed": "The bank’s question is closed",
    "won": "Dispute won",
    "lost": "Dispute lost",
    "prevented": "Dispute prevented",
    "appeal_needs_response": "The dispute can be taken further",
    "appeal_under_review": "The bank looks at the dispute again",
}


@dataclass(frozen=True, slots=True)
class DisputeView:
    """One dispute. Amounts in minor units, times UTC; ``due_by`` only while it is unanswered."""

    stripe_id: str
    payment_intent: str
    amount: int
    currency: str
    status: str  # a chip's
    is_inquiry: bool
    is_open: bool
    reason: str
    next: str
    helps: str | None
    opened_at: datetime
    due_by: datetime | None
    left: str | None
    is_urgent: bool
    url: str


def of_order(order_id: str) -> list[DisputeView]:
    """The newest first."""
    return [_view(row) for row in reversed(disputes.of_order(order_id))]


def reason(code: str) -> Reason:
    """What the bank says, in plain words; Stripe may come up with new ones."""
    return REASONS.get(code, _UNKNOWN)


def told(status: str) -> str:
    """What happened when a dispute came into this status."""
    return _TOLD.get(status, f"The dispute is {status}".replace("_", " "))


def time_left(due_by: datetime) -> str:
    """``8 days left``."""
    left = due_by - now()
    if left <= timedelta():
        return "the date has passed"
    if left < timedelta(hours=1):
        return "less than an hour left"
    count, unit = (left.days, "day") if left.days else (left.seconds // 3600, "hour")
    return f"{count} {unit}{'s' if count > 1 else ''} left"


def entry(detail: str) -> tuple[str, str]:
    """Title and detail of a line of the order's history, as the news was written down there."""
    found = re.fullmatch(r"(\S+): (.+), (\w+): (\w+)", detail)
    if found is None:
        return "Dispute", detail
    stripe_id, sum_, code, status = found.groups()
    return told(status), f"{sum_}: {reason(code).words} · {stripe_id}"


def _view(row: Dispute) -> DisputeView:
    is_waiting = row.status in disputes.UNANSWERED
    due_by = row.due_by if is_waiting else None
    return DisputeView(
        stripe_id=row.stripe_id,
        payment_intent=row.payment_intent,
        amount=row.amount,
        currency=row.currency,
        status=row.status,
        is_inquiry=disputes.is_inquiry(row.status),
        is_open=row.status not in disputes.DECIDED,
        reason=reason(row.reason).words,
        next=_NEXT.get(row.status, "See in Stripe’s dashboard what the bank wants to know."),
        helps=reason(row.reason).helps if is_waiting else None,
        opened_at=row.opened_at,
        due_by=due_by,
        left=time_left(due_by) if due_by else None,
        is_urgent=due_by is not None and due_by - now() < URGENT,
        url=_at_stripe(row.payment_intent),
    )


def _at_stripe(payment_intent: str) -> str:
    """The payment's page in Stripe's dashboard, where its dispute is answered."""
    mode = "" if current_app.extensions["settings"].livemode else "test/"
    return f"https://dashboard.stripe.com/{mode}payments/{payment_intent}"
