"""The storm's own proof, by plain SQL over the shop's rows and by the sandbox's ledger.

It shares no code with ``services.check``, which is run as well: two proofs by two hands.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from services import check
from storm.cast import Cast
from storm.watch import LIVE, PAID, RUNNING, attempt_of
from storm.world import ON_SALE, PLANS, World

SKUS = {sku.title(): sku for sku in PLANS}  # by title
HELD_LINES = ("pending", "past_due")
HOLDS = {"open": "held", "settled": "sold", "closed": "released"}
# For a person; the rest not.
OTHER_MATTERS = ("amount_mismatch", "dispute", "refund_failed")  # than a page that was given up
MAY_WAIT = ("amount_mismatch", "late_payment", "unmatched_payment", "owner_mismatch")


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken; ``about`` is an order's id if it is about one."""

    promise: str
    about: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.about}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Then:
    """How an attempt stood after a transaction."""

    tx: int
    id: str
    strategy: str
    state: str
    hold: str
    parked: bool
    lines_out: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """Money that Stripe took for an attempt, in minor units."""

    order: str
    amount: int
    currency: str
    invoice: str  # which it paid, if any
    renews: bool


@dataclass(frozen=True, slots=True)
class Sold:
    """What an attempt was to sell."""

    state: str
    ui: str
    shipping: int
    lines: list[dict[str, Any]]

    @property
    def plans(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("plan")]


def first_amount(line: dict[str, Any]) -> int:
    """What is due at once for a line that recurs, in minor units."""
    is_free = line["plan"]["trial_days"] > 0
    return 0 if is_free else int(line["unit_amount"] * line["quantity"])


class Proof:
    """Questions to one storm; each answers with what is broken."""

    def __init__(self, world: World, cast: Cast) -> None:
        self.world, self.cast = world, cast
        self.rows = world.rows
        ledger = world.sandbox.ledger()
        self.box = world.sandbox
        self.taken: dict[str, Taken] = {}
        for intent in self.box.store.objects["payment_intent"].values():
            order, invoice = self.box.money_of(intent)
            if intent["status"] == "succeeded" and order:
                bill = self.box.store.objects["invoice"].get(invoice, {})
                renews = bill.get("billing_reason", "subscription_create") != "subscription_create"
                money = intent["amount_received"], intent["currency"]
                self.taken[intent["id"]] = Taken(order, *money, invoice, renews)
        self.given_back: Counter[str] = Counter()
        for refund in ledger["refunds"]:
            if refund["status"] == "succeeded":
                self.given_back[refund["payment_intent"]] += refund["amount"]
        self.open_exceptions: dict[str, str] = dict(
            self.rows("SELECT stripe_id, type FROM exceptions WHERE state = 'open'")
        )
        self.paid_by_stray = {
            p["id"] for p in ledger["payments"] if world.sandbox.strays & {p["id"], p["session"]}
        }
        self.booked = {
            row[0]: row[1:]
            for row in self.rows(
                "SELECT payment_intent, role, attempt_id, amount, currency, part FROM payments"
            )
        }
        self.sold: dict[str, Sold] = {}
        for order, state, ui, shipping, lines in self.rows(
            "SELECT id, state, payment_ui, shipping, json_extract(snapshot, '$.lines')"
            " FROM checkout_attempts"
        ):
            self.sold[order] = Sold(state, ui, shipping, _json(lines))
        self.line_states: dict[tuple[str, str], str] = {
            (order, sku): state
            for order, sku, state in self.rows("SELECT order_id, sku, state FROM order_items")
        }
        self.orders = {
            row[0]: row for row in self.rows("SELECT id, status, total, currency FROM orders")
        }
        # An order whose money all went back is cancelled, and stays bought.
        self.bought = {
            order
            for order, status, _, _ in self.orders.values()
            if status in PAID or (status == "cancelled" and self.sold[order].state == "settled")
        }
        self.then: defaultdict[str, list[Then]] = defaultdict(list)  # by attempt, in order
        for tx, id, strategy, state, hold, parked, out in self.rows(
            "SELECT * FROM storm_attempts ORDER BY rowid"
        ):
            written = self.then[id]
            if written and written[-1].tx == tx:
                written.pop()  # only what a transaction leaves behind counts
            written.append(Then(tx, id, strategy, state, hold, bool(parked), bool(out)))

    @property
    def paid_orders(self) -> int:
        return len(self.bought)

    # -- soon after the faults stopped

    def nothing_is_pending(self, decided: set[str], since_s: float) -> list[Violation]:
        """What Stripe had ``decided`` by then is settled here, and what had come or was owed by
        ``since_s`` (seconds since 1970) is applied or carried out."""
        found = []
        states = dict(self.rows("SELECT id, state FROM checkout_attempts"))
        for id, money in self.taken.items():
            waits = id in self.open_exceptions
            if id in decided and not waits and states.get(money.order) == "open":
                found.append(Violation("liveness", money.order, f"{id} is paid, still pending"))
        for order, sku, state, invoice in self.rows(
            "SELECT i.order_id, i.sku, i.state, l.stripe_id FROM order_items i"
            " JOIN stripe_legs l ON l.attempt_id = i.order_id AND l.part = i.sku"
            " JOIN checkout_attempts a ON a.id = i.order_id"
            " WHERE i.state IN ('pending', 'past_due') AND a.state = 'settled'"
        ):
            if invoice in decided:
                found.append(Violation("liveness", order, f"{sku}: {invoice} decided, is {state}"))
        legs: defaultdict[str, list[str | None]] = defaultdict(list)
        for order, page in self.rows(
            "SELECT a.id, l.stripe_id FROM checkout_attempts a JOIN stripe_legs l"
            " ON l.attempt_id = a.id WHERE a.state = 'open'"
        ):
            legs[order].append(page)
        found += [
            Violation("liveness", order, f"{', '.join(map(str, pages))} ended, still pending")
            for order, pages in legs.items()
            if decided.issuperset(pages) and not self.open_exceptions.keys() & set(pages)
        ]
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
            *self._what_was_asked_back_went_back(),
            *self._nobody_paid_in_vain(),
            *self._nothing_was_given_for_nothing(),
            *self._plans_run_as_their_lines_say(),
            *self._each_invoice_is_one_payment(),
            *self._stock_adds_up(),
            *self._one_receipt_each(),
            *self._lines_are_in_one_place(),
            *self._lines_left_in_time(),
            *self._orders_were_born_in_time(),
            *self._retries_had_a_page_of_their_own(),
            *self._no_page_can_be_paid(),
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
        now = datetime.fromtimestamp(self.world.clock.seconds, UTC).replace(tzinfo=None)
        return [
            Violation("liveness", order, f"{status} long after its deadline, leg {leg}")
            for order, status, leg in self.rows(
                "SELECT a.id, a.status, l.state FROM checkout_attempts a"
                " JOIN stripe_legs l ON l.attempt_id = a.id"
                " WHERE (a.state = 'open' AND a.deadline < ?)"
                f" OR (l.state IN {LIVE} AND l.deadline < ?)",
                *(str(now), str(now)),
            )
            if order not in waiting
        ]

    def _every_payment_has_its_order(self) -> list[Violation]:
        """It settles exactly one confirmed order or renews one subscription, or went back to the
        cent, or is an exception."""
        found = []
        for id, money in self.taken.items():
            by = self.booked.get(id)
            role = "renewal" if money.renews else "settles"
            counts = (
                by is not None
                and by[:4] == (role, money.order, money.amount, money.currency)
                and (money.renews or money.order in self.bought)
            )
            back = self.given_back[id] == money.amount
            waits = self.open_exceptions.get(id) in MAY_WAIT
            if not (counts or back or waits):
                what = f"{id} took {money.amount}, {role}; booked as {by}, no exception"
                found.append(Violation("money", money.order, what))
            if counts and self.given_back[id] and not self.cast.money_back.touched(money.order):
                found.append(Violation("money", money.order, f"{id} counts and was given back"))
        return found

    def _what_was_asked_back_went_back(self) -> list[Violation]:
        """Once, to the cent: what the counter was promised and what the dashboard gave, less what
        Stripe refused because the other was faster."""
        back, found = self.cast.money_back, []
        refused: Counter[str] = Counter()
        for order, amount in self.rows(
            "SELECT order_id, amount FROM refunds WHERE state IN ('refused', 'failed', 'canceled')"
        ):
            refused[order] += amount
        went: Counter[str] = Counter()
        past: Counter[str] = Counter()
        for intent, (role, order, *_) in self.booked.items():
            if role in ("settles", "renewal"):
                went[order] += self.given_back[intent]
                past[order] += back.past_the_shop[intent]
        for order in {*went, *back.asked}:
            wanted = back.asked[order] + past[order] - refused[order]
            if went[order] < wanted or (went[order] > wanted and order not in back.unsure):
                what = f"{wanted} were to go back, {went[order]} did"
                found.append(Violation("refunds", order, what))
        return found

    def _every_order_has_its_payment(self) -> list[Violation]:
        """All of it, less the lines that are not paid for, or not yet."""
        paid_for: defaultdict[str, int] = defaultdict(int)
        found = []
        for intent, (role, order, amount, _, part) in self.booked.items():
            if intent not in self.taken:
                found.append(Violation("money", order, f"{intent} never took money at Stripe"))
            if role != "settles":
                continue
            paid_for[order] += amount
            if part and self.line_states.get((order, part)) != "active":
                found.append(Violation("money", order, f"{part} is paid for, and not active"))
        for order, status, total, _ in self.orders.values():
            lacks = sum(
                first_amount(line)
                for line in self.sold[order].plans
                if self.line_states[order, line["sku"]] != "active"
            )
            if order in self.bought and paid_for[order] != total - lacks:
                costs = f"costs {total}, {lacks} of it unpaid lines"
                found.append(Violation("money", order, f"{costs}; paid {paid_for[order]}"))
            if order not in self.bought and paid_for[order]:
                found.append(Violation("money", order, f"is {status}, paid {paid_for[order]}"))
        return found

    def _plans_run_as_their_lines_say(self) -> list[Violation]:
        """A line has the one subscription at Stripe that its state names, or none; nothing runs for
        anything else; and our own rows show what Stripe has."""
        at_stripe: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for one in self.box.store.objects["subscription"].values():
            for title in self.box.titles_of(one):
                at_stripe[attempt_of(one), SKUS[title]].append(one)
        found = []
        for (order, sku), all_of_it in at_stripe.items():
            runs = [one for one in all_of_it if one["status"] in RUNNING]
            waits = [one for one in all_of_it if one["status"] == "incomplete"]
            sold = self.sold.get(order)
            if sold is None or self._is_with_a_person(order, runs):
                continue  # the shop has forgotten it: its money is an exception
            state = self.line_states.get((order, sku), "none") if sold.state == "settled" else ""
            most_run = 1 if state == "active" else 0
            may_wait = 1 if state in HELD_LINES or sold.state == "open" else 0
            if len(runs) > most_run or len(waits) > may_wait:
                seen = ", ".join(f"{one['id']} {one['status']}" for one in (*runs, *waits))
                what = f"{sku} of an attempt {sold.state}, line {state or 'none'}: {seen}"
                found.append(Violation("plans", order, what))
        for (order, sku), state in self.line_states.items():
            if sku not in PLANS or self.sold[order].state != "settled":
                continue
            known = at_stripe[order, sku]
            if not _is_so(state, known):
                seen = ", ".join(f"{one['id']} {one['status']}" for one in known) or "none"
                found.append(Violation("plans", order, f"{sku} is {state}; at Stripe: {seen}"))
        for order, sku, id, status in self.rows(
            "SELECT checkout_attempt_id, part, stripe_id, status FROM subscriptions"
        ):
            there = self.box.store.objects["subscription"][id]["status"]
            if there != status:
                found.append(Violation("plans", order, f"{sku}: {id} is {there}, here {status}"))
        return found

    def _is_with_a_person(self, order: str, runs: list[dict[str, Any]]) -> bool:
        """Begun through a page that the shop did not open, its money an open exception."""
        intents = [self.box.intent_of(one["latest_invoice"]) for one in runs]
        return order in self.cast.strays and bool(self.open_exceptions.keys() & set(intents))

    def _each_invoice_is_one_payment(self) -> list[Violation]:
        """Each paid invoice of ours at Stripe, to the cent."""
        booked: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for invoice, intent, amount in self.rows(
            "SELECT invoice, payment_intent, amount FROM payments WHERE invoice IS NOT NULL"
        ):
            booked[invoice].append((intent, amount))
        found = []
        for intent, money in self.taken.items():
            is_known = intent in self.open_exceptions and intent not in self.booked
            if money.invoice and booked[money.invoice] != [(intent, money.amount)] and not is_known:
                what = f"{money.invoice} took {money.amount}, booked {booked[money.invoice]}"
                found.append(Violation("money", money.order, what))
        return found

    def _nobody_paid_in_vain(self) -> list[Violation]:
        """Who paid a page of the shop gets the order, and no refund instead of it (rule R5): only
        a page that was opened past the shop can be paid too late, or be why an order is paid
        twice."""
        found = []
        for id, type_, order in self.rows("SELECT stripe_id, type, order_id FROM exceptions"):
            past_the_shop = id in self.paid_by_stray or (
                type_ in ("duplicate_payment", "owner_mismatch") and order in self.cast.strays
            )
            if type_ not in OTHER_MATTERS and not past_the_shop:
                what = f"{type_} of {id}: the shopper paid a page that we gave up"
                found.append(Violation("R5", order or "", what))
        for order, written in self.then.items():
            late = ("closed", "settled") in pairwise(then.state for then in written)
            if late and order not in self.cast.strays:
                found.append(Violation("R5", order, "had ended before it was paid"))
        return found

    def _nothing_was_given_for_nothing(self) -> list[Violation]:
        """An order that costs nothing is confirmed when a page of it was completed at Stripe, or
        its trial has begun; and one page that the shop has opened is enough."""
        box, found = self.world.sandbox, []
        completed = {
            id: attempt_of(session)
            for id, session in box.store.objects["checkout.session"].items()
            if session["payment_status"] == "no_payment_required"
        }
        completed |= {
            one["id"]: attempt_of(one)
            for one in box.store.objects["subscription"].values()
            if box.begun_by_the_shop(one) and one["status"] != "incomplete_expired"
        }
        at_the_shop = {order for id, order in completed.items() if id not in box.strays}
        for order, status, total, _ in self.orders.values():
            if total == 0 and status in PAID and order not in completed.values():
                found.append(Violation("money", order, "costs nothing, and nobody completed it"))
            if total == 0 and status not in PAID and order in at_the_shop:
                found.append(Violation("money", order, f"costs nothing, completed, is {status}"))
        return found

    def _stock_adds_up(self) -> list[Violation]:
        """Line by line: what recurs is sold with its first payment, and not before."""
        units: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for order, sold in self.sold.items():
            for line in sold.lines:
                where = {"open": "held", "settled": "sold", "closed": "free"}[sold.state]
                if sold.state == "settled" and line.get("plan"):
                    state = self.line_states.get((order, line["sku"]), "none")
                    where = "held" if state in HELD_LINES else "free"
                    where = "sold" if state == "active" else where
                units[line["sku"]][where] += line["quantity"]
        initial, found = dict(ON_SALE), []
        for sku, order, quantity in self.rows(
            "SELECT p.sku, m.order_id, m.quantity FROM stock_movements m"
            " JOIN products p ON p.id = m.product_id WHERE m.kind = 'restocked'"
        ):
            units[sku]["sold"] -= quantity
            if not self.cast.money_back.touched(order):
                found.append(Violation("stock", sku, f"{quantity} of {order} back unasked"))
        for sku, on_hand, held, sold_ in self.rows("SELECT sku, on_hand, held, sold FROM products"):
            bought, out = units[sku]["sold"], units[sku]["held"]
            if (on_hand, held, sold_) != (initial[sku] - bought, out, bought):
                shelf = f"on hand {on_hand}, held {held}, sold {sold_}"
                what = f"{shelf}; of {initial[sku]} {bought} bought, {out} out"
                found.append(Violation("stock", sku, what))
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
            if len(receipts[order]) != (order in self.bought)
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
                if shopper in self.cast.shoppers:  # else made anew: nobody's basket had them
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

    def _lines_left_in_time(self) -> list[Violation]:
        """After every single transaction: an open attempt holds its stock, and has its lines where
        its strategy says; one that has ended holds nothing."""
        returned = self._returns()
        found = []
        for order, written in self.then.items():
            for then in written:
                came_back = any(tx <= then.tx for tx in returned[order])
                if then.hold != HOLDS[then.state]:
                    found.append(Violation("stock", order, f"{then.state}, its stock {then.hold}"))
                if then.lines_out not in _may_be_out(then, came_back):
                    where = "out" if then.lines_out else "in the basket"
                    found.append(
                        Violation("lines", order, f"{then.strategy}, {then.state}: {where}")
                    )
        return found

    def _orders_were_born_in_time(self) -> list[Violation]:
        """order_first: with the attempt. pay_first: never before its money, or before nothing was
        due. dual_track: not before its own shopper came back, and then provisionally."""
        money = {
            order: tx
            for tx, order in self.rows(
                "SELECT MIN(m.tx), m.attempt_id FROM storm_money m JOIN payments p"
                " ON p.payment_intent = m.payment_intent AND p.role = 'settles'"
                " GROUP BY m.attempt_id"
            )
        } | {
            order: tx
            for tx, order in self.rows(
                "SELECT MIN(l.tx), l.attempt_id FROM storm_legs l JOIN checkout_attempts a"
                " ON a.id = l.attempt_id WHERE a.total = 0 AND l.state = 'complete'"
                " AND l.kind <> 'setup_intent' GROUP BY l.attempt_id"
            )
        }
        returned, born, found = self._returns(), set(), []
        for tx, order, strategy, provisional in self.rows(
            "SELECT tx, id, strategy, provisional FROM storm_births"
        ):
            born.add(order)
            begun = next(then for then in reversed(self.then[order]) if then.tx <= tx)
            is_paid = order in money and money[order] <= tx
            came_back = any(at <= tx for at in returned[order])
            may_be_born = (
                is_paid
                or {
                    "order_first": self.then[order][0].tx == tx and not provisional,
                    "pay_first": False,
                    "dual_track": came_back and bool(provisional),
                }[strategy]
            )
            if strategy != begun.strategy:
                found.append(Violation("strategy", order, f"{begun.strategy} became {strategy}"))
            if not may_be_born:
                found.append(Violation("strategy", order, f"{strategy}: born before its time"))
            if is_paid and provisional:
                found.append(Violation("strategy", order, "provisional, though its money was seen"))
        anew = {
            order
            for (order,) in self.rows(
                "SELECT order_id FROM order_events WHERE detail LIKE 'made anew%'"
            )
        }
        for order, written in self.then.items():
            then = written[-1]
            is_due = then.state == "settled" or (
                then.strategy == "order_first" and written[0].state == "open" and order not in anew
            )
            if is_due and order not in born:
                found.append(Violation("strategy", order, f"{then.strategy}, {then.state}: unborn"))
        found += [
            Violation("strategy", order, f"{status}, and still provisional")
            for order, status in self.rows("SELECT id, status FROM orders WHERE is_provisional")
            if status != "pending_payment"
        ]
        return found

    def _retries_had_a_page_of_their_own(self) -> list[Violation]:
        """An ended attempt is open again only with a new payment page."""
        drafted = set(
            self.rows("SELECT tx, attempt_id FROM storm_legs WHERE is_ours AND state = 'creating'")
        )
        return [
            Violation("retry", order, "is open again without a new page")
            for order, written in self.then.items()
            for before, after in pairwise(written)
            if (before.state, after.state) == ("closed", "open")
            and (after.tx, order) not in drafted
        ]

    def _no_page_can_be_paid(self) -> list[Violation]:
        """Past all deadlines: of those that the shop opened, also where it never got the answer."""
        return [
            Violation("retry", order, f"{id} can still be paid")
            for order, pages in self.world.sandbox.opened.items()
            for id in pages
            if self.world.sandbox.is_payable(id) and not self._is_yet_to_be_paid(order, id)
        ]

    def _is_yet_to_be_paid(self, order: str, id: str) -> bool:
        """A first invoice that was declined, within its 23 hours."""
        waiting = self.rows(
            "SELECT 1 FROM stripe_legs WHERE stripe_id = ? AND attempt_id = ? AND kind = 'invoice'"
            " AND state = 'open'",
            *(id, order),
        )
        return bool(waiting)

    def _returns(self) -> defaultdict[str, list[int]]:
        """When the shopper of each order came back from paying, by the transaction after it."""
        returned: defaultdict[str, list[int]] = defaultdict(list)
        for tx, order in self.rows("SELECT tx, attempt_id FROM storm_returns"):
            returned[order].append(tx)
        return returned

    def _history_replays(self) -> list[Violation]:
        """For orders, and for attempts that never became one."""
        at: dict[str, str] = {}
        found = []
        for order, before, after in self.rows(
            "SELECT order_id, from_status, to_status FROM order_events"
            " WHERE kind = 'transition' ORDER BY id"
        ):
            if at.get(order) != before:
                found.append(Violation("history", order, f"{at.get(order)}, then {before}→{after}"))
            at[order] = after
        for table in ("checkout_attempts", "orders"):
            found += [
                Violation("history", order, f"ends at {at.get(order)}; in {table} it is {status}")
                for order, status in self.rows(f"SELECT id, status FROM {table}")
                if at.get(order) != status
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
        noted = self.rows("SELECT about, what FROM storm_watch")
        return [
            Violation("never", about, what)
            for about, what in [*noted, *self.world.sandbox.wrong, *self.cast.sins]
        ]


def decided(world: World) -> set[str]:
    """Intents that succeeded or were canceled at Stripe, sessions that expired there or were
    completed with nothing to pay, invoices that are paid or void, by now."""
    world.sandbox.tick()
    objects = world.sandbox.store.objects
    return (
        {
            id
            for kind in ("payment_intent", "setup_intent")
            for id, intent in objects[kind].items()
            if intent["status"] in ("succeeded", "canceled")
        }
        | {
            id
            for id, session in objects["checkout.session"].items()
            if session["status"] == "expired" or session["payment_status"] == "no_payment_required"
        }
        | {id for id, bill in objects["invoice"].items() if bill["status"] in ("paid", "void")}
    )


def _is_so(state: str, known: list[dict[str, Any]]) -> bool:
    """Whether the subscriptions of a line at Stripe are what its state says."""
    runs = [one for one in known if one["status"] in RUNNING]
    waits = [one for one in known if one["status"] == "incomplete"]
    if state == "active":
        return len(runs) == 1 or (not runs and any(one["status"] == "canceled" for one in known))
    if state in HELD_LINES:  # with nothing at Stripe there is nothing to wait for
        return not runs and len(waits) == 1
    if state == "not_started":
        return not known
    return not runs and not waits  # ended


def _may_be_out(then: Then, came_back: bool) -> tuple[bool, ...]:
    """Whether the lines of an attempt may be out of the basket: always, never, or either."""
    if then.state != "open":
        return (then.state == "settled",)
    if then.parked or then.strategy == "order_first":
        return (True,)
    if then.strategy == "dual_track" and came_back:
        return (True, False)  # the request that welcomes the shopper may be under way, or dead
    return (False,)


def _json(text: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(text)
    return lines
