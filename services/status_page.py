"""What the shopper sees after paying, in words about their money (ux: success page)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from flask_babel import gettext as _
from flask_babel import ngettext

from domain import declines, plans
from domain.clock import now
from domain.facts import LegState
from domain.transitions import PAID_STATUSES, LineState, PaymentStatus, Status
from extensions import reading
from models import CheckoutAttempt, Shipment
from services import (
    checkout,
    disputes,
    language,
    orders,
    plan_pages,
    refunds,
    settings,
    snapshots,
)
from services.plan_pages import PlanView

# Seconds between the polls of a waiting page: quick while a person watches, then patient.
DELAYS_S = (0.7, 1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 30)
PATIENT_AFTER_S = 20
STOP_AFTER_S = 600
MAIL_PROMISE = timedelta(minutes=10)  # the reconciler asks every 2 minutes, mail goes within one
REFRESHES_S = (4, 8, 16, 32)  # without scripts the page reloads itself this often, then stops
ASK_STRIPE_AT = frozenset({3, 6, 9})  # polls that ask Stripe itself, should the news be late
# The same for a page with a live line, which looks at its beginning, when it turns patient, and
# then about once a minute.
LIVE_ASK_STRIPE_AT = frozenset({2, 3, 5})

ODD = ("mismatch", "surplus")  # roles of money that settles no order


@dataclass(frozen=True, slots=True)
class Step:
    label: str
    detail: str
    state: str  # done, now, stop, todo


@dataclass(frozen=True, slots=True)
class View:
    """Everything the page may say. Amounts in minor units, times UTC."""

    state: str
    headline: str
    lead: str
    say: str
    title: str
    order_id: str
    number: str | None = None
    first_name: str | None = None
    email: str | None = None
    total: int = 0
    currency: str = "eur"
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    ends_at: datetime | None = None
    mail_by: datetime | None = None
    method: str | None = None
    lines: list[Any] = field(default_factory=list)
    subtotal: int = 0
    shipping: int = 0
    tax: int = 0
    discount: int = 0
    code: str | None = None
    tax_rates: list[dict[str, Any]] = field(default_factory=list)
    delivery_label: str | None = None
    address: list[str] | None = None
    steps: list[Step] = field(default_factory=list)
    mine: bool = False
    sync: str | None = None  # how confirming it stands: syncing, synced, failed; None: it is over
    asking: bool = False
    look: int = 0
    delay_s: float = 0.0
    poll_url: str | None = None
    live_url: str | None = None
    check_url: str | None = None
    refresh_s: int | None = None
    refresh_url: str | None = None
    retry_url: str | None = None
    pay_url: str | None = None
    share_url: str | None = None
    invoice_url: str | None = None
    reason: str | None = None  # why it was declined, and what helps
    advice: str | None = None
    stopped: bool = False
    plans: list[PlanView] = field(default_factory=list)
    line_states: dict[str, str] = field(default_factory=dict)  # of lines that recur, by sku
    unpaid: int = 0  # of the total, for lines that have not begun
    save_until: datetime | None = None  # a card is yet to be saved for them
    save_url: str | None = None


def landed(case: orders.Dossier, shopper_id: str | None) -> orders.Dossier:
    """The checkout when a browser comes back from paying: first what its strategy keeps for the
    return of its own shopper, then a quick look at Stripe."""
    if case.attempt.state == "open":
        checkout.welcome_back(case.attempt.id, shopper_id)
        case = orders.dossier(case.attempt.id) or case
    return asked(case)


def asked(case: orders.Dossier) -> orders.Dossier:
    """The checkout after a quick look at Stripe, if it was not decided yet. With the look-up
    switched off, what is known is shown, and the webhook decides."""
    if case.attempt.state != "open" or not settings.current().landing_lookup:
        return case
    answered = checkout.ask(case.attempt.id)
    return replace(orders.dossier(case.attempt.id) or case, unsure=not answered)


def polled(
    case: orders.Dossier, look: int, *, unsure: bool = False, is_live: bool = False
) -> orders.Dossier:
    """The checkout as a waiting page sees it; Stripe is asked now and then.

    ``unsure`` says that this page's last look at Stripe failed, and nothing is known since.
    """
    ask_at = LIVE_ASK_STRIPE_AT if is_live else ASK_STRIPE_AT
    return asked(case) if look in ask_at else replace(case, unsure=unsure)


def describe(
    case: orders.Dossier, *, mine: bool, look: int = 0, waited: float | None = None
) -> View:
    """Say what is true now; ``look`` counts how often this page has asked already.

    ``mine`` False shows a status and nothing else: no name, address, e-mail or lines. ``waited`` is
    how many seconds the page has been open; one that polls tells it by its own pauses.
    """
    attempt, order = case.attempt, case.order
    waited = waited_s(look) if waited is None else waited
    state = _state(case, waited)
    paid = next(iter(case.settling), None)
    contact = _contact(case)
    headline, lead, say = _words(case, state, contact, mine)
    order_number = orders.number(order) if order else None
    stopped = state == "slow" and waited > STOP_AFTER_S
    begins = state == "paid" and plan_pages.is_starting(case) and waited <= STOP_AFTER_S
    asking = (state in ("processing", "slow") and not stopped) or begins
    reason, advice = _reason(case) if state in ("failed", "owed") else (None, None)
    view = View(
        state=state,
        headline=headline,
        lead=lead,
        say=say,
        title=_title(state, order_number if mine else None),
        order_id=attempt.id,
        number=order_number if mine else None,
        total=order.total if order else attempt.total,
        currency=attempt.currency,
        placed_at=attempt.created_at,
        paid_at=order.paid_at if order else None,
        ends_at=attempt.deadline if attempt.state == "open" else None,
        mail_by=_promise(waited) if state == "slow" else None,
        reason=reason,
        advice=advice,
        sync=orders.sync_status(case) if _is_confirming(case, state) else None,
        asking=asking,
        look=look,
        delay_s=DELAYS_S[min(look, len(DELAYS_S) - 1)],
        refresh_s=REFRESHES_S[look] if asking and look < len(REFRESHES_S) else None,
        stopped=stopped,
        mine=mine,
        steps=_steps(case, state, paid) if mine else [],
    )
    if not mine:
        return view
    source: Any = order or attempt
    delivery = (order.delivery if order else _snapshot(case).get("delivery")) or {}
    return replace(
        view,
        first_name=(contact.get("name") or "").split(" ")[0] or None,
        email=contact.get("email"),
        method=paid.method if paid else None,
        lines=case.items or lines_of(attempt),
        subtotal=source.subtotal,
        shipping=source.shipping,
        tax=source.tax,
        discount=source.discount,
        code=source.code,
        tax_rates=source.tax_rates or [],
        delivery_label=language.kept(delivery.get("label")),
        address=_address_lines(case),
        pay_url=_pay_url(case) if state == "owed" else None,
        **(_recurring(case) if state == "paid" and plans.recurring(attempt.lines) else {}),
    )


def _recurring(case: orders.Dossier) -> dict[str, Any]:
    """What a paid order says of its lines that recur."""
    return {
        "plans": plan_pages.of(case),
        "line_states": plan_pages.states(case),
        "unpaid": plan_pages.unpaid(case.items),
        "save_until": plan_pages.save_until(case),
    }


def _pay_url(case: orders.Dossier) -> str | None:
    """Where the first invoice of a subscription waits."""
    leg = plan_pages.first_unpaid(case)
    if leg is None:
        return None
    return leg.url or next((row.pay_url for row in case.plans if row.part == leg.part), None)


def _went_back(case: orders.Dossier) -> bool:
    """Whether all the money that fitted nothing has been refunded."""
    odd = [payment for payment in case.payments if payment.role in ODD]
    with reading():
        back = refunds.sum_of([payment.payment_intent for payment in odd])
    return back >= sum(payment.amount for payment in odd)


def _state(case: orders.Dossier, waited: float) -> str:
    attempt = case.attempt
    if attempt.status in PAID_STATUSES or attempt.state == "settled":  # also when refunded since
        return "paid"
    if any(payment.role in ODD for payment in case.payments):
        return "returned" if _went_back(case) else "needs_us"
    if attempt.status == Status.EXPIRED:
        return "expired"
    leg = case.newest_leg
    if attempt.status == Status.CANCELLED:
        return "failed" if leg and leg.state == LegState.FAILED else "cancelled"
    if plan_pages.first_unpaid(case):
        return "owed"
    if leg and leg.state == LegState.OPEN and leg.failure and not case.unsure:
        return "failed"  # of an older try perhaps, if Stripe could not be asked just now
    delayed = leg is not None and leg.state == LegState.PROCESSING
    return "slow" if delayed or waited > PATIENT_AFTER_S else "processing"


def waited_s(look: int) -> float:
    """How long a page that has asked ``look`` times has been waiting, by its own delays."""
    return sum(DELAYS_S[:look]) + DELAYS_S[-1] * max(0, look - len(DELAYS_S))


def look_after(waited: float) -> int:
    """How often a page that polls would have asked in so many seconds."""
    by_then = list(accumulate(DELAYS_S))
    later = max(0.0, waited - by_then[-1])
    return bisect_right(by_then, waited) + int(later // DELAYS_S[-1])


def pause_s(waited: float) -> float:
    """How long a page that polls, and has waited so many seconds, rests before it asks again."""
    return DELAYS_S[min(look_after(waited), len(DELAYS_S) - 1)]


def turns_slow(look: int) -> bool:
    """Whether this poll is the first to say that it takes longer than usual."""
    return waited_s(look - 1) <= PATIENT_AFTER_S < waited_s(look)


def patience(waited: float) -> int:
    """0 at first, 1 once the page promises a mail, 2 once it stops asking."""
    return (waited > PATIENT_AFTER_S) + (waited > STOP_AFTER_S)


def _promise(waited: float) -> datetime:
    """The clock time by which a mail will have come: the same on every poll of one page."""
    began = now() - timedelta(seconds=waited)
    return (began + MAIL_PROMISE).replace(second=0, microsecond=0) + timedelta(minutes=1)


def _is_confirming(case: orders.Dossier, state: str) -> bool:
    """Whether the page is about confirming, or about its having been confirmed."""
    refunded = case.order.refunded if case.order else 0
    return state in ("processing", "slow") or (state == "paid" and not refunded)


def _contact(case: orders.Dossier) -> dict[str, Any]:
    if case.order:
        return {"name": case.order.name, "email": case.order.email}
    return _snapshot(case).get("contact") or {}


def _snapshot(case: orders.Dossier) -> dict[str, Any]:
    """What was submitted, while it may be read."""
    return case.attempt.snapshot if snapshots.is_readable(case.attempt, case.legs) else {}


def _title(state: str, number: str | None) -> str:
    """Of the window."""
    title = {
        "processing": _("Confirming payment"),
        "slow": _("Still confirming"),
        "paid": _("Paid"),
        "failed": _("Payment not successful"),
        "expired": _("Checkout expired"),
        "needs_us": _("We have a question"),
        "returned": _("Money sent back"),
        "owed": _("One more step"),
    }.get(state, _("Not paid"))
    return _("%(title)s – order %(number)s", title=title, number=number) if number else title


def _words(
    case: orders.Dossier, state: str, contact: dict[str, Any], mine: bool
) -> tuple[str, str, str]:
    """Headline, paragraph, and what a screen reader hears."""
    order = case.order
    name = (contact.get("name") or "").split(" ")[0] if mine else ""
    match state:
        case "paid" if order and order.refunded:
            return (
                _("We sent money back to you"),
                _went_back_words(case, mine),
                _("This order was refunded."),
            )
        case "paid":
            hello = _("Thank you, %(name)s.", name=name) if name else _("Thank you.")
            return _paid_words(case, hello, contact, mine)
        case "owed":
            recurring = [
                language.kept(line["title"]) for line in plans.recurring(case.attempt.lines)
            ]
            titles = language.listed(recurring) if mine else _("your subscription")
            return (
                _("One more step: your first payment"),
                _(
                    "Your card is saved, but the first payment for %(titles)s did not go through. "
                    "Nothing was charged. Pay it on the page of our payment service, with this "
                    "card or another one.",
                    titles=titles,
                ),
                _("The first payment did not go through. You can still pay it."),
            )
        case "processing":
            return (
                _("Confirming your payment"),
                _(
                    "This usually takes a few seconds. Your order is saved, so please don’t pay "
                    "again."
                ),
                _("We are confirming your payment."),
            )
        case "slow":
            return (
                _("Your bank is taking its time"),
                _(
                    "Your order is saved and your items are set aside. Please don’t pay again. "
                    "You can close this page: we write to you as soon as we know."
                ),
                _("Still confirming. You can close this page, we will write to you."),
            )
        case "failed":
            return (
                _("The payment didn’t go through"),
                _(
                    "You were not charged. Your items are still here: try again, or pay another "
                    "way."
                ),
                _("The payment did not go through. You were not charged."),
            )
        case "expired":
            return (
                _("This checkout has expired"),
                _(
                    "Nothing was charged. Your items are back in your basket, so you can start "
                    "again."
                ),
                _("This checkout has expired. Nothing was charged."),
            )
        case "returned":
            return (
                _("We sent your money back"),
                _(
                    "Your payment did not fit this order any more, so all of it went back the way "
                    "you paid. Banks can take up to ten days to show it."
                ),
                _("Your payment was sent back to you."),
            )
        case "needs_us":
            return (
                _("We have your payment, and one question"),
                _(
                    "Your money arrived, but something about this order does not fit. A person "
                    "looks at it today and writes to you. Please don’t pay again."
                ),
                _("Your payment arrived. We will write to you about this order."),
            )
        case _other:
            return (
                _("You left before paying"),
                _("Nothing was charged. Your items are still here for you."),
                _("This order is not paid. Nothing was charged."),
            )


def _went_back_words(case: orders.Dossier, mine: bool) -> str:
    if not mine or case.order is None:
        return _(
            "Money of this order went back the way you paid. Banks can take up to ten days to "
            "show it."
        )
    back = language.money(case.order.refunded, case.order.currency)
    words = _(
        "%(amount)s of this order went back the way you paid. Banks can take up to ten days to "
        "show it.",
        amount=back,
    )
    return _joined(words, _bank_looks(case))


def _paid_words(
    case: orders.Dossier, hello: str, contact: dict[str, Any], mine: bool
) -> tuple[str, str, str]:
    ready, confirmed = _("You’re all set."), _("The order is confirmed.")
    if not mine:
        return _joined(hello, ready), _("This order is paid."), confirmed
    received = sum(payment.amount for payment in case.settling)
    amount = language.money(received, case.attempt.currency)
    got = (
        _("We received your payment of %(amount)s.", amount=amount)
        if received
        else _("Your free time has begun, and nothing was charged.")
    )
    if _is_disputed(case):
        return hello, _joined(got, _bank_looks(case)), confirmed
    receipt = _(
        "The receipt for %(order)s is on its way to %(email)s.",
        order=_("order %(number)s", number=orders.number(case.order))
        if case.order
        else _("your order"),
        email=contact.get("email") or "",
    )
    ready, more = _what_is_left(case)
    say = _("Payment received. The order is confirmed.") if received else confirmed
    return _joined(hello, ready), _joined(got, receipt, more), say


def _joined(*sentences: str) -> str:
    """Sentences one after another, as this language parts them."""
    return ("" if language.spoken() == "ja" else " ").join(filter(None, sentences))


def _is_disputed(case: orders.Dossier) -> bool:
    return case.order is not None and case.order.payment_status == PaymentStatus.DISPUTED


def _bank_looks(case: orders.Dossier) -> str:
    """All that a shopper is told of a dispute: they have heard the rest from their bank."""
    if not _is_disputed(case) or disputes.are_decided(case.attempt.id):
        return ""
    return _("Your bank is looking at this payment.")


def _what_is_left(case: orders.Dossier) -> tuple[str, str]:
    """Of a paid order: the end of its headline, and what the paragraph adds for lines that recur
    and have not begun."""
    later = [item for item in case.items if item.plan and item.state != LineState.ACTIVE]
    if not later:
        return _("You’re all set."), ""
    titles, count = language.listed([language.kept(item.title) for item in later]), len(later)
    if plan_pages.save_until(case):
        return _("One step is left."), ngettext(
            "%(titles)s has not started yet.",
            "%(titles)s have not started yet.",
            count,
            titles=titles,
        )
    if any(item.state == LineState.PENDING for item in later):
        return _("You’re all set."), ngettext(
            "%(titles)s begins in a moment.", "%(titles)s begin in a moment.", count, titles=titles
        )
    if any(item.state == LineState.PAST_DUE for item in later):
        return _("One step is left."), _(
            "The first payment for %(titles)s did not go through.", titles=titles
        )
    return "", ngettext(
        "%(titles)s has not started, and nothing was charged for it.",
        "%(titles)s have not started, and nothing was charged for them.",
        count,
        titles=titles,
    )


def _reason(case: orders.Dossier) -> tuple[str, str]:
    """Why it did not go through, and what to do."""
    code = next((leg.failure for leg in reversed(case.legs) if leg.failure), None)
    if code is None and plan_pages.first_unpaid(case):
        return _("Your bank wants to be sure that it is you."), ""
    decline = declines.of(code)
    return language.said(decline.what), language.said(decline.do)


def _steps(case: orders.Dossier, state: str, paid: Any) -> list[Step]:
    placed = Step(
        _("Order placed") if case.order else _("Checkout done"),
        _("Your items are back in your basket.")
        if case.attempt.state == "closed"
        else _("Your items are set aside for you."),
        "done",
    )
    if state == "paid":
        return [placed, *_steps_once_paid(case, paid)]
    if state in ("failed", "expired", "cancelled", "returned"):
        charged = _("It went back to you.") if state == "returned" else _("Nothing was charged.")
        payment = Step(_("Payment"), charged, "stop")
    elif state == "owed":
        payment = Step(_("First payment"), _("It did not go through yet."), "now")
    else:
        payment = Step(_("Confirming payment"), _("With your bank."), "now")
    return [placed, payment, Step(_("Packing"), "", "todo"), Step(_("Shipped"), "", "todo")]


def _steps_once_paid(case: orders.Dossier, paid: Any) -> list[Step]:
    status = case.attempt.status if case.order is None else case.order.status
    shipped = status in (Status.SHIPPED, Status.DELIVERED)
    parcels = [_parcel(parcel) for parcel in case.shipments]
    how = f"{paid.method}." if paid and paid.method else _("Thank you.")
    received = Step(_("Payment received"), how, "done")
    if not case.settling:
        received = Step(_("Begun"), _("Nothing was charged."), "done")
    if case.order and case.order.payment_status == PaymentStatus.REFUNDED:
        sent = [Step(_("Shipped"), text, "done") for text in parcels]
        return [received, *sent, Step(_("Refunded"), _("All of it."), "done")]
    if parcels and not shipped:
        parcels.append(_("The rest follows in another parcel."))
    arrived = status == Status.DELIVERED
    packing = "" if _is_disputed(case) else _("We pack on the next working day.")
    return [
        received,
        Step(_("Packing"), packing, "done" if shipped else "now"),
        Step(
            _("Delivered") if arrived else _("Shipped"),
            _joined(*parcels) or _("Tracking number by e-mail."),
            "done" if arrived else "now" if shipped else "todo",
        ),
    ]


def _parcel(parcel: Shipment) -> str:
    """``DHL 00340, sent 3 Dec: 1 × Desk lamp.``"""
    return _(
        "%(carrier)s, sent %(day)s: %(lines)s.",
        carrier=f"{parcel.carrier} {parcel.tracking}".strip(),
        day=language.short_day(parcel.at),
        lines=language.listed(
            [f"{line['quantity']} × {language.kept(line['title'])}" for line in parcel.lines]
        ),
    )


@dataclass(frozen=True, slots=True)
class _SnapshotLine:
    sku: str
    title: str
    subtitle: str
    picture: str
    unit_amount: int
    quantity: int
    amount: int  # what is due for it now; a trial costs nothing yet
    plan: dict[str, Any] | None

    @property
    def price(self) -> int:
        return self.unit_amount * self.quantity


def lines_of(attempt: CheckoutAttempt) -> list[_SnapshotLine]:
    """The lines of a checkout, as an order's items read."""
    parts = ("sku", "title", "subtitle", "picture", "unit_amount", "quantity")
    return [
        _SnapshotLine(
            **{name: line[name] for name in parts},
            amount=plans.first_amount(line),
            plan=line.get("plan"),
        )
        for line in attempt.lines
    ]


def _address_lines(case: orders.Dossier) -> list[str] | None:
    source = case.order.address if case.order else _snapshot(case).get("address")
    if not source:
        return None
    name = case.order.name if case.order else _contact(case).get("name")
    town = " ".join(part for part in (source.get("postal_code"), source.get("city")) if part)
    country = ", ".join(part for part in (town, source.get("state"), source.get("country")) if part)
    lines = [name, source.get("line1"), source.get("line2"), country]
    return [line for line in lines if line]
