"""Checkout: from a basket to a page at Stripe where it can be paid, and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from domain import codes, plans
from domain.clock import now
from domain.delivery import DELIVERIES
from domain.errors import (
    BillDiffers,
    CodeRefused,
    Conflict,
    EmptyCart,
    NotFound,
    OrderDataMissing,
    OrderReferenceMissing,
    PlansDoNotMix,
    PriceChanged,
    ProductUnavailable,
    ShopError,
    StripeRefused,
    StripeUnavailable,
    TotalTooLarge,
)
from domain.facts import LegEnded, LegSeen, LegState, News, SubscriptionSeen
from domain.money import LARGEST_AMOUNT
from domain.strategies import Moment
from domain.transitions import Status
from domain.words import Words
from extensions import atomic, reading, retrying
from gateway import current_gateway
from gateway.calls import UNREACHED
from models import Cart, CartItem, CheckoutAttempt, StripeLeg
from services import (
    attempts,
    history,
    inbox,
    language,
    legs,
    pricing,
    settle,
    snapshots,
    stock,
)
from services import settings as shop_settings
from services.causes import CHECKOUT, LANDING, SHOPPER, Cause
from services.pricing import Priced

log = structlog.get_logger()

TRIES = 4  # of a checkout that another tab of the same shopper keeps overtaking
OVERTAKEN = Words("Your basket is being changed in another window. Look at it and try again.")


@dataclass(frozen=True, slots=True)
class Contact:
    name: str
    email: str
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    line1: str
    city: str
    postal_code: str
    country: str
    line2: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class PayPage:
    """Where the shopper can pay, and for which order; after a retry, what it replaces.

    Stripe's own page is at ``url``; without one, a page of ours opens with the ``client_secret`` of
    what is paid, the ``setup_client_secret`` of what saves a card, or both.
    """

    attempt_id: str
    url: str | None
    client_secret: str | None
    setup_client_secret: str | None = None
    session_id: str | None = None
    payment_intent: str | None = None
    previous_session_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A checkout that could be recorded: priced, checked, not yet written."""

    cart_id: int
    currency: str
    lines: tuple[dict[str, Any], ...]
    snapshot: dict[str, Any]
    fingerprint: str
    shipping: int
    code: str | None  # a discount code, as it was typed

    @property
    def due(self) -> dict[str, int]:
        """What is due now, by part, before a discount and tax."""
        return plans.due_now(self.lines, self.shipping)


class AlreadyPaid(Conflict):
    """The checkout that was to be replaced has been paid meanwhile: show that order."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(Words("Your last checkout is paid, or being paid. Here is your order."))


class CheckoutEnded(Conflict):
    """There is nothing left to pay through: what was to be bought starts again from the basket."""

    def __init__(self) -> None:
        super().__init__(
            Words("This checkout has ended. Your basket is as it was; start again from there.")
        )


class _Changed(Exception):
    """The basket is not what it was a moment ago."""


def start(
    shopper_id: str,
    contact: Contact,
    address: Address,
    delivery: str,
    payment_ui: str | None = None,
    code: str | None = None,
) -> PayPage:
    """Record an attempt, ask Stripe for something to pay through, remember it.

    ``payment_ui`` is ``hosted``, ``embedded`` or ``elements``; None: as the shop is set up.
    ``code`` is a discount code as it was typed; one is paid for on Stripe's page, which counts its
    use. The same basket and details checked out again answer with the same attempt and page (asked
    for in another way, with the same attempt and a page of that way, after the first is closed);
    changed ones first close the old attempt, at Stripe and then here. Raises EmptyCart, OutOfStock,
    ProductUnavailable, PriceChanged, AlreadyPaid, CodeRefused, TaxPlaceUnknown, NoTaxOnPlans,
    BillDiffers, and StripeUnavailable, after which nothing was charged and the same call may be
    made again.
    """
    priced: dict[str, Priced] = {}  # by fingerprint: one that must first end another asks once
    for _ in range(TRIES):
        draft, current = _draft(shopper_id, contact, address, delivery, codes.typed(code))
        way = _way(payment_ui, draft)
        is_same = current and current.fingerprint == draft.fingerprint and current.deadline > now()
        if not is_same and draft.fingerprint not in priced:
            priced[draft.fingerprint] = _priced(draft)  # before anything is ended for it
        if current and not is_same:
            _end_before_next(current.id)
            continue
        try:
            if current is None:
                return _page(_record(shopper_id, draft, priced[draft.fingerprint], way))
            return _same_page(current) if current.payment_ui == way else _switched(current, way)
        except (_Changed, IntegrityError, CheckoutEnded):
            log.info("checkout.overtaken", shopper=shopper_id)
    raise Conflict(OVERTAKEN)


def again(order_id: str, shopper_id: str, payment_ui: str | None = None) -> PayPage:
    """The payment page of a checkout that is still open, or one of another way to pay in its
    place. Raises NotFound, AlreadyPaid, Conflict and the Stripe errors."""
    attempt = _owned(order_id, shopper_id)
    if attempt.state == "settled" and plans.recurring(attempt.lines):
        return _page(attempt.id)  # paid, but the card for what recurs may be yet to be saved
    if attempt.state != "open" or attempt.deadline <= now():
        raise CheckoutEnded
    if payment_ui == "elements" and attempt.code:
        payment_ui = "hosted"
    if payment_ui and payment_ui != attempt.payment_ui:
        return _switched(attempt, payment_ui)
    return _same_page(attempt)


def _way(wanted: str | None, draft: _Draft) -> str:
    """How it is to be paid. Where nothing is due for what is bought once there is nothing to enter
    on a page of ours; and only a session of Stripe's takes a code, and counts its use."""
    usual: str = current_app.extensions["settings"].payment_ui
    way = wanted or usual
    needs_session = draft.due.get(plans.ONCE) == 0 or draft.code is not None
    return "hosted" if way == "elements" and needs_session else way


def _priced(draft: _Draft) -> Priced:
    priced = pricing.price(
        list(draft.lines),
        draft.shipping,
        draft.currency,
        code=draft.code,
        address=draft.snapshot["address"],
        email=draft.snapshot["contact"]["email"],
    )
    if priced.total > LARGEST_AMOUNT:
        raise TotalTooLarge
    return priced


def _switched(attempt: CheckoutAttempt, way: str) -> PayPage:
    """One way to pay is live at a time: the old one is closed at Stripe first."""
    newest = _newest_leg(attempt)
    settled = settle.settle(attempt.id, SHOPPER, replacing=newest.id, payment_ui=way)
    if settled is None or settled.state == "settled":
        raise AlreadyPaid(attempt.id)
    return _page(attempt.id)


def retry(order_id: str, shopper_id: str) -> PayPage:
    """A new payment page for the same order, in place of the old one, which is closed at Stripe
    first. Also for a checkout that has ended, until a day after its end.

    Only while nothing of it was ever paid. Stock and lines that came back are taken out again.
    Pressed twice at once, both get the same page. Raises AlreadyPaid, OutOfStock,
    ProductUnavailable, Conflict with the reason, and the Stripe errors; then nothing was changed.
    """
    attempt = _owned(order_id, shopper_id)
    if attempt.is_processing and ask(attempt.id, SHOPPER):  # the bank may have said no by now
        attempt = _owned(order_id, shopper_id)
    # Said before anything is ended for a retry that cannot be.
    if attempt.state == "settled" or attempt.is_processing:
        raise AlreadyPaid(attempt.id)
    if attempt.purged_at:
        raise CheckoutEnded
    for _ in range(TRIES):
        newest, other = _newest_leg(attempt), _other_open(attempt)
        if newest.state == LegState.CREATING:  # its page never opened: there is nothing to replace
            return _page(attempt.id)
        if other:
            _end_before_next(other)
        try:
            settled = settle.settle(attempt.id, SHOPPER, replacing=newest.id)
        except IntegrityError:
            log.info("checkout.overtaken", shopper=shopper_id)  # by another checkout of the basket
            continue
        if settled is None or settled.state == "settled":
            raise AlreadyPaid(attempt.id)
        return replace(_page(attempt.id), previous_session_id=newest.session_id)
    raise Conflict(OVERTAKEN)


def _newest_leg(attempt: CheckoutAttempt) -> StripeLeg:
    with reading() as session:
        return session.scalars(
            select(StripeLeg)
            .where(StripeLeg.attempt_id == attempt.id, StripeLeg.is_ours)
            .order_by(StripeLeg.id.desc())
            .limit(1)
        ).one()


def _other_open(attempt: CheckoutAttempt) -> str | None:
    """Another checkout of the same basket that is still open."""
    if attempt.cart_id is None:
        return None
    with reading() as session:
        return session.scalar(
            select(CheckoutAttempt.id).where(
                CheckoutAttempt.cart_id == attempt.cart_id,
                CheckoutAttempt.id != attempt.id,
                CheckoutAttempt.state == "open",
                ~CheckoutAttempt.is_processing,
            )
        )


def release(order_id: str, shopper_id: str) -> None:
    """End an unpaid checkout so that its lines come back into the basket.

    Stripe is asked first: if it was paid meanwhile, AlreadyPaid is raised and nothing is released.
    """
    attempt = _owned(order_id, shopper_id)
    if attempt.state == "open":
        _end_before_next(attempt.id, SHOPPER)


@retrying
def welcome_back(attempt_id: str, shopper_id: str | None) -> None:
    """The browser of this very shopper is back from paying: what the strategy keeps for this
    moment happens now, before anybody asks Stripe. A stranger's visit changes nothing.
    Safe to repeat."""
    with atomic():
        attempt = attempts.lock(attempt_id)
        if attempt and attempt.state == "open" and attempt.shopper_id == shopper_id:
            attempts.reach(attempt, Moment.RETURN, LANDING)


def found_at_stripe(session_id: str) -> str:
    """The checkout behind a session that is in none of our rows: our note of it was lost, or it
    is not ours. The address bar proves nothing, so Stripe is asked.

    Returns the attempt's id. Raises NotFound for a forged id, OrderReferenceMissing for a session
    that names no checkout, OrderDataMissing for one whose checkout is gone, and the Stripe errors.
    A payment that fits no checkout is an open exception by then. Safe to repeat.
    """
    try:
        facts = current_gateway().read_session(session_id, quick=True)
    except StripeRefused as refused:
        raise NotFound(
            Words("There is no such order. Check the link, or find your order by e-mail.")
        ) from refused
    named = next(fact.origin.attempt_id for fact in facts if isinstance(fact, (LegEnded, LegSeen)))
    if named is None:
        raise OrderReferenceMissing
    # Only what is final: how it stood is a mirror, taken of no row, and the page looks anyway.
    final = tuple(fact for fact in facts if not isinstance(fact, (LegSeen, SubscriptionSeen)))
    news = News("", "landing", session_id, named, facts=final)
    attempt_id = inbox.take(news, LANDING)
    if attempt_id is None:
        inbox.tell_unmatched(news)
        raise OrderDataMissing
    return attempt_id


def ask(attempt_id: str, cause: Cause = LANDING) -> bool:
    """The shopper is back: settle with a quick look at Stripe, 3 s at most.

    Says whether Stripe answered. Its silence is no error: the page says that we are confirming.
    """
    try:
        settle.settle(attempt_id, cause, look=True, quick=True)
    except ShopError as error:
        log.info("checkout.look_failed", attempt=attempt_id, error=error.code)
        return False
    return True


def _draft(
    shopper_id: str, contact: Contact, address: Address, delivery: str, code: str | None
) -> tuple[_Draft, CheckoutAttempt | None]:
    """What would be bought: the cart's lines plus those out with its open attempt."""
    with reading() as session:
        cart = session.scalar(select(Cart).where(Cart.shopper_id == shopper_id))
        if cart is None:
            raise EmptyCart
        current = session.scalar(
            select(CheckoutAttempt).where(
                CheckoutAttempt.cart_id == cart.id,
                CheckoutAttempt.state == "open",
                ~CheckoutAttempt.is_processing,
            )
        )
        items = session.scalars(select(CartItem).where(CartItem.cart_id == cart.id)).all()
        lines = _checked(items, cart.currency)
        if current and current.lines_out:
            lines = _merged(lines, list(map(_undiscounted, current.lines)))
        if not lines:
            raise EmptyCart
        chosen = DELIVERIES.get(delivery)
        if chosen is None or cart.currency not in chosen.prices:
            raise NotFound(Words("There is no such delivery."))
        if len(plans.rhythms(lines)) > 1:
            raise PlansDoNotMix([line["title"] for line in plans.recurring(lines)])
        pricing.must_be_taxable(lines)
        # Only what is bought once is sent for a price: a subscription includes its delivery.
        sends_once = any(not plans.recurs(line) for line in lines)
        shipping = chosen.prices[cart.currency] if sends_once else 0
        snapshot = {
            "lines": lines,
            "contact": asdict(contact),
            "address": asdict(address),
            "delivery": {
                "code": chosen.code,
                "label": chosen.label,
                "amount": shipping,
                "days": list(chosen.days) if chosen.days else None,
            },
        }
        draft = _Draft(
            cart_id=cart.id,
            currency=cart.currency,
            lines=tuple(lines),
            snapshot=snapshot,
            fingerprint=_fingerprint(snapshot, cart.currency, code),
            shipping=shipping,
            code=code,
        )
    if sum(draft.due.values()) > LARGEST_AMOUNT:
        raise TotalTooLarge
    return draft, current


def _checked(items: Any, currency: str) -> list[dict[str, Any]]:
    """Cart items as snapshot lines, at today's prices, which must be those the shopper saw."""
    lines, changed = [], []
    for item in items:
        product = item.product
        price = product.prices.get(currency)
        if not product.active or price is None:
            raise ProductUnavailable(product.title)
        if item.shown_currency == currency and item.shown_amount != price:
            changed.append(product.title)
        lines.append(
            {
                "product_id": product.id,
                "sku": product.sku,
                "title": product.title,
                "subtitle": product.subtitle,
                "picture": product.picture,
                "unit_amount": price,
                "quantity": item.quantity,
                **({"plan": product.plan} if product.plan else {}),
            }
        )
    if changed:
        raise PriceChanged(changed)
    return sorted(lines, key=lambda line: line["product_id"])


def _undiscounted(line: dict[str, Any]) -> dict[str, Any]:
    """A line as it was before a code and tax were added up for its checkout."""
    return {name: told for name, told in line.items() if name not in ("discount", "tax")}


def _merged(lines: list[dict[str, Any]], out: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged = {line["product_id"]: dict(line) for line in out}
    for line in lines:
        if line["product_id"] in merged:
            merged[line["product_id"]]["quantity"] += line["quantity"]
            merged[line["product_id"]]["unit_amount"] = line["unit_amount"]
            merged[line["product_id"]] |= {"plan": line["plan"]} if plans.recurs(line) else {}
        else:
            merged[line["product_id"]] = line
    return sorted(merged.values(), key=lambda line: line["product_id"])


def _fingerprint(snapshot: dict[str, Any], currency: str, code: str | None) -> str:
    told = [snapshot, currency, *([code.casefold()] if code else [])]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@retrying
def _record(shopper_id: str, draft: _Draft, priced: Priced, way: str) -> str:
    """Write attempt, order, leg and stock hold in one transaction, before Stripe is called."""
    settings = current_app.extensions["settings"]
    strategy, _ = shop_settings.strategy_for(draft.snapshot["contact"]["email"])
    with atomic() as session:
        cart = session.scalar(select(Cart).where(Cart.id == draft.cart_id).with_for_update())
        items = session.scalars(select(CartItem).where(CartItem.cart_id == draft.cart_id)).all()
        if cart is None or _checked(items, draft.currency) != list(draft.lines):
            raise _Changed
        attempt = snapshots.save(  # the one-open-attempt index speaks here, before stock is touched
            cart_id=cart.id,
            shopper_id=shopper_id,
            user_id=cart.user_id,
            strategy_name=strategy.name,
            payment_ui=way,
            fingerprint=draft.fingerprint,
            snapshot={**draft.snapshot, **priced.told, "lines": priced.lines},
            currency=draft.currency,
            language=language.spoken(),
            subtotal=priced.subtotal,
            discount=priced.discount,
            shipping=priced.shipping,
            tax=priced.tax,
            total=priced.total,
            tax_rates=priced.tax_rates,
            code=priced.code,
            deadline=now() + timedelta(minutes=settings.checkout_ttl_minutes),
            next_look_at=now() + timedelta(seconds=settings.reconcile_seconds),
        )
        history.moved(attempt.id, None, Status.PENDING_PAYMENT, CHECKOUT)
        session.add_all(legs.opening(attempt, []))
        attempts.reach(attempt, Moment.START, CHECKOUT)
        session.flush()
        stock.hold(attempt.lines)
    return attempt.id


def _same_page(attempt: CheckoutAttempt) -> PayPage:
    """The page that is open already, unless it was paid meanwhile and we have not heard of it."""
    answered = ask(attempt.id, CHECKOUT)
    with reading() as session:
        state = session.scalar(
            select(CheckoutAttempt.state).where(CheckoutAttempt.id == attempt.id)
        )
    if state == "settled":
        raise AlreadyPaid(attempt.id)
    return _page(attempt.id, may_open=answered)


def _page(attempt_id: str, *, may_open: bool = True) -> PayPage:
    """The payment page of an open attempt; opened at Stripe if that has not been answered yet
    (``may_open`` False: Stripe was silent a moment ago, do not let the shopper wait again)."""
    doors = _doors(attempt_id)
    for kind, door in doors.items():
        if door.state == LegState.CREATING:
            if not may_open:
                raise StripeUnavailable(UNREACHED)
            doors[kind] = legs.resolve(door) or _latest(door.id)
    if any(_is_withheld(door) for door in doors.values()):
        settle.settle(attempt_id, CHECKOUT, end=True)
        raise BillDiffers
    if any(door.state == LegState.REFUSED for door in doors.values()):
        settle.settle(attempt_id, CHECKOUT)  # gives stock and lines back
        code = _code_of(attempt_id)
        if code:
            raise CodeRefused(
                Words(
                    "The payment service does not take the code %(code)s for this order.", code=code
                )
            )
        raise StripeRefused(
            Words(
                "The payment service did not accept this order. Nothing was charged, and your "
                "basket is kept."
            )
        )
    usable = {
        kind: door
        for kind, door in doors.items()
        if door.state == LegState.OPEN and (door.url or door.client_secret)
    }
    if not usable:
        under_way = (LegState.COMPLETE, LegState.PROCESSING)
        if all(door.state in under_way for door in doors.values()):
            raise AlreadyPaid(attempt_id)
        raise CheckoutEnded
    saves, pays = usable.get(legs.SAVES_CARD), usable.get(legs.PAYS_ONCE)
    whole = usable.get(legs.PAYS_ALL)
    paid = whole or pays
    return PayPage(
        attempt_id,
        paid.url if paid else None,
        paid.client_secret if paid else None,
        saves.client_secret if saves else None,
        session_id=whole.session_id if whole else None,
        payment_intent=pays.stripe_id if pays else None,
    )


def _is_withheld(door: StripeLeg) -> bool:
    """Whether Stripe opened it and adds it up differently than we do."""
    has_a_way_in = door.url or door.client_secret
    return door.state == LegState.OPEN and not has_a_way_in and bool(door.last_error)


def _code_of(attempt_id: str) -> str | None:
    with reading() as session:
        return session.scalar(select(CheckoutAttempt.code).where(CheckoutAttempt.id == attempt_id))


def _doors(attempt_id: str) -> dict[str, StripeLeg]:
    """What an attempt can be paid through now, by kind: the legs of its newest opening."""
    with reading() as session:
        ours = session.scalars(
            select(StripeLeg)
            .where(
                StripeLeg.attempt_id == attempt_id,
                StripeLeg.is_ours,
                StripeLeg.kind != legs.PAYS_FIRST,
            )
            .order_by(StripeLeg.id)
        ).all()
    newest = ours[-1]
    kinds = (legs.PAYS_ALL,) if newest.kind == legs.PAYS_ALL else (legs.SAVES_CARD, legs.PAYS_ONCE)
    return {leg.kind: leg for leg in ours if leg.kind in kinds}


def _latest(leg_id: int) -> StripeLeg:
    with reading() as session:
        return session.scalars(select(StripeLeg).where(StripeLeg.id == leg_id)).one()


def _end_before_next(attempt_id: str, cause: Cause = SHOPPER) -> None:
    """Close an attempt at Stripe and then here, so that its lines and stock are free again."""
    settled = settle.settle(attempt_id, cause, end=True)
    if settled is None or settled.state == "settled":
        raise AlreadyPaid(attempt_id)


def _owned(order_id: str, shopper_id: str) -> CheckoutAttempt:
    """A shopper's own attempt; anybody else's does not exist for them."""
    with reading() as session:
        attempt = session.scalar(
            select(CheckoutAttempt).where(
                CheckoutAttempt.id == order_id, CheckoutAttempt.shopper_id == shopper_id
            )
        )
    if attempt is None:
        raise NotFound(Words("There is no such order."))
    return attempt
