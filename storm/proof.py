"""The storm's own proof, by plain SQL over the shop's rows and by the sandbox's ledger.

It shares no code with ``services.check``, which is run as well: two proofs by two hands.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services import check
from storm.cast import Cast
from storm.watch import LIVE, PAID
from storm.world import SHELF, World


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken; ``about`` is an order's id if it is about one."""

    promise: str
    about: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.about}: {self.detail}"


class Proof:
    """Questions to one storm; each answers with what is broken."""

    def __init__(self, world: World, cast: Cast) -> None:
        self.world, self.cast = world, cast
        self.rows = world.rows
        ledger = world.sandbox.ledger()
        self.taken = {
            p["id"]: p
            for p in ledger["payments"]
            if p["status"] == "succeeded" and "checkout_attempt_id" in p["metadata"]
        }
        self.given_back: Counter[str] = Counter()
        for refund in ledger["refunds"]:
            if refund["status"] == "succeeded":
                self.given_back[refund["payment_intent"]] += refund["amount"]
        self.open_exceptions = {
            id for (id,) in self.rows("SELECT stripe_id FROM exceptions WHERE state = 'open'")
        }
        self.settled_by = {
            intent: (attempt, amount, currency)
            for intent, attempt, amount, currency in self.rows(
                "SELECT payment_intent, attempt_id, amount, currency FROM payments"
                " WHERE role = 'settles'"
            )
        }
        self.orders = {
            row[0]: row for row in self.rows("SELECT id, status, total, currency FROM orders")
        }

    # -- soon after the faults stopped

    def nothing_is_pending(self, decided: set[str], since_s: float) -> list[Violation]:
        """What Stripe had ``decided`` by then is settled here, and what had come or was owed by
        ``since_s`` (seconds since 1970) is applied or carried out."""
        found = []
        states = dict(self.rows("SELECT id, state FROM checkout_attempts"))
        for id, intent in self.taken.items():
            order = intent["metadata"]["checkout_attempt_id"]
            if id in decided - self.open_exceptions and states.get(order) == "open":
                found.append(Violation("liveness", order, f"{id} is paid, still pending"))
        for session, order in self.rows(
            "SELECT l.stripe_id, a.id FROM checkout_attempts a JOIN stripe_legs l"
            " ON l.attempt_id = a.id WHERE a.state = 'open'"
        ):
            if session in decided:
                found.append(Violation("liveness", order, f"{session} has expired, still pending"))
        then = str(datetime.fromtimestamp(since_s, UTC).replace(tzinfo=None))
        for event, order, state in self.rows(
            "SELECT id, COALESCE(attempt_id, id), state FROM stripe_events"
            " WHERE state IN ('new', 'dead') AND received_at <= ?",
            then,
        ):
            found.append(Violation("liveness", order, f"{event} is still {state}"))
        for kind, order, state in self.rows(
            "SELECT kind, COALESCE(order_id, ''), state FROM outbox"
            " WHERE state <> 'done' AND created_at <= ?",
            then,
        ):
            found.append(Violation("liveness", order, f"{kind} is still {state}"))
        return found

    # -- when all deadlines are past

    def all_of_it(self) -> list[Violation]:
        found = [
            *self.nothing_is_pending(decided(self.world), self.world.clock.seconds),
            *self._nothing_is_open(),
            *self._every_payment_has_its_order(),
            *self._every_order_has_its_payment(),
            *self._nobody_paid_in_vain(),
            *self._stock_adds_up(),
            *self._one_receipt_each(),
            *self._lines_are_in_one_place(),
            *self._history_replays(),
            *self._what_was_acknowledged_is_there(),
            *self._never_for_a_moment(),
        ]
        found += [Violation("broke", "", text) for text in self.world.stumbles]
        with self.world.app.app_context():
            report = check.run()
        return found + [
            Violation(f"flask check, {v.invariant}", v.subject, v.detail) for v in report.violations
        ]

    def _nothing_is_open(self) -> list[Violation]:
        """Past its deadline an attempt has ended, unless it waits for a person (wrong amount)."""
        waiting = {
            order
            for (order,) in self.rows(
                "SELECT order_id FROM exceptions WHERE type = 'amount_mismatch'"
            )
        }
        return [
            Violation("liveness", order, f"{status} long after its deadline, leg {leg}")
            for order, status, leg in self.rows(
                "SELECT a.id, a.status, l.state FROM checkout_attempts a"
                " JOIN stripe_legs l ON l.attempt_id = a.id"
                f" WHERE a.state = 'open' OR l.state IN {LIVE}"
            )
            if order not in waiting
        ]

    def _every_payment_has_its_order(self) -> list[Violation]:
        """It settles exactly one confirmed order, or went back to the cent, or is an exception."""
        found = []
        for id, intent in self.taken.items():
            amount, order = intent["amount_received"], intent["metadata"]["checkout_attempt_id"]
            by = self.settled_by.get(id)
            settles = (
                by is not None
                and by == (order, amount, intent["currency"])
                and self.orders.get(by[0], (0, ""))[1] in PAID
            )
            back = self.given_back[id] == amount
            waits = id in self.open_exceptions and order not in self.cast.strays
            if not (settles or back or waits):
                found.append(
                    Violation("money", order, f"{id} took {amount}; settles {by}, no exception")
                )
            if settles and self.given_back[id]:
                found.append(Violation("money", order, f"{id} settles and was given back"))
        return found

    def _every_order_has_its_payment(self) -> list[Violation]:
        paid_for: defaultdict[str, int] = defaultdict(int)
        found = []
        for intent, (order, amount, _) in self.settled_by.items():
            paid_for[order] += amount
            if intent not in self.taken:
                found.append(Violation("money", order, f"{intent} never took money at Stripe"))
        for order, status, total, _ in self.orders.values():
            if status in PAID and paid_for[order] != total:
                found.append(Violation("money", order, f"costs {total}, paid {paid_for[order]}"))
            if status not in PAID and paid_for[order]:
                found.append(Violation("money", order, f"is {status}, paid {paid_for[order]}"))
        return found

    def _nobody_paid_in_vain(self) -> list[Violation]:
        """Who paid a live page gets the order, and no refund instead of it (rule R5). Nothing in
        this storm pays an order twice or too late but our own giving away."""
        return [
            Violation(
                "R5", order or "", f"{type_} of {id}: the shopper paid a page that we gave up"
            )
            for id, type_, order in self.rows(
                "SELECT stripe_id, type, order_id FROM exceptions"
                " WHERE type NOT IN ('amount_mismatch')"
            )
            if not (type_ == "duplicate_payment" and order in self.cast.strays)
        ]

    def _stock_adds_up(self) -> list[Violation]:
        units: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for state, lines in self.rows(
            "SELECT state, json_extract(snapshot, '$.lines') FROM checkout_attempts"
        ):
            for line in _json(lines):
                units[line["sku"]][state] += line["quantity"]
        initial, found = dict(SHELF), []
        for sku, on_hand, held, sold in self.rows("SELECT sku, on_hand, held, sold FROM products"):
            bought, out = units[sku]["settled"], units[sku]["open"]
            if (on_hand, held, sold) != (initial[sku] - bought, out, bought):
                shelf = f"on hand {on_hand}, held {held}, sold {sold}"
                found.append(
                    Violation(
                        "stock", sku, f"{shelf}; of {initial[sku]} {bought} bought, {out} out"
                    )
                )
            if bought > initial[sku]:
                found.append(Violation("stock", sku, f"oversold: {bought} of {initial[sku]}"))
        return found

    def _one_receipt_each(self) -> list[Violation]:
        receipts: defaultdict[str, list[str]] = defaultdict(list)
        for order, message_id in self.rows(
            "SELECT order_id, json_extract(result, '$.message_id') FROM outbox"
            " WHERE kind = 'receipt' AND state = 'done'"
        ):
            receipts[order].append(message_id)
        return [
            Violation("receipts", order, f"is {row[1]} and has {len(receipts[order])} receipts")
            for order, row in self.orders.items()
            if len(receipts[order]) != (row[1] in PAID)
        ]

    def _lines_are_in_one_place(self) -> list[Violation]:
        """What a shopper put in is in the basket, out with an open attempt, or bought."""
        there: Counter[tuple[str, str]] = Counter()
        for shopper, sku, units in self.rows(
            "SELECT c.shopper_id, p.sku, i.quantity FROM cart_items i"
            " JOIN carts c ON c.id = i.cart_id JOIN products p ON p.id = i.product_id"
        ):
            there[shopper, sku] += units
        for shopper, lines in self.rows(
            "SELECT shopper_id, json_extract(snapshot, '$.lines') FROM checkout_attempts"
            " WHERE state = 'settled' OR (state = 'open' AND lines_out)"
        ):
            for line in _json(lines):
                there[shopper, line["sku"]] += line["quantity"]
        books, found = self.cast.books, []
        for key in sorted({*there, *books.sure, *books.maybe}):
            least = books.sure.get(key, 0)
            most = least + books.maybe.get(key, 0)
            if key in books.unknown:
                least = 0
            if not least <= there[key] <= most:
                counted = f"{there[key]} × {key[1]}; put in {least} to {most}"
                found.append(Violation("lines", key[0], counted))
        return found

    def _history_replays(self) -> list[Violation]:
        at: dict[str, str] = {}
        found = []
        for order, before, after in self.rows(
            "SELECT order_id, from_status, to_status FROM order_events"
            " WHERE kind = 'transition' ORDER BY id"
        ):
            if at.get(order) != before:
                found.append(Violation("history", order, f"{at.get(order)}, then {before}→{after}"))
            at[order] = after
        found += [
            Violation("history", order, f"ends at {at.get(order)}, the order is {row[1]}")
            for order, row in self.orders.items()
            if at.get(order) != row[1]
        ]
        return found

    def _what_was_acknowledged_is_there(self) -> list[Violation]:
        """An event that we answered with 200 is in the inbox."""
        stored = {id for (id,) in self.rows("SELECT id FROM stripe_events")}
        return [
            Violation("inbox", record["event"], "was acknowledged and is not stored")
            for record in self.world.sandbox.store.objects["delivery"].values()
            if record["state"] == "delivered" and record["event"] not in stored
        ]

    def _never_for_a_moment(self) -> list[Violation]:
        return [
            Violation("never", about, what)
            for about, what in self.rows("SELECT about, what FROM storm_watch")
        ]


def decided(world: World) -> set[str]:
    """Payments that succeeded at Stripe and sessions that expired there, by now."""
    world.sandbox.tick()
    objects = world.sandbox.store.objects
    return {
        id
        for kind, state in (("payment_intent", "succeeded"), ("checkout.session", "expired"))
        for id, found in objects[kind].items()
        if found["status"] == state
    }


def _json(text: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(text)
    return lines
