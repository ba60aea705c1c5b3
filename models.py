"""All tables. Columns, constraints and one-line readers; what the shop *does* lives in services.

Money is integer minor units, times are UTC and timezone-aware, Stripe's ids are kept as they come.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    Sequence,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from domain import plans
from domain.bills import Bill, included
from domain.clock import now
from domain.facts import LegState
from domain.roles import ASKED_FOR_SECOND_FACTOR, NOBODY
from domain.strategies import STRATEGIES, Strategy
from domain.transitions import PAID_STATUSES, LegView, PaymentStatus, Status
from extensions import Base, db

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model  # the same class, with the tables bound to this app's engine


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC on every database; SQLite itself would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
Plan = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Id = String(36)  # our random UUIDs
StripeId = String(255)
Currency = String(3)


def _newest_of(name: str, condition: str) -> Index:
    """An index of some orders by when they were placed."""
    some = text(condition)
    return Index(name, "created_at", "id", postgresql_where=some, sqlite_where=some)


class Product(Model):
    """Something for sale, with its stock; prices are ``{"eur": 1800}`` in minor units."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("0 <= held AND held <= on_hand", name="held_within_on_hand"),
        CheckConstraint("sold >= 0", name="sold_not_negative"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(64), unique=True)
    slug: Mapped[str] = mapped_column(String(80), unique=True)
    title: Mapped[str] = mapped_column(String(120))
    subtitle: Mapped[str] = mapped_column(String(160), default="")
    description: Mapped[str] = mapped_column(Text, default="")
    category: Mapped[str] = mapped_column(String(60), default="", index=True)
    picture: Mapped[str] = mapped_column(String(60), default="")
    prices: Mapped[dict[str, int]] = mapped_column(Json)
    interval: Mapped[str | None] = mapped_column(String(8))  # day, week, month, year: it recurs
    interval_count: Mapped[int] = mapped_column(default=1, server_default="1")
    trial_days: Mapped[int] = mapped_column(default=0, server_default="0")
    active: Mapped[bool] = mapped_column(default=True)
    on_hand: Mapped[int] = mapped_column(default=0)
    held: Mapped[int] = mapped_column(default=0)
    sold: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def free(self) -> int:
        return self.on_hand - self.held

    @property
    def plan(self) -> dict[str, Any] | None:
        """How it recurs, as a line of a checkout says it; None for what is bought once."""
        return plans.plan(self.interval, self.interval_count, self.trial_days)


class StockMovement(Model):
    """Why stock rose or fell other than by a sale; ``initial + received = on_hand + sold``."""

    __tablename__ = "stock_movements"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))  # initial, received, restocked
    quantity: Mapped[int]
    reason: Mapped[str] = mapped_column(String(200), default="")
    order_id: Mapped[str | None] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(String(120), default="")
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class User(Model):
    """A person with an account: somebody of the shop, or a shopper known to Stripe as a customer.

    ``totp_pending`` is a second factor that is being set up; ``totp_step`` the step of the last
    code that counted, ``totp_misses`` how many wrong ones came since; of ``recovery_codes`` only
    hashes are kept.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(120), default="")
    role: Mapped[str] = mapped_column(String(16), default=NOBODY)  # or one of ``domain.roles``
    stripe_customer_id: Mapped[str | None] = mapped_column(StripeId, unique=True)
    session_version: Mapped[int] = mapped_column(default=1)  # of release 0.1; nothing reads it
    password_hash: Mapped[str | None] = mapped_column(String(200))
    password_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    totp_secret: Mapped[str | None] = mapped_column(String(64))
    totp_pending: Mapped[str | None] = mapped_column(String(64))
    totp_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    totp_step: Mapped[int] = mapped_column(default=0, server_default="0")
    totp_misses: Mapped[int] = mapped_column(default=0, server_default="0")
    recovery_codes: Mapped[list[str]] = mapped_column(Json, default=list, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def is_asked_for_second_factor(self) -> bool:
        return self.role in ASKED_FOR_SECOND_FACTOR and self.totp_secret is None


class AdminSession(Model):
    """Somebody of the shop, signed in at one browser. ``id`` is a hash of what its cookie says."""

    __tablename__ = "admin_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    way: Mapped[str] = mapped_column(String(8))  # link, password
    agent: Mapped[str] = mapped_column(String(80), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)  # to a few minutes
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SignInLink(Model):
    """A mailed link that signs a shopper in once; the mail carries its signed id."""

    __tablename__ = "sign_in_links"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), index=True)  # lower-case
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


class ShopperSession(Model):
    """A browser that sees every order of an address, because its owner has read our mail there.
    ``id`` is a hash of what its cookie says."""

    __tablename__ = "shopper_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), index=True)  # lower-case
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)  # to an hour
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Cart(Model):
    """What one shopper has collected; a shopper is a random id in a signed cookie."""

    __tablename__ = "carts"

    id: Mapped[int] = mapped_column(primary_key=True)
    shopper_id: Mapped[str] = mapped_column(Id, unique=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    currency: Mapped[str] = mapped_column(Currency, default="eur")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


class CartItem(Model):
    """One line. ``shown_amount`` is the unit price the shopper saw when the line was put in."""

    __tablename__ = "cart_items"
    __table_args__ = (
        UniqueConstraint("cart_id", "product_id"),
        CheckConstraint("quantity >= 1", name="quantity_positive"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    cart_id: Mapped[int] = mapped_column(ForeignKey("carts.id", ondelete="CASCADE"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    shown_amount: Mapped[int]
    shown_currency: Mapped[str] = mapped_column(Currency)
    product: Mapped[Product] = relationship(lazy="joined", innerjoin=True)


class CheckoutAttempt(Model):
    """One try to buy what is in a cart; its id is the order's id and all that Stripe is told.

    ``snapshot`` is ``{"lines": [{product_id, sku, title, subtitle, picture, unit_amount,
    quantity, plan?, discount?, tax?}], "contact": {name, email, phone}, "address": {…},
    "delivery": {code, label, amount}, "promotion"?, "calculation"?}``; all but its lines is gone
    once ``purged_at`` is set. ``tax_rates`` are ``[{name, percent, country, inclusive, taxable,
    amount}]``, as Stripe found them out.
    """

    __tablename__ = "checkout_attempts"
    __table_args__ = (
        Index(
            "one_open_attempt_per_cart",
            "cart_id",
            unique=True,
            postgresql_where=text("state = 'open' AND NOT is_processing"),
            sqlite_where=text("state = 'open' AND NOT is_processing"),
        ),
        Index(
            "open_attempts_by_deadline",
            "deadline",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index(
            "attempts_to_purge",
            "closed_at",
            postgresql_where=text("purged_at IS NULL AND closed_at IS NOT NULL"),
            sqlite_where=text("purged_at IS NULL AND closed_at IS NOT NULL"),
        ),
        Index("tombstones", "purged_at"),
        Index("attempts_newest_first", "created_at"),
        Index(
            "attempts_by_customer",
            "stripe_customer",
            postgresql_where=text("stripe_customer IS NOT NULL"),
            sqlite_where=text("stripe_customer IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    cart_id: Mapped[int | None] = mapped_column(ForeignKey("carts.id", ondelete="SET NULL"))
    shopper_id: Mapped[str] = mapped_column(Id, index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    strategy_name: Mapped[str] = mapped_column("strategy", String(16))
    payment_ui: Mapped[str] = mapped_column(String(16), default="hosted")  # embedded, elements
    fingerprint: Mapped[str] = mapped_column(String(64))
    snapshot: Mapped[dict[str, Any]] = mapped_column(Json)
    currency: Mapped[str] = mapped_column(Currency)
    language: Mapped[str] = mapped_column(String(8), default="en", server_default="en")
    subtotal: Mapped[int]
    discount: Mapped[int] = mapped_column(default=0, server_default="0")
    shipping: Mapped[int]
    tax: Mapped[int] = mapped_column(default=0, server_default="0")  # on top of the prices
    total: Mapped[int]  # what is due now, minor units; ``subtotal`` counts a trial as nothing
    tax_rates: Mapped[list[dict[str, Any]] | None] = mapped_column(Plan)  # None: not found out
    code: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(8), default="open")  # open, settled, closed
    status: Mapped[str] = mapped_column(String(24), default=Status.PENDING_PAYMENT)
    is_processing: Mapped[bool] = mapped_column(default=False)
    hold: Mapped[str] = mapped_column(String(8), default="held")  # held, sold, released
    lines_out: Mapped[bool] = mapped_column(default=False)  # whether its lines have left the cart
    deadline: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # settled or given up
    purged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # on the person's request
    stripe_customer: Mapped[str | None] = mapped_column(StripeId)  # who saves a card in it
    next_look_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # by the reconciler
    failed_looks: Mapped[int] = mapped_column(default=0, server_default="0")  # in a row

    @property
    def strategy(self) -> Strategy:
        return STRATEGIES[self.strategy_name]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return self.snapshot["lines"]

    @property
    def bill(self) -> Bill:
        """What Stripe is to say that it costs."""
        all_tax = self.tax + included(self.tax_rates)
        before = self.subtotal + self.shipping
        return Bill(before, self.discount, all_tax, self.total, self.currency)

    @property
    def email(self) -> str | None:
        return self.snapshot.get("contact", {}).get("email")


class StripeLeg(Model):
    """What the shopper can pay through or save a card with. ``id`` orders the legs of an attempt.

    One that is still ``creating`` and has no ``asked_at`` is only owed: Stripe was never asked.
    """

    __tablename__ = "stripe_legs"
    __table_args__ = (
        Index(
            "one_live_leg_of_a_kind",
            "attempt_id",
            "kind",
            "part",
            unique=True,
            postgresql_where=text("state IN ('creating', 'open') AND is_ours"),
            sqlite_where=text("state IN ('creating', 'open') AND is_ours"),
        ),
        Index(
            "live_legs",
            "attempt_id",
            postgresql_where=text("state IN ('creating', 'open', 'processing')"),
            sqlite_where=text("state IN ('creating', 'open', 'processing')"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("checkout_attempts.id"), index=True)
    stripe_id: Mapped[str | None] = mapped_column(StripeId, unique=True)
    payment_intent: Mapped[str | None] = mapped_column(StripeId, index=True)
    kind: Mapped[str] = mapped_column(String(16), default="session")  # see ``services.legs``
    part: Mapped[str] = mapped_column(String(64), default="", server_default="")  # its line's sku
    is_ours: Mapped[bool] = mapped_column(default=True)  # False: found at Stripe, not opened by us
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(Currency)
    state: Mapped[str] = mapped_column(String(12), default=LegState.CREATING)
    url: Mapped[str | None] = mapped_column(Text)
    client_secret: Mapped[str | None] = mapped_column(StripeId)  # opens it in the browser
    failure: Mapped[str | None] = mapped_column(String(80))
    idempotency_key: Mapped[str | None] = mapped_column(StripeId)
    parameters: Mapped[dict[str, Any] | None] = mapped_column(Json)
    previous_id: Mapped[int | None] = mapped_column(ForeignKey("stripe_legs.id"))
    last_error: Mapped[str | None] = mapped_column(Text)
    deadline: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(default=1)  # raised by every change; guards mirrors
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def session_id(self) -> str | None:
        return self.stripe_id if self.kind == "session" else None

    @property
    def view(self) -> LegView:
        state = LegState(self.state)
        if self.kind == "invoice" and state is LegState.REFUSED:
            state = LegState.FAILED  # the shopper had done their part, and is told
        return LegView(state, self.failure, saves_card=self.kind == "setup_intent")


class Payment(Model):
    """Money that moved, known by its PaymentIntent whichever way the news came."""

    __tablename__ = "payments"
    __table_args__ = (
        Index(
            "one_settling_payment_per_part",
            "attempt_id",
            "part",
            unique=True,
            postgresql_where=text("role = 'settles'"),
            sqlite_where=text("role = 'settles'"),
        ),
        Index("payments_by_last4", text("substr(method, length(method) - 3)")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    payment_intent: Mapped[str] = mapped_column(StripeId, unique=True)
    attempt_id: Mapped[str | None] = mapped_column(ForeignKey("checkout_attempts.id"), index=True)
    leg_id: Mapped[int | None] = mapped_column(ForeignKey("stripe_legs.id"))
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(Currency)
    state: Mapped[str] = mapped_column(String(16), default="succeeded")
    role: Mapped[str] = mapped_column(String(10))  # settles, surplus, renewal, mismatch, foreign
    part: Mapped[str] = mapped_column(String(64), default="", server_default="")  # what it is for
    invoice: Mapped[str | None] = mapped_column(
        StripeId, index=True
    )  # of a subscription, which it paid
    method: Mapped[str | None] = mapped_column(String(60))
    charge_id: Mapped[str | None] = mapped_column(StripeId, index=True)
    lane: Mapped[str] = mapped_column(String(16))  # who brought the news: webhook, landing, sync…
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)  # when we learned of it


class Order(Model):
    """The row the shopper and the admin see. ``id`` is the id of its attempt."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("orders_newest_first", "created_at", "id"),
        Index("orders_of_an_address", text("lower(email)"), "created_at"),
        Index(
            "orders_waiting",
            "created_at",
            postgresql_where=text("status = 'pending_payment'"),
            sqlite_where=text("status = 'pending_payment'"),
        ),
        # Views of the counter's list. On PostgreSQL a part of a name or of an e-mail address is
        # found by its trigrams; those indexes are made by a migration alone.
        _newest_of("orders_to_ship", "status IN ('payment_confirmed', 'awaiting_shipment')"),
        _newest_of("orders_refunded", "refunded > 0"),
        _newest_of("orders_never_paid", "status IN ('cancelled', 'expired') AND paid_at IS NULL"),
        Index("orders_by_payment", "payment_status", "created_at", "id"),
        Index("orders_by_total", "total", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    checkout_attempt_id: Mapped[str | None] = mapped_column(
        ForeignKey("checkout_attempts.id"), unique=True
    )
    number: Mapped[int] = mapped_column(
        Integer, Sequence("order_numbers", start=10001), unique=True
    )
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    shopper_id: Mapped[str | None] = mapped_column(Id, index=True)
    strategy: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(
        String(24), default=Status.PENDING_PAYMENT, server_default=Status.PENDING_PAYMENT
    )
    payment_status: Mapped[str] = mapped_column(String(24), default=PaymentStatus.PENDING)
    failure_reason: Mapped[str | None] = mapped_column(String(80))
    is_provisional: Mapped[bool] = mapped_column(default=False)
    provisional_created_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sync_status: Mapped[str] = mapped_column(String(8), default="syncing")
    sync_attempts: Mapped[int] = mapped_column(default=0)
    last_sync_attempt: Mapped[datetime | None] = mapped_column(UtcDateTime)
    currency: Mapped[str] = mapped_column(Currency)
    subtotal: Mapped[int]
    discount: Mapped[int] = mapped_column(default=0)
    shipping: Mapped[int] = mapped_column(default=0)
    tax: Mapped[int] = mapped_column(default=0)
    total: Mapped[int]
    tax_rates: Mapped[list[dict[str, Any]] | None] = mapped_column(Plan)  # see CheckoutAttempt
    code: Mapped[str | None] = mapped_column(String(64))
    refunded: Mapped[int] = mapped_column(default=0)
    name: Mapped[str | None] = mapped_column(String(120))
    email: Mapped[str | None] = mapped_column(String(254), index=True)
    phone: Mapped[str | None] = mapped_column(String(40))
    language: Mapped[str] = mapped_column(String(8), default="en", server_default="en")  # of mails
    address: Mapped[dict[str, Any] | None] = mapped_column(Json)
    delivery: Mapped[dict[str, Any] | None] = mapped_column(Json)
    payment_intent: Mapped[str | None] = mapped_column(StripeId, index=True)
    paid_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paid_lane: Mapped[str | None] = mapped_column(String(16))
    locked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # lines and prices are final
    link_version: Mapped[int] = mapped_column(default=1)  # raising it revokes the order's links
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)
    items: Mapped[list[OrderItem]] = relationship(order_by="OrderItem.id", lazy="select")

    @property
    def is_paid(self) -> bool:
        return self.status in PAID_STATUSES

    @property
    def tax_included(self) -> int:
        """The tax that is in the prices; ``tax`` is what came on top of them."""
        return included(self.tax_rates)

    @property
    def shipping_tax(self) -> int:
        """What of the tax on top is the parcel's."""
        return self.tax - sum(item.tax for item in self.items)


class OrderItem(Model):
    """A line of an order, as it was bought."""

    __tablename__ = "order_items"
    __table_args__ = (Index("items_by_sku", "sku", "order_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("products.id"))
    sku: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(120))
    subtitle: Mapped[str] = mapped_column(String(160), default="")
    picture: Mapped[str] = mapped_column(String(60), default="")
    unit_amount: Mapped[int]
    quantity: Mapped[int]
    discount: Mapped[int] = mapped_column(default=0, server_default="0")
    tax: Mapped[int] = mapped_column(default=0, server_default="0")  # on top of what is left
    plan: Mapped[dict[str, Any] | None] = mapped_column(Plan)  # how it recurs, see domain.plans
    state: Mapped[str] = mapped_column(String(16), default="active")  # see domain.transitions

    @property
    def amount(self) -> int:
        """What is due for it now at its price; a trial costs nothing yet."""
        return 0 if self.plan and self.plan["trial_days"] else self.price

    @property
    def paid(self) -> int:
        """What is due for it now, after its discount and with its tax."""
        return self.amount - (self.discount or 0) + (self.tax or 0)

    @property
    def price(self) -> int:
        return self.unit_amount * self.quantity


class Counter(Model):
    """The last number that was given; its row is locked by whoever takes the next one."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    last: Mapped[int] = mapped_column(default=0)


class Invoice(Model):
    """The number of an order's invoice, given when it was paid; there is no gap between them.
    ``seller`` is who the shop was then: ``{name, address, vat_id, registration}``."""

    __tablename__ = "invoices"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), unique=True)
    seller: Mapped[dict[str, Any] | None] = mapped_column(Json)
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Subscription(Model):
    """A line that recurs, as Stripe runs it. One row per line of an attempt; lines that were paid
    for on one payment page share Stripe's subscription. A mirror: ``version`` guards it."""

    __tablename__ = "subscriptions"
    __table_args__ = (UniqueConstraint("checkout_attempt_id", "part"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    checkout_attempt_id: Mapped[str | None] = mapped_column(
        ForeignKey("checkout_attempts.id"), index=True
    )
    part: Mapped[str] = mapped_column(String(64))  # the sku of its line
    stripe_id: Mapped[str] = mapped_column(StripeId, index=True)
    stripe_item: Mapped[str | None] = mapped_column(StripeId)
    stripe_price: Mapped[str | None] = mapped_column(StripeId)
    stripe_customer: Mapped[str | None] = mapped_column(StripeId)
    title: Mapped[str] = mapped_column(String(120))
    unit_amount: Mapped[int]
    quantity: Mapped[int]
    currency: Mapped[str] = mapped_column(Currency)
    interval: Mapped[str] = mapped_column(String(8))
    interval_count: Mapped[int] = mapped_column(default=1)
    status: Mapped[str] = mapped_column(String(24))  # Stripe's
    period_end: Mapped[datetime | None] = mapped_column(UtcDateTime)
    trial_end: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    latest_invoice: Mapped[str | None] = mapped_column(StripeId, index=True)
    pay_url: Mapped[str | None] = mapped_column(Text)  # where its unpaid invoice can be paid
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def price(self) -> int:
        """Of one period, in minor units."""
        return self.unit_amount * self.quantity


class Refund(Model):
    """One refund at Stripe; a row without Stripe's id has been asked for and never counts."""

    __tablename__ = "refunds"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    stripe_id: Mapped[str | None] = mapped_column(StripeId, unique=True)
    payment_intent: Mapped[str] = mapped_column(StripeId, index=True)
    order_id: Mapped[str | None] = mapped_column(Id, index=True)
    amount: Mapped[int | None]  # None until Stripe said how much was left of a surplus
    currency: Mapped[str | None] = mapped_column(Currency)
    state: Mapped[str] = mapped_column(String(16), default="asked")  # then Stripe's, or refused
    reason: Mapped[str] = mapped_column(String(200), default="")
    generation: Mapped[int] = mapped_column(default=1)  # of the idempotency key
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Dispute(Model):
    """A payment that the shopper's bank disputes. A mirror: ``version`` guards it."""

    __tablename__ = "disputes"

    id: Mapped[int] = mapped_column(primary_key=True)
    stripe_id: Mapped[str] = mapped_column(StripeId, unique=True)
    payment_intent: Mapped[str] = mapped_column(StripeId, index=True)
    order_id: Mapped[str | None] = mapped_column(Id, index=True)
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(Currency)
    status: Mapped[str] = mapped_column(String(32))  # Stripe's
    reason: Mapped[str] = mapped_column(String(60))
    due_by: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(default=1)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Shipment(Model):
    """A parcel that left the house; ``lines`` are ``[{item, sku, title, quantity}]``, where
    ``item`` is the id of the order's line."""

    __tablename__ = "shipments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    carrier: Mapped[str] = mapped_column(String(60))
    tracking: Mapped[str] = mapped_column(String(120), default="")
    lines: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    actor: Mapped[str] = mapped_column(String(120))
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class OrderEvent(Model):
    """History. Replaying the ``transition`` rows of an order gives its present status.

    ``order_id`` is no foreign key: the history begins with the attempt, whose id it is, and some
    strategies give birth to the order row later.
    """

    __tablename__ = "order_events"
    __table_args__ = (
        Index(
            "acts_of_people",
            "at",
            postgresql_where=text("actor <> ''"),
            sqlite_where=text("actor <> ''"),
        ),
        Index(
            "notes_by_order",
            "order_id",
            postgresql_where=text("kind = 'note'"),
            sqlite_where=text("kind = 'note'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(Id, index=True)
    kind: Mapped[str] = mapped_column(String(12))  # transition, payment, refund, parcel, …
    from_status: Mapped[str | None] = mapped_column(String(24))
    to_status: Mapped[str | None] = mapped_column(String(24))
    cause: Mapped[str] = mapped_column(String(16))  # the lane
    actor: Mapped[str] = mapped_column(String(120), default="")
    stripe_event_id: Mapped[str | None] = mapped_column(StripeId)
    detail: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class StripeEvent(Model):
    """The inbox of verified webhook events; the unique id is what makes them count once."""

    __tablename__ = "stripe_events"
    __table_args__ = (
        Index(
            "inbox_waiting",
            "next_at",
            postgresql_where=text("state = 'new'"),
            sqlite_where=text("state = 'new'"),
        ),
        Index("inbox_newest_first", "received_at", "id"),
        Index(
            "early_events",
            "payment_intent",
            postgresql_where=text("state = 'ignored' AND payment_intent IS NOT NULL"),
            sqlite_where=text("state = 'ignored' AND payment_intent IS NOT NULL"),
        ),
        Index(
            "dead_events",
            "received_at",
            postgresql_where=text("state = 'dead'"),
            sqlite_where=text("state = 'dead'"),
        ),
    )

    id: Mapped[str] = mapped_column(StripeId, primary_key=True)  # Stripe's evt_…
    type: Mapped[str] = mapped_column(String(80))
    object_id: Mapped[str | None] = mapped_column(StripeId, index=True)
    attempt_id: Mapped[str | None] = mapped_column(Id, index=True)  # known once applied
    payment_intent: Mapped[str | None] = mapped_column(StripeId)  # of one that nobody knew yet
    api_version: Mapped[str | None] = mapped_column(String(40))
    livemode: Mapped[bool]
    payload: Mapped[str] = mapped_column(Text)  # as it came
    lane: Mapped[str] = mapped_column(String(16), default="webhook")  # or sync
    state: Mapped[str] = mapped_column(String(8), default="new")  # new, done, ignored, dead
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    applied_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    work_ms: Mapped[int | None]  # of its last try, what was asked of Stripe for it included


class OutboxMessage(Model):
    """An effect that is owed to the world: mail, refund. ``kind`` and ``key`` make it one."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("kind", "key"),
        Index(
            "outbox_waiting",
            "next_at",
            postgresql_where=text("state = 'new'"),
            sqlite_where=text("state = 'new'"),
        ),
        Index(
            "dead_effects",
            "created_at",
            postgresql_where=text("state = 'dead'"),
            sqlite_where=text("state = 'dead'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(24))
    key: Mapped[str] = mapped_column(StripeId)
    order_id: Mapped[str | None] = mapped_column(Id, index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    state: Mapped[str] = mapped_column(String(8), default="new")  # new, done, dead
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    error: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    done_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ShopException(Model):
    """Money or goods that need a person; one per type and Stripe object.

    Once ``resolved``: ``how`` says whether it ``healed`` by itself (by the object ``healed_by``),
    was ``seen_to`` by a person or ``tried`` again; ``resolution`` what healed it, or the note.
    """

    __tablename__ = "exceptions"
    __table_args__ = (
        UniqueConstraint("type", "stripe_id"),
        Index("exceptions_by_age", "opened_at"),
        Index(
            "resolved_exceptions",
            "resolved_at",
            "id",
            postgresql_where=text("state = 'resolved'"),
            sqlite_where=text("state = 'resolved'"),
        ),
        Index(
            "open_exceptions",
            "opened_at",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(32), index=True)
    stripe_id: Mapped[str] = mapped_column(StripeId)
    order_id: Mapped[str | None] = mapped_column(Id, index=True)
    amount: Mapped[int | None]
    currency: Mapped[str | None] = mapped_column(Currency)
    detail: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(10), default="open")  # open, resolved
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    how: Mapped[str | None] = mapped_column(String(8))  # healed, seen_to, tried
    resolution: Mapped[str | None] = mapped_column(Text)
    resolved_by: Mapped[str | None] = mapped_column(String(254))  # nobody, where it healed
    healed_by: Mapped[str | None] = mapped_column(StripeId)


class Setting(Model):
    """Small facts that change at run time: leases, heartbeats, cursors, one-time links."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[Any] = mapped_column(Json)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)  # the end of a lease
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)


class AuditEntry(Model):
    """What an admin did."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    actor: Mapped[str] = mapped_column(String(254))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(StripeId, default="")
    detail: Mapped[str] = mapped_column(Text, default="")
