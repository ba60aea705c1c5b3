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

from sandbox import Sandbox, aftermath, billing
from sandbox.api import discounts

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
CREATE TRIGGER watch_lines AFTER UPDATE OF state ON order_items
WHEN OLD.state NOT IN ('pending', 'past_due') AND NEW.state <> OLD.state
BEGIN INSERT INTO storm_watch VALUES
 (OLD.order_id, 'line ' || OLD.sku || ': ' || OLD.state || ' → ' || NEW.state); END;
CREATE TRIGGER watch_plans AFTER UPDATE OF status ON subscriptions
WHEN OLD.status IN ('canceled', 'incomplete_expired') AND NEW.stripe_id = OLD.stripe_id
BEGIN INSERT INTO storm_watch VALUES
 (OLD.checkout_attempt_id, 'plan ' || OLD.part || ': ' || OLD.status || ' → ' || NEW.status); END;
CREATE TRIGGER watch_strategy AFTER UPDATE OF strategy ON checkout_attempts
WHEN OLD.strategy <> NEW.strategy
BEGIN INSERT INTO storm_watch VALUES
 (OLD.id, 'strategy: ' || OLD.strategy || ' → ' || NEW.strategy); END;
CREATE TRIGGER watch_events AFTER UPDATE OF state ON stripe_events
WHEN OLD.state <> 'new' AND NEW.state = 'new'
 AND NOT (OLD.state = 'ignored' AND OLD.payment_intent IS NOT NULL)
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

CREATE TABLE storm_legs
 (tx INTEGER, attempt_id TEXT, leg INTEGER, kind TEXT, state TEXT, is_ours INTEGER);
CREATE TRIGGER note_leg AFTER INSERT ON stripe_legs
BEGIN INSERT INTO storm_legs VALUES
 (storm_commit(), NEW.attempt_id, NEW.id, NEW.kind, NEW.state, NEW.is_ours); END;
CREATE TRIGGER note_leg_again AFTER UPDATE OF state ON stripe_legs
BEGIN INSERT INTO storm_legs VALUES
 (storm_commit(), NEW.attempt_id, NEW.id, NEW.kind, NEW.state, NEW.is_ours); END;

CREATE TABLE storm_refills (id TEXT);
CREATE TRIGGER note_refill AFTER UPDATE OF purged_at ON checkout_attempts
WHEN OLD.purged_at IS NOT NULL AND NEW.purged_at IS NULL
BEGIN INSERT INTO storm_refills VALUES (NEW.id); END;

CREATE TABLE storm_returns (tx INTEGER, attempt_id TEXT);
"""

BACKSTAGE = ("clock", "worker")  # they may end a payment page only when its time is up
PAYABLE = ("open", "requires_payment_method", "requires_confirmation", "requires_action")
RUNNING = ("trialing", "active", "past_due", "unpaid")
ENDED = ("canceled", "incomplete_expired")
STRAY_LIVES_S = 1860
OURS = "quittance_"  # how the shop names what it subscribes to by itself, before the line's sku

# What may be opened (first) while something else of the same checkout is there (second).
SIDE_BY_SIDE = (
    ("setup_intent", "payment_intent"),
    ("payment_intent", "setup_intent"),
    ("invoice", "setup_intent"),
    ("invoice", "payment_intent"),  # which must be paid by then: see _note_beginning
)
KINDS = {
    "cs": "checkout.session",
    "pi": "payment_intent",
    "seti": "setup_intent",
    "in": "invoice",
}

Page = dict[str, Any]


class WatchedStripe(Sandbox):
    """The sandbox, with somebody at its door who sees what can be paid open and end at the very
    moment, also when the shop never gets the answer. A *page* is a Checkout Session, an intent
    without one, or the first invoice of a subscription that the shop has begun by itself."""

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
        if type in ("payment_intent.created", "setup_intent.created"):
            if self.store.aside[obj["id"]]["session"] is None and attempt_of(obj):
                self._note_opening(obj)
        elif type == "customer.subscription.created" and self._sku_of(obj):
            self._note_beginning(obj)
        elif type == "setup_intent.canceled":
            self._note_giving_up(obj)
        is_early = type == "checkout.session.expired" and obj["expires_at"] > self.now()
        if is_early and self._who().startswith(BACKSTAGE):
            what = f"the {self._who()} ended {obj['id']} before its time"
            self.wrong.append((attempt_of(obj), what))

    def add_stray(self, like: str) -> str:
        """Put a page there that the shop did not open, with the metadata and amount of another;
        returns its id."""
        known, beside = copy.deepcopy(self.page(like)), {**self.store.aside[like]}
        known["created"] = int(self.now())
        if known["object"] == "checkout.session":
            known |= {"id": self.store.new_id("cs_test_b1", 58), "status": "open"}
            known |= {"payment_status": "unpaid", "payment_intent": None, "setup_intent": None}
            known |= {"expires_at": known["created"] + STRAY_LIVES_S, "client_reference_id": None}
            known |= {"customer": None, "subscription": None, "invoice": None}
            beside |= {"buyer": None, "intent": None}
        else:
            saves = known["object"] == "setup_intent"
            known |= {"id": self.store.new_id("seti_1" if saves else "pi_")}
            known |= {"status": "requires_payment_method", "payment_method": None}
            known |= {"next_action": None}
            if not saves:
                known |= {"latest_charge": None, "amount_received": 0, "canceled_at": None}
                known |= {"last_payment_error": None}
        id: str = known["id"]
        self.strays.add(id)
        self.store.put(known, **beside)
        if known["object"] == "checkout.session":
            self.watch_expiry(known)
        return id

    def turn(self, code: Page, *, active: bool) -> None:
        """Somebody ends a promotion code in the dashboard, or begins it again."""
        with self.lock:
            discounts.update_code(self, {"active": active}, code["id"])

    def page(self, id: str) -> Page:
        found: Page = self.store.objects[KINDS[id.partition("_")[0]]][id]
        return found

    def is_payable(self, id: str) -> bool:
        self.tick()
        page = self.page(id)
        return page["status"] in PAYABLE and not self._is_paid(page)

    def doors(self, attempt: str) -> list[str]:
        """The pages of an attempt that somebody can have before them: no invoices."""
        return [id for id in self.opened.get(attempt, ()) if not id.startswith("in_")]

    def first_invoices(self, attempt: str) -> list[str]:
        return [id for id in self.opened.get(attempt, ()) if id.startswith("in_")]

    def subscriptions_of(self, attempt: str) -> list[Page]:
        """All that were ever begun for an attempt, by whatever page."""
        known = self.store.objects["subscription"].values()
        return [found for found in known if attempt_of(found) == attempt]

    def end_in_dashboard(self, subscription: Page) -> None:
        """What an admin of the account can do at any time, past the shop."""
        self.tick()
        if subscription["status"] not in ENDED:
            billing.cancel(self, subscription)
        self.store.commit()

    def give_back(self, intent: str, most: int | None) -> int:
        """Somebody refunds up to ``most`` minor units at the dashboard; returns how much."""
        self.tick()
        charge = self._charge_of(intent)
        left = 0 if charge["disputed"] else charge["amount"] - charge["amount_refunded"]
        amount: int = left if most is None else min(most, left)
        if amount:
            aftermath.new_refund(self, charge, amount, {})
            self.store.commit()
        return amount

    def dispute(self, intent: str) -> str | None:
        """The payer's bank takes a payment back for now: the dispute's id. None where there is one
        already, or nothing left to take."""
        self.tick()
        charge = self._charge_of(intent)
        if charge["disputed"] or charge["refunded"]:
            return None
        id: str = aftermath.open_dispute(self, charge)["id"]
        self.store.commit()
        return id

    def _charge_of(self, intent: str) -> Page:
        objects = self.store.objects
        found: Page = objects["charge"][objects["payment_intent"][intent]["latest_charge"]]
        return found

    def decide(self, dispute: str, *, won: bool) -> None:
        self.tick()
        aftermath.close_dispute(self, self.store.objects["dispute"][dispute], won=won)
        self.store.commit()

    def titles_of(self, subscription: Page) -> list[str]:
        """What is bought with it again and again, by the names that the shop gave."""
        products = self.store.objects["product"]
        prices = (item["price"] for item in subscription["items"]["data"])
        return [products[price["product"]]["name"] for price in prices]

    def money_of(self, intent: Page) -> tuple[str, str]:
        """Which attempt a payment says it is for, and which invoice it paid, if it did. An intent
        of an invoice says nothing itself."""
        beside = self.store.aside[intent["id"]]
        invoice: str = beside.get("invoice") or ""
        about = intent
        if beside["session"]:
            about = self.store.objects["checkout.session"][beside["session"]]
        elif invoice:
            owner = self.store.aside[invoice]["subscription"]
            about = self.store.objects["subscription"][owner]
        return attempt_of(about), invoice

    def _sku_of(self, subscription: Page) -> str:
        """The line that a subscription was begun for by a call of the shop, and by no session."""
        product: str = subscription["items"]["data"][0]["price"]["product"]
        return product.removeprefix(OURS) if product.startswith(OURS) else ""

    def begun_by_the_shop(self, subscription: Page) -> bool:
        return bool(self._sku_of(subscription))

    def _note_beginning(self, subscription: Page) -> None:
        """The shop has charged a saved card. Was the rest paid, and was this not begun before?"""
        attempt, sku = attempt_of(subscription), self._sku_of(subscription)
        paid = [
            intent["status"]
            for intent in self.store.objects["payment_intent"].values()
            if attempt_of(intent) == attempt
        ]
        if paid and "succeeded" not in paid:
            self.wrong.append((attempt, f"{sku} was charged before the rest was paid"))
        twins = [
            other["id"]
            for other in self.subscriptions_of(attempt)
            if other is not subscription
            and self._sku_of(other) == sku
            and other["status"] not in ENDED
        ]
        if twins:
            self.wrong.append((attempt, f"{subscription['id']} was begun beside {twins[0]}"))
        invoice = self.store.objects["invoice"][subscription["latest_invoice"]]
        self._note_opening(invoice, attempt)

    def _note_giving_up(self, setup: Page) -> None:
        """Who has paid the rest may still save a card, until the clock says that it is over."""
        attempt = attempt_of(setup)
        pages = [self.page(id) for id in self.doors(attempt)]
        is_paid = any(one["object"] == "payment_intent" and self._is_paid(one) for one in pages)
        if is_paid and not self._who().startswith(BACKSTAGE):
            self.wrong.append((attempt, f"{setup['id']} was closed though the rest was paid"))

    def _note_opening(self, page: Page, attempt: str = "") -> None:
        """A new page of an attempt, while an older one of the shop's is paid or can be?"""
        id, attempt = page["id"], attempt or attempt_of(page)
        older = self.opened.setdefault(attempt, [])
        for other in map(self.page, older):
            kinds = page["object"], other["object"]
            if kinds in SIDE_BY_SIDE:
                continue
            if kinds == ("invoice", "invoice") and self._is_for_another_line(page, other):
                continue
            if self.is_payable(other["id"]):
                self.wrong.append((attempt, f"{id} was opened beside {other['id']}"))
            elif self._is_paid(other):
                self.wrong.append((attempt, f"{id} was opened though {other['id']} was paid"))
        older.append(id)

    def _is_for_another_line(self, invoice: Page, other: Page) -> bool:
        owners = [self.store.aside[one["id"]]["subscription"] for one in (invoice, other)]
        mine, theirs = (self.store.objects["subscription"][owner] for owner in owners)
        return self._sku_of(mine) != self._sku_of(theirs)

    def _is_paid(self, page: Page) -> bool:
        """Whether its money has come or is under way, or nothing was to be paid."""
        if page["object"] == "setup_intent":
            return False  # no money moves through it
        if page["object"] == "invoice":
            under_way = self.store.objects["payment_intent"].get(self.intent_of(page["id"]), {})
            return page["status"] == "paid" or under_way.get("status") == "processing"
        if page["object"] == "checkout.session":
            if page["payment_status"] in ("no_payment_required", "paid"):
                return True
            page = self.store.objects["payment_intent"].get(self.intent_of(page["id"]), {})
        return page.get("status") in ("succeeded", "processing")

    def intent_of(self, id: str) -> str:
        """What pays a session or an invoice, if somebody has tried."""
        return self.store.aside[id].get("intent") or ""


def attempt_of(page: Page) -> str:
    """The attempt that a page says it belongs to."""
    return str((page["metadata"] or {}).get("checkout_attempt_id", ""))
