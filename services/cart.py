"""The basket: sku and quantity come from the browser, everything else from us (rule R16)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from domain import plans
from domain.clock import now
from domain.errors import (
    BadQuantity,
    Conflict,
    OutOfStock,
    PlansDoNotMix,
    ProductUnavailable,
    UnknownProduct,
)
from domain.facts import LegState
from domain.words import Words
from extensions import atomic, db, insert_once, reading, retrying
from models import Cart, CartItem, CheckoutAttempt, Product, StripeLeg
from services import catalogue, settle
from services.attempts import MOST_PER_LINE
from services.causes import SHOPPER


@dataclass(frozen=True, slots=True)
class Line:
    """A line as a page shows it; amounts in minor units of the cart's currency."""

    product_id: int
    sku: str
    slug: str
    title: str
    subtitle: str
    picture: str
    quantity: int
    unit_amount: int
    shown_amount: int
    free: int
    plan: dict[str, Any] | None = None  # how it recurs, see domain.plans
    problem: str | None = None

    @property
    def as_snapshot(self) -> dict[str, Any]:
        """The line as a checkout would freeze it, for the rules of ``domain.plans``."""
        names = ("sku", "title", "unit_amount", "quantity", "plan")
        return {name: getattr(self, name) for name in names}

    @property
    def due_now(self) -> int:
        return plans.first_amount(self.as_snapshot)

    @property
    def price(self) -> int:
        """What it costs, each time."""
        return plans.price(self.as_snapshot)

    @property
    def price_changed(self) -> bool:
        return self.unit_amount != self.shown_amount


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unpaid checkout of this cart."""

    order_id: str
    lines: list[Line]
    took_lines: bool  # whether they have left the cart for it
    handed_over: bool  # whether the shopper was ever sent to the payment page


@dataclass(frozen=True, slots=True)
class Renewal:
    """What will be charged again: ``amount`` each time, ``first_at`` if it is bought now."""

    plan: dict[str, Any]
    amount: int
    first_at: datetime


@dataclass(frozen=True, slots=True)
class CartView:
    currency: str
    lines: list[Line] = field(default_factory=list)
    waiting: Waiting | None = None

    @property
    def count(self) -> int:
        return sum(line.quantity for line in self.lines)

    @property
    def subtotal(self) -> int:
        return amount_of(self.lines)

    @property
    def renewals(self) -> list[Renewal]:
        return renewals_of(self.lines)

    @property
    def ships_free(self) -> bool:
        return ship_free(self.lines)

    @property
    def clash(self) -> PlansDoNotMix | None:
        """Why what is to be bought cannot be paid for in one go, if it cannot."""
        lines = [line.as_snapshot for line in self.to_buy]
        if len(plans.rhythms(lines)) < 2:
            return None
        return PlansDoNotMix([line["title"] for line in plans.recurring(lines)])

    @property
    def price_changed(self) -> bool:
        return any(line.price_changed for line in self.lines)

    @property
    def to_buy(self) -> list[Line]:
        """What the next press of Pay buys: the cart's lines plus those out with its checkout."""
        if self.waiting is None or not self.waiting.took_lines:
            return self.lines
        here = {line.product_id: line for line in self.lines}
        out = {line.product_id: line for line in self.waiting.lines}
        both = {
            id_: dataclasses.replace(here[id_], quantity=here[id_].quantity + out[id_].quantity)
            for id_ in here.keys() & out.keys()
        }
        return list((out | here | both).values())

    @property
    def kept(self) -> list[Line]:
        """The cart's lines, and those of a checkout whose payment page never opened."""
        never_left = self.waiting is not None and not self.waiting.handed_over
        return self.to_buy if never_left else self.lines


class NoMoreLeft(OutOfStock):
    """What is left is in this very basket already."""

    def __init__(self, product: Product, free: int, in_basket: int) -> None:
        super().__init__(product.sku, product.title, max(free - in_basket, 0))
        self.message = (
            Words(
                "Only %(free)s of %(title)s left, and 1 of them is in your basket already.",
                free=free,
                title=product.title,
            )
            if in_basket == 1
            else Words(
                "Only %(free)s of %(title)s left, and %(mine)s of them are in your basket already.",
                free=free,
                title=product.title,
                mine=in_basket,
            )
        )


def amount_of(lines: Iterable[Line]) -> int:
    """What is due for them now, in minor units, without delivery."""
    return sum(line.due_now for line in lines)


def renewals_of(lines: Iterable[Line]) -> list[Renewal]:
    """What follows if these are bought now: one for each rhythm among them."""
    amounts: Counter[tuple[str, int, int]] = Counter()
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for line in lines:
        if line.plan:
            rhythm = plans.rhythm(line.plan)
            found.setdefault(rhythm, line.plan)
            amounts[rhythm] += line.price
    return [
        Renewal(plan, amounts[rhythm], plans.charged_next(plan, now()))
        for rhythm, plan in found.items()
    ]


def ship_free(lines: Iterable[Line]) -> bool:
    """Whether there is nothing among them that delivery is charged for."""
    return plans.ONCE not in plans.due_now([line.as_snapshot for line in lines], 0)


def view(shopper_id: str | None, currency: str) -> CartView:
    """The basket of a shopper, priced now in its currency. An empty one for a new shopper."""
    if shopper_id is None:
        return CartView(currency)
    with reading() as session:
        cart = session.scalar(select(Cart).where(Cart.shopper_id == shopper_id))
        if cart is None:
            return CartView(currency)
        items = session.scalars(
            select(CartItem).where(CartItem.cart_id == cart.id).order_by(CartItem.id)
        ).all()
        held = _held_for(cart)
        lines = [_line(item, cart.currency, held.get(item.product_id, 0)) for item in items]
        return CartView(cart.currency, lines, _waiting(cart))


def count(shopper_id: str | None) -> int:
    """Units in the basket, for the badge."""
    if shopper_id is None:
        return 0
    with reading() as session:
        return sum(
            session.scalars(
                select(CartItem.quantity).join(Cart).where(Cart.shopper_id == shopper_id)
            )
        )


@retrying
def add(shopper_id: str, sku: str, quantity: object, currency: str) -> None:
    """Put units in. Raises BadQuantity, UnknownProduct, ProductUnavailable, OutOfStock."""
    wanted = units(quantity)
    with atomic():
        cart = _cart(shopper_id, currency)
        product = _product(sku, cart.currency)
        item = _item(cart, product)
        in_basket = item.quantity if item else 0
        free = product.free + _held_for(cart).get(product.id, 0)
        if in_basket and in_basket + wanted > free:
            raise NoMoreLeft(product, free, in_basket)
        _must_fit(product, in_basket + wanted, free)
        _put(cart, product, item, in_basket + wanted)


@retrying
def change(shopper_id: str, sku: str, quantity: object, currency: str) -> None:
    """Set a line's quantity; 0 takes it out. Raises as ``add``."""
    if str(quantity).strip() == "0":
        remove(shopper_id, sku)
        return
    wanted = units(quantity)
    with atomic():
        cart = _cart(shopper_id, currency)
        product = _product(sku, cart.currency)
        _must_fit(product, wanted, product.free + _held_for(cart).get(product.id, 0))
        _put(cart, product, _item(cart, product), wanted)


@retrying
def remove(shopper_id: str, sku: str) -> tuple[str, int] | None:
    """Take a line out; returns (title, quantity) for an undo, or None if it was not there."""
    with atomic() as session:
        item = session.scalar(
            select(CartItem)
            .join(Cart)
            .join(Product)
            .where(Cart.shopper_id == shopper_id, Product.sku == sku)
            .with_for_update(of=Cart)
        )
        if item is None:
            return None
        undo = (item.product.title, item.quantity)
        session.delete(item)
        return undo


def replace(shopper_id: str, items: list[tuple[str, object]], currency: str) -> None:
    """Make these the only lines (sku, quantity). All or nothing. Raises as ``add``.

    An open checkout of exactly these lines goes on, so that asking twice opens one payment page.
    One of other lines is ended first, at Stripe and then here: raises Conflict if it was paid
    meanwhile, StripeError if Stripe does not answer.
    """
    wanted: Counter[str] = Counter()
    for sku, quantity in items:
        wanted[catalogue.by_sku(sku).sku] += units(quantity)
    current = _checkout_of(shopper_id)
    if current:
        same = wanted == {line["sku"]: line["quantity"] for line in current.lines}
        if same and current.lines_out:
            wanted.clear()
        elif not same:
            settled = settle.settle(current.id, SHOPPER, end=True)
            if settled and settled.state == "settled":
                raise Conflict(Words("Your last checkout was paid. Look at your orders first."))
    _fill(shopper_id, wanted, currency)


@retrying
def _fill(shopper_id: str, wanted: Counter[str], currency: str) -> None:
    with atomic() as session:
        cart = _cart(shopper_id, currency)
        session.execute(delete(CartItem).where(CartItem.cart_id == cart.id))
        held = _held_for(cart)
        for sku, quantity in wanted.items():
            product = _product(sku, cart.currency)
            _must_fit(product, quantity, product.free + held.get(product.id, 0))
            _put(cart, product, None, quantity)


@retrying
def accept_prices(shopper_id: str) -> None:
    """The shopper has seen the present prices and goes on with them."""
    with atomic() as session:
        cart = session.scalar(select(Cart).where(Cart.shopper_id == shopper_id).with_for_update())
        if cart is None:
            return
        for item in session.scalars(select(CartItem).where(CartItem.cart_id == cart.id)):
            item.shown_amount = item.product.prices.get(cart.currency, item.shown_amount)
            item.shown_currency = cart.currency


@retrying
def choose_currency(shopper_id: str, currency: str) -> None:
    """Price the basket in another currency; lines without a price in it say so on the page."""
    with atomic() as session:
        cart = _cart(shopper_id, currency)
        cart.currency = currency
        for item in session.scalars(select(CartItem).where(CartItem.cart_id == cart.id)):
            if currency in item.product.prices:
                item.shown_amount = item.product.prices[currency]
                item.shown_currency = currency


def units(quantity: object) -> int:
    """A whole number from 1 to 99, however the browser wrote it. Raises BadQuantity."""
    text = str(quantity).strip() if not isinstance(quantity, bool | float) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise BadQuantity(MOST_PER_LINE)
    if not 1 <= int(text) <= MOST_PER_LINE:
        raise BadQuantity(MOST_PER_LINE)
    return int(text)


def _cart(shopper_id: str, currency: str) -> Cart:
    moment = now()
    insert_once(
        Cart, shopper_id=shopper_id, currency=currency, created_at=moment, updated_at=moment
    )
    cart = db.session.scalar(select(Cart).where(Cart.shopper_id == shopper_id).with_for_update())
    assert cart is not None
    cart.updated_at = moment
    return cart


def _product(sku: str, currency: str) -> Product:
    product = db.session.scalar(select(Product).where(Product.sku == sku))
    if product is None:
        raise UnknownProduct(sku)
    if not product.active:
        raise ProductUnavailable(product.title)
    if currency not in product.prices:
        raise ProductUnavailable(product.title, currency)
    return product


def _item(cart: Cart, product: Product) -> CartItem | None:
    return db.session.scalar(
        select(CartItem).where(CartItem.cart_id == cart.id, CartItem.product_id == product.id)
    )


def _held_for(cart: Cart) -> dict[int, int]:
    """Units that an open checkout holds for lines that are still in this cart: free for this
    shopper, though for nobody else."""
    snapshot = db.session.scalar(
        select(CheckoutAttempt.snapshot).where(
            CheckoutAttempt.cart_id == cart.id,
            CheckoutAttempt.state == "open",
            ~CheckoutAttempt.is_processing,
            ~CheckoutAttempt.lines_out,
        )
    )
    lines = snapshot["lines"] if snapshot else []
    return {line["product_id"]: line["quantity"] for line in lines}


def _must_fit(product: Product, quantity: int, free: int) -> None:
    """``free`` is what this shopper may have of it."""
    if quantity > MOST_PER_LINE:
        raise BadQuantity(MOST_PER_LINE)
    if quantity > free:
        raise OutOfStock(product.sku, product.title, free)


def _put(cart: Cart, product: Product, item: CartItem | None, quantity: int) -> None:
    if item is None:
        item = CartItem(cart_id=cart.id, product_id=product.id)
        db.session.add(item)
    item.quantity = quantity
    item.shown_amount = product.prices[cart.currency]
    item.shown_currency = cart.currency


def _line(item: CartItem, currency: str, held: int) -> Line:
    product = item.product
    price = product.prices.get(currency)
    problem = None
    if not product.active:
        problem = Words("No longer for sale. Remove it to go on.")
    elif price is None:
        problem = Words(
            "Not sold in %(currency)s. Choose another currency, or remove it to go on.",
            currency=currency.upper(),
        )
    elif (free := product.free + held) < item.quantity:
        problem = Words("Only %(free)s left.", free=free) if free > 0 else Words("Sold out.")
    unit_amount = price if price is not None else item.shown_amount
    shown = item.shown_amount if item.shown_currency == currency else unit_amount
    return _shown(product, item.quantity, unit_amount, shown, product.plan, problem, held)


def _shown(
    product: Product,
    quantity: int,
    unit_amount: int,
    shown: int,
    plan: dict[str, Any] | None,
    problem: str | None = None,
    held: int = 0,
) -> Line:
    return Line(
        product_id=product.id,
        sku=product.sku,
        slug=product.slug,
        title=product.title,
        subtitle=product.subtitle,
        picture=product.picture,
        quantity=quantity,
        unit_amount=unit_amount,
        shown_amount=shown,
        free=product.free + held,
        plan=plan,
        problem=problem,
    )


def _checkout_of(shopper_id: str) -> CheckoutAttempt | None:
    with reading() as session:
        return session.scalar(
            select(CheckoutAttempt)
            .join(Cart, Cart.id == CheckoutAttempt.cart_id)
            .where(
                Cart.shopper_id == shopper_id,
                CheckoutAttempt.state == "open",
                ~CheckoutAttempt.is_processing,
            )
        )


def _waiting(cart: Cart) -> Waiting | None:
    found = db.session.execute(
        select(CheckoutAttempt, StripeLeg.state)
        .join(StripeLeg, StripeLeg.attempt_id == CheckoutAttempt.id)
        .where(
            CheckoutAttempt.cart_id == cart.id,
            CheckoutAttempt.state == "open",
            ~CheckoutAttempt.is_processing,
            StripeLeg.state.in_((LegState.CREATING, LegState.OPEN)),
        )
        .order_by(StripeLeg.id.desc())
    ).first()
    if found is None:
        return None
    attempt, leg_state = found
    lines = [_out(line, attempt.currency, cart.currency) for line in attempt.lines]
    return Waiting(attempt.id, lines, attempt.lines_out, handed_over=leg_state == LegState.OPEN)


def _out(line: dict[str, Any], frozen_in: str, currency: str) -> Line:
    """A line of a checkout: its plan is frozen, its price only in that checkout's currency."""
    product = db.session.get_one(Product, line["product_id"])
    price = product.prices.get(currency, 0)
    unit_amount = line["unit_amount"] if frozen_in == currency else price
    return _shown(product, line["quantity"], unit_amount, unit_amount, line.get("plan"))
