"""What must never happen, not even for a moment: SQLite takes notes while the storm blows, and
somebody stands at Stripe's door.

``storm_watch`` holds what is wrong by itself. The other tables are a diary: how a row stood after
which transaction (``storm_commit()`` numbers them), so that the proof can say what belonged
together and what came first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sandbox import Sandbox

PAID = ("payment_confirmed", "awaiting_shipment", "shipped", "delivered")
LIVE = "('creating', 'open', 'processing')"
_PAID = ", ".join(f"'{status}'" for status in PAID)

WATCH = f"""
CREATE TABLE storm_watch (about TEXT, what TEXT);
CREATE TRIGGER watch_status AFTER UPDATE OF status ON orders
WHEN OLD.status IN ({_PAID}) AND NEW.status NOT IN ('cancelled', {_PAID})
BEGIN INSERT INTO storm_watch VALUES (OLD.id, 'order: ' || OLD.status || ' → ' || NEW.status); END;
CREATE TRIGGER watch_payment_status AFTER UPDATE OF payment_status ON orders
WHEN OLD.payment_status IN ('paid', 'partially_refunded', 'refunded', 'disputed')
 AND NEW.payment_status IN ('pending', 'processing', 'failed', 'cancelled')
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'payment: ' || OLD.payment_status || ' → ' || NEW.payment_status); END;
CREATE TRIGGER watch_legs AFTER UPDATE OF state ON stripe_legs
WHEN (OLD.state NOT IN {LIVE} AND NEW.state IN {LIVE})
  OR (OLD.state = 'processing' AND NEW.state IN ('creating', 'open'))
BEGIN INSERT INTO storm_watch VALUES
 (OLD.attempt_id, 'leg: ' || OLD.state || ' → ' || NEW.state); END;
CREATE TRIGGER watch_attempts AFTER UPDATE OF state ON checkout_attempts
WHEN (OLD.state = 'settled' AND NEW.state <> 'settled')
  OR (OLD.state = 'closed' AND NEW.state = 'open' AND (NEW.purged_at IS NOT NULL
      OR EXISTS (SELECT 1 FROM payments WHERE attempt_id = OLD.id)))
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'attempt: ' || OLD.state || ' → ' || NEW.state); END;
CREATE TRIGGER watch_strategy AFTER UPDATE OF strategy ON checkout_attempts
WHEN OLD.strategy <> NEW.strategy
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'strategy: ' || OLD.strategy || ' → ' || NEW.strategy); END;
CREATE TRIGGER watch_events AFTER UPDATE OF state ON stripe_events
WHEN OLD.state <> 'new' AND NEW.state = 'new'
BEGIN INSERT INTO storm_watch VALUES (COALESCE(OLD.attempt_id, ''), 'event reopened: ' || OLD.id);
END;

CREATE TABLE storm_attempts
 (tx INTEGER, id TEXT, strategy TEXT, state TEXT, hold TEXT, parked INTEGER, lines_out INTEGER);
CREATE TRIGGER note_attempt AFTER INSERT ON checkout_attempts
BEGIN INSERT INTO storm_attempts VALUES (storm_commit(), NEW.id, NEW.strategy, NEW.state, NEW.hold,
 NEW.is_processing, NEW.lines_out); END;
CREATE TRIGGER note_attempt_again
AFTER UPDATE OF state, hold, is_processing, lines_out ON checkout_attempts
BEGIN INSERT INTO storm_attempts VALUES (storm_commit(), NEW.id, NEW.strategy, NEW.state, NEW.hold,
 NEW.is_processing, NEW.lines_out); END;

CREATE TABLE storm_births
 (tx INTEGER, id TEXT, strategy TEXT, provisional INTEGER, total INTEGER);
CREATE TRIGGER note_birth AFTER INSERT ON orders
BEGIN INSERT INTO storm_births VALUES
 (storm_commit(), NEW.id, NEW.strategy, NEW.is_provisional, NEW.total); END;

CREATE TABLE storm_money (tx INTEGER, attempt_id TEXT, payment_intent TEXT);
CREATE TRIGGER note_money AFTER INSERT ON payments
BEGIN INSERT INTO storm_money VALUES (storm_commit(), NEW.attempt_id, NEW.payment_intent); END;

CREATE TABLE storm_legs (tx INTEGER, attempt_id TEXT, leg INTEGER, state TEXT, is_ours INTEGER);
CREATE TRIGGER note_leg AFTER INSERT ON stripe_legs
BEGIN INSERT INTO storm_legs VALUES
 (storm_commit(), NEW.attempt_id, NEW.id, NEW.state, NEW.is_ours); END;
CREATE TRIGGER note_leg_again AFTER UPDATE OF state ON stripe_legs
BEGIN INSERT INTO storm_legs VALUES
 (storm_commit(), NEW.attempt_id, NEW.id, NEW.state, NEW.is_ours); END;

CREATE TABLE storm_refills (id TEXT);
CREATE TRIGGER note_refill AFTER UPDATE OF purged_at ON checkout_attempts
WHEN OLD.purged_at IS NOT NULL AND NEW.purged_at IS NULL
BEGIN INSERT INTO storm_refills VALUES (NEW.id); END;

CREATE TABLE storm_returns (tx INTEGER, attempt_id TEXT);
"""

BACKSTAGE = ("clock", "worker")  # they may end a payment page only when its time is up
PAYABLE = ("open", "requires_payment_method", "requires_confirmation", "requires_action")
STRAY_LIVES_S = 1860

Page = dict[str, Any]


class WatchedStripe(Sandbox):
    """The sandbox, with somebody at its door who sees what can be paid open and end at the very
    moment, also when the shop never gets the answer. A *page* is a Checkout Session, or a
    PaymentIntent without one."""

    def __init__(self, who: Callable[[], str], **sandbox: Any) -> None:
        """``who`` says whose turn it is on the stage."""
        self._who = who
        self.opened: dict[str, list[str]] = {}  # by attempt, the pages that the shop opened
        self.strays: set[str] = set()  # pages that it did not open
        self.wrong: list[tuple[str, str]] = []  # about which order, what was seen
        super().__init__(**sandbox)

    def watch_expiry(self, session: Page) -> None:
        super().watch_expiry(session)
        if session["id"] not in self.strays:
            self._note_opening(session)

    def emit(self, type: str, obj: Page, previous: Page | None = None) -> None:
        super().emit(type, obj, previous)
        if type == "payment_intent.created" and self.store.aside[obj["id"]]["session"] is None:
            self._note_opening(obj)
        is_early = type == "checkout.session.expired" and obj["expires_at"] > self.now()
        if is_early and self._who().startswith(BACKSTAGE):
            what = f"the {self._who()} ended {obj['id']} before its time"
            self.wrong.append((attempt_of(obj), what))

    def add_stray(self, like: str) -> str:
        """Put a page there that the shop did not open, with the metadata and amount of another;
        returns its id."""
        known, beside = copy.deepcopy(self.page(like)), {**self.store.aside[like]}
        known["created"] = int(self.now())
        if known["object"] == "payment_intent":
            known |= {"id": self.store.new_id("pi_"), "status": "requires_payment_method"}
            known |= {"latest_charge": None, "payment_method": None, "amount_received": 0}
            known |= {"last_payment_error": None, "canceled_at": None, "next_action": None}
        else:
            known |= {"id": self.store.new_id("cs_test_b1", 58), "status": "open"}
            known |= {"payment_status": "unpaid", "payment_intent": None}
            known |= {"expires_at": known["created"] + STRAY_LIVES_S, "client_reference_id": None}
            beside |= {"buyer": None, "intent": None}
        id: str = known["id"]
        self.strays.add(id)
        self.store.put(known, **beside)
        if known["object"] == "checkout.session":
            self.watch_expiry(known)
        return id

    def page(self, id: str) -> Page:
        kind = "payment_intent" if id.startswith("pi_") else "checkout.session"
        found: Page = self.store.objects[kind][id]
        return found

    def is_payable(self, id: str) -> bool:
        self.tick()
        return self.page(id)["status"] in PAYABLE

    def _note_opening(self, page: Page) -> None:
        """A new page of an attempt, while an older one of the shop's is paid or can be?"""
        id, attempt = page["id"], attempt_of(page)
        older = self.opened.setdefault(attempt, [])
        for other in older:
            if self.is_payable(other):
                self.wrong.append((attempt, f"{id} was opened beside {other}"))
            elif self._is_paid(self.page(other)):
                self.wrong.append((attempt, f"{id} was opened though {other} was paid"))
        older.append(id)

    def _is_paid(self, page: Page) -> bool:
        """Whether its money has come or is under way, or nothing was to be paid."""
        if page["object"] == "checkout.session":
            if page["payment_status"] == "no_payment_required":
                return True
            page = self.store.objects["payment_intent"].get(page["payment_intent"], {})
        return page.get("status") in ("succeeded", "processing")


def attempt_of(page: Page) -> str:
    """The attempt that a page says it belongs to."""
    return str(page["metadata"].get("checkout_attempt_id", ""))
