"""One shop and one little Stripe on a stage, made afresh for each seed and quickly so."""

from __future__ import annotations

import copy
import gc
import random
import sqlite3
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

import structlog
from sqlalchemy.exc import SAWarning

from app import create_app
from config import Settings, demo_settings
from domain import clock as shop_clock
from extensions import db, doorbell
from gateway.facts import FOLLOWED_TYPES
from sandbox import Sandbox, create_sandbox
from services import catalogue
from storm.bell import Bell
from storm.stage import Clock, Stage
from storm.watch import WATCH
from storm.wire import Wire

WEBHOOK_SECRET = "whsec_storm_storm_storm"  # noqa: S105 - between this shop and this sandbox
TTL_MINUTES = 31  # the shortest that Stripe allows: deadlines come soon
ALL_TYPES_EVERY = 5  # each so many seeds the endpoint listens to every type of event
HOLD_S = 45.0  # how long a storm's shopper waits for a page

# Few of some things, so that shoppers race for them; plenty of others.
SHELF = (("LAST-1", 1), ("LAST-2", 2), ("FEW-4", 4), ("MUG", 5000), ("TEA", 5000), ("PEN", 5000))


class World:
    """Everything that a seed needs. The app is made once per process, the rest per seed."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.app = create_app(_settings(), transport=self.wire)
        self.stumbles: list[str] = []  # errors that nobody expected, as the shop logged them
        self._template = self._prepared()
        self._hook_commits()
        gc.collect()
        gc.freeze()  # what was imported by now is no garbage, and need not be looked at each time
        self.restarts: list[Callable[[], None]] = []  # what a process forgets when it dies

    @contextmanager
    def opened(self, seed: int) -> Iterator[World]:
        """A virgin shop and sandbox on a fresh stage; all chance comes from ``seed``."""
        self.clock = Clock()
        self.stage = Stage(seed, self.clock)
        self.sandbox = _sandbox(seed, self.clock)
        self.bell = Bell(self.stage)
        self.stumbles.clear()
        self.restarts.clear()
        self.wire.stage, self.wire.sandbox = self.stage, self.sandbox
        self.wire.on_news = lambda: None
        with ExitStack() as stack:
            stack.enter_context(shop_clock.running_on(self.clock.now))
            stack.enter_context(_chance(seed))
            stack.enter_context(_no_garbage())
            stack.enter_context(_doorbell(self.bell))
            stack.enter_context(_logs(self._log))
            stack.enter_context(warnings.catch_warnings())
            # Actors share SQLite's one connection; each gives it back as if it had been its own.
            warnings.filterwarnings("ignore", "Double checkin", SAWarning)
            with self.app.app_context():
                db.engine.dispose()
                with db.engine.connect() as connection:
                    self._template.backup(connection.connection.driver_connection)  # type: ignore[arg-type]
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

    def open_stray_session(self, session_id: str) -> str:
        """A second Checkout Session with the metadata and amount of another: from Stripe's
        dashboard, or from code that is not this shop's. Returns its id."""
        known = self.sandbox.store.objects["checkout.session"][session_id]
        stray = copy.deepcopy(known) | {
            "id": self.sandbox.store.new_id("cs_test_b1", 58),
            "status": "open",
            "payment_status": "unpaid",
            "payment_intent": None,
            "created": int(self.clock.seconds),
            "expires_at": int(self.clock.seconds) + 1860,
        }
        beside = {**self.sandbox.store.aside[session_id], "buyer": None}
        self.sandbox.store.put(stray, **beside)
        self.sandbox.watch_expiry(stray)
        id: str = stray["id"]
        return id

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


def _sandbox(seed: int, clock: Clock) -> Sandbox:
    box = create_sandbox(
        webhook_url="http://shop.test/stripe/webhook",
        webhook_secret=WEBHOOK_SECRET,
        clock=clock.read,
        seed=seed,
        deliver=False,
        public_url="http://stripe.test",
    )
    if seed % ALL_TYPES_EVERY:  # most shops ask for what they follow, some for everything
        for endpoint in box.store.objects["webhook_endpoint"].values():
            endpoint["enabled_events"] = list(FOLLOWED_TYPES)
    return box


def _goods() -> Iterator[dict[str, Any]]:
    for number, (sku, units) in enumerate(SHELF, start=1):
        yield {
            "sku": sku,
            "slug": sku.lower(),
            "title": sku.title(),
            "prices": {"eur": 500 + 111 * number},
            "units": units,
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
