"""One shop and one little Stripe on a stage, made afresh for each seed and quickly so."""

from __future__ import annotations

import gc
import random
import sqlite3
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.exc import SAWarning

from app import create_app
from config import Settings, demo_settings
from domain import clock as shop_clock
from domain.strategies import STRATEGIES
from extensions import db, doorbell
from gateway.facts import FOLLOWED_TYPES
from sandbox.api import discounts
from services import catalogue, reconcile, settings
from storm.bell import Bell
from storm.stage import Clock, Stage
from storm.watch import WATCH, WatchedStripe, attempt_of
from storm.wire import Wire

WEBHOOK_SECRET = "whsec_storm_storm_storm"  # noqa: S105 - between this shop and this sandbox
TTL_MINUTES = 31  # the shortest that Stripe allows: deadlines come soon
ALL_TYPES_EVERY = 5  # each so many seeds the endpoint listens to every type of event
HOLD_S = 45.0  # how long a storm's shopper waits for a page

# Few of some things, so that shoppers race for them; plenty of others; and one that costs nothing.
SHELF = (("LAST-1", 1), ("LAST-2", 2), ("FEW-4", 4), ("MUG", 5000), ("TEA", 5000), ("PEN", 5000))
GIFT = ("GIFT", 40)
# What recurs, and how: few can have the one, the next soon renews, the last is free at first.
MONTHLY = {"interval": "month"}
PLANS: dict[str, tuple[int, dict[str, Any]]] = {
    "COFFEE": (5000, MONTHLY),
    "ROAST-3": (3, MONTHLY),
    "PAPER": (5000, {"interval": "day"}),
    "PRINTS": (5000, {**MONTHLY, "trial_days": 1}),
}
ON_SALE = (*SHELF, GIFT, *((sku, units) for sku, (units, _) in PLANS.items()))

# Discount codes at Stripe: the last may be used twice only.
CODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TENTH": ({"percent_off": 10.0}, {}),
    "FIVER": ({"amount_off": 500, "currency": "eur"}, {}),
    "DOLLARS": ({"amount_off": 500, "currency": "usd"}, {}),
    "FREE": ({"percent_off": 100.0}, {}),
    "TWICE": ({"percent_off": 33.3}, {"max_redemptions": 2}),
}
TAXED_EVERY = 4  # so many seeds Stripe finds out the tax; then nothing that recurs is sold

MIXED = "mixed"  # a rollout between two strategies, which an admin changes while it storms
WAYS_TO_SELL = (*STRATEGIES, MIXED)


class World:
    """Everything that a seed needs. The app is made once per process, the rest per seed."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.app = create_app(_settings(), transport=self.wire)
        self._plain_settings: Settings = self.app.extensions["settings"]
        self.stumbles: list[str] = []  # errors that nobody expected, as the shop logged them
        self._template = self._prepared()
        self._hook_commits()
        gc.collect()
        gc.freeze()  # what was imported by now is no garbage, and need not be looked at each time
        self.restarts: list[Callable[[], None]] = []  # what a process forgets when it dies

    @contextmanager
    def opened(self, seed: int, strategy: str) -> Iterator[World]:
        """A virgin shop and sandbox on a fresh stage; all chance comes from ``seed``."""
        self.clock = Clock()
        self.stage = Stage(f"{strategy}:{seed}", self.clock)
        self.sandbox = _sandbox(seed, self.stage)
        self.bell = Bell(self.stage)
        self.stumbles.clear()
        self.restarts.clear()
        self.tax = _tax(seed)
        self.app.extensions["settings"] = replace(self._plain_settings, **self.tax)
        self.wire.stage, self.wire.sandbox = self.stage, self.sandbox
        self.wire.on_news = lambda: None
        with ExitStack() as stack:
            stack.enter_context(shop_clock.running_on(self.clock.now))
            stack.enter_context(_chance(seed))
            stack.enter_context(_no_garbage())
            stack.enter_context(_doorbell(self.bell))
            stack.enter_context(_logs(self._log))
            stack.enter_context(_pauses_of(self.stage))
            stack.enter_context(warnings.catch_warnings())
            # Actors share SQLite's one connection; each gives it back as if it had been its own.
            warnings.filterwarnings("ignore", "Double checkin", SAWarning)
            with self.app.app_context():
                db.engine.dispose()
                with db.engine.connect() as connection:
                    self._template.backup(connection.connection.driver_connection)  # type: ignore[arg-type]
                self._sell_by(strategy)
            try:
                yield self
            finally:
                self.stage.clear()

    def in_shop(self, play: Callable[[], Any]) -> Callable[[], Any]:
        """``play`` inside an application context of its own, like a request or a job."""

        def played() -> Any:
            with self.app.app_context():
                return play()

        return played

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Plain rows by plain SQL, past the shop's own code."""
        with self.app.app_context(), db.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            return list(raw.execute(query, values))

    def write(self, statement: str, *values: Any) -> None:
        """A line in the storm's own diary; nobody has a transaction open meanwhile."""
        self.rows(statement, *values)

    def open_stray(self, like: str, *, by_twin: bool = False) -> str:
        """A second page with the metadata and amount of another: from Stripe's dashboard, or, with
        the shop's own reference on it, from a copy of the shop. Returns its id."""
        stray = self.sandbox.add_stray(like)
        if by_twin and stray.startswith("cs_"):
            page = self.sandbox.page(stray)
            page["client_reference_id"] = attempt_of(page)
        return stray

    def unnoted_session(self, shopper_id: str) -> str | None:
        """A payable session that the shop opened for this shopper and has in none of its rows."""
        noted = {id for (id,) in self.rows("SELECT stripe_id FROM stripe_legs")}
        for (attempt,) in self.rows(
            "SELECT a.id FROM checkout_attempts a JOIN stripe_legs l ON l.attempt_id = a.id"
            " WHERE a.shopper_id = ? AND l.state = 'creating' AND l.kind = 'session'"
            " ORDER BY l.id",
            shopper_id,
        ):
            for id in self.sandbox.opened.get(attempt, ()):
                if id.startswith("cs_") and id not in noted and self.sandbox.is_payable(id):
                    return id
        return None

    def _sell_by(self, strategy: str) -> None:
        """Choose the strategy as an admin does; ``mixed`` leaves it to the seed."""
        wishes: dict[str, Any] = {"order_strategy": strategy}
        if strategy == MIXED:
            wishes = rollout(self.stage.rng)
        settings.change("the storm", "to see it in this weather", **wishes)

    def _prepared(self) -> sqlite3.Connection:
        """The tables and goods that every seed starts with, copied as pages and not row by row."""
        template = sqlite3.connect(":memory:")
        with self.app.app_context():
            db.create_all()
            catalogue.stock_up(_goods())
            with db.engine.connect() as connection:
                connection.connection.driver_connection.backup(template)  # type: ignore[union-attr]
            template.executescript(WATCH)
            db.session.remove()
            db.engine.dispose()
        return template

    def _hook_commits(self) -> None:
        """A crossroads right after each COMMIT, of sessions and of plain connections alike."""
        with self.app.app_context():
            engine = db.engine
        commit = engine.dialect.do_commit

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _record: Any) -> None:
            connection.create_function("storm_commit", 0, lambda: self.stage.commits)

        def do_commit(connection: Any) -> None:
            commit(connection)
            self.stage.commits += 1
            self.stage.crossroads("after a commit")

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]

    def _log(self, entry: MutableMapping[str, Any]) -> None:
        """The shop's log is part of the story; an exception in it is never expected."""
        name = entry.pop("event", "")
        error = entry.pop("exc_info", None)
        said = " ".join(f"{key}={value}" for key, value in entry.items())
        self.stage.tell(f"[{name}] {said}" + (f" {error!r}" if error else ""))
        if error:
            self.stumbles.append(f"{name}: {type(error).__name__}: {error} ({said})")


def _settings() -> Settings:
    return demo_settings(
        {
            "DATABASE_URL": "sqlite://",
            "REDIS_URL": "memory://",
            "SECRET_KEY": "storm" * 8,
            "PUBLIC_ORIGIN": "http://shop.test",
            "STRIPE_SECRET_KEY": "sk_test_storm",
            "STRIPE_PUBLISHABLE_KEY": "pk_test_storm",
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STRIPE_API_BASE": "http://stripe.test",
            "MAIL_FROM": "shop@example.test",
            "CHECKOUT_TTL_MINUTES": str(TTL_MINUTES),
        }
    )


def _sandbox(seed: int, stage: Stage) -> WatchedStripe:
    box = WatchedStripe(
        lambda: stage.on_stage.role if stage.on_stage else "",
        webhook_url="http://shop.test/stripe/webhook",
        webhook_secret=WEBHOOK_SECRET,
        journal=None,
        clock=stage.clock.read,
        seed=seed,
        deliver=False,
        public_url="http://stripe.test",
    )
    for code, (coupon, limits) in CODES.items():
        made = discounts.create_coupon(box, {"duration": "once", **coupon})
        promotion = {"type": "coupon", "coupon": made["id"]}
        discounts.create_code(box, {"code": code, "promotion": promotion, **limits})
    if seed % ALL_TYPES_EVERY:  # most shops ask for what they follow, some for everything
        for endpoint in box.store.objects["webhook_endpoint"].values():
            endpoint["enabled_events"] = list(FOLLOWED_TYPES)
    return box


def _tax(seed: int) -> dict[str, Any]:
    """Settings of this seed's shop: on top of the prices in some, in them in others."""
    if seed % TAXED_EVERY != TAXED_EVERY - 1:
        return {}
    behavior = "exclusive" if seed % (2 * TAXED_EVERY) < TAXED_EVERY else "inclusive"
    return {"tax": "stripe", "tax_behavior": behavior}


def rollout(rng: Random) -> dict[str, Any]:
    """Two of the strategies, and what part of the shoppers gets the second."""
    usual, new = rng.sample(sorted(STRATEGIES), 2)
    return {
        "order_strategy": usual,
        "rollout_strategy": new,
        "rollout_percent": rng.choice((20, 50, 80)),
    }


def _goods() -> Iterator[dict[str, Any]]:
    for number, (sku, units) in enumerate(ON_SALE, start=1):
        yield {
            "sku": sku,
            "slug": sku.lower(),
            "title": sku.title(),
            "prices": {"eur": 500 + 111 * number if (sku, units) != GIFT else 0},
            "units": units,
            **(PLANS[sku][1] if sku in PLANS else {}),
        }


@contextmanager
def _chance(seed: int) -> Iterator[None]:
    """Random numbers and ids of the libraries come from the seed as well."""
    before, real = random.getstate(), uuid.uuid4
    dice = Random(f"ids:{seed}")
    random.seed(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=dice.getrandbits(128), version=4)
    try:
        yield
    finally:
        uuid.uuid4 = real
        random.setstate(before)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect garbage between seeds only: it takes a tenth of the time, and finalizers that run
    whenever they like would be chance that no seed decides."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _pauses_of(stage: Stage) -> Iterator[None]:
    """The reconciler's pause between two looks passes on the stage. How much of it the machine
    used up already is not the seed's, so that each is a whole one."""
    before = reconcile.pause
    reconcile.pause = lambda seconds: stage.pause(1 / reconcile.LOOKS_PER_S)
    try:
        yield
    finally:
        reconcile.pause = before


@contextmanager
def _doorbell(bell: Bell) -> Iterator[None]:
    before = doorbell.connection, doorbell.queue
    doorbell.connection, doorbell.queue = bell, bell  # type: ignore[assignment]
    try:
        yield
    finally:
        doorbell.connection, doorbell.queue = before


@contextmanager
def _logs(note: Callable[[MutableMapping[str, Any]], None]) -> Iterator[None]:
    """Send the shop's log into the story and nowhere else."""
    before = structlog.get_config()

    def written(_logger: Any, level: str, entry: MutableMapping[str, Any]) -> Any:
        if entry.get("exc_info") is True:
            entry["exc_info"] = sys.exc_info()[1]
        note(entry)
        raise structlog.DropEvent

    structlog.configure(processors=[written])
    try:
        yield
    finally:
        structlog.configure(**before)
