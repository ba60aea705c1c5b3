"""The proof from outside: Stripe's books, the mail server's letters and what the shop exports, held
against one another. Nothing of the shop's own code takes part."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from storm.processes.bots import PRICES, Checkout
from storm.processes.wires import Mail

CONFIRMED = ("payment_confirmed", "awaiting_shipment", "shipped", "delivered")
RECEIPT = "Your receipt for order "
OURS = "checkout_attempt_id"

Row = dict[str, Any]


@dataclass
class Books:
    """All that is known from three sides."""

    payments: list[Row]  # Stripe's
    refunds: list[Row]
    sessions: list[Row]
    shop: dict[str, list[Row]]  # by kind, as exported
    mails: list[Mail]
    checkouts: list[Checkout] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        ledger: Row,
        sessions: list[Row],
        export: str,
        mails: list[Mail],
        checkouts: list[Checkout],
    ) -> Books:
        shop: dict[str, list[Row]] = defaultdict(list)
        for line in export.splitlines():
            row = json.loads(line)
            shop[row["kind"]].append(row)
        return cls(ledger["payments"], ledger["refunds"], sessions, shop, mails, checkouts)


@dataclass
class Verdict:
    """What is broken, by its name, and what is still under way."""

    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pending: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not any(self.broken.values()) and not self.pending


def judge(books: Books) -> Verdict:
    verdict = Verdict()
    _money(books, verdict)
    _orders(books, verdict)
    _refunds(books, verdict)
    _stock(books, verdict)
    _receipts(books, verdict)
    _under_way(books, verdict)
    return verdict


def _money(books: Books, verdict: Verdict) -> None:
    """Each payment that Stripe took is an order, given back, or before a person."""
    known = {row["payment_intent"]: row for row in books.shop["payment"]}
    orders = {row["id"]: row for row in books.shop["order"]}
    with_a_person = {row["stripe_id"] for row in books.shop["exception"] if row["state"] == "open"}
    given_back = _given_back(books)
    settling: Counter[str] = Counter()
    for paid in books.payments:
        if paid["status"] != "succeeded":
            continue
        id_, attempt = paid["id"], (paid["metadata"] or {}).get(OURS, "")
        verdict.figures["payments at Stripe"] += 1
        is_back = given_back[id_] == paid["amount_received"]
        if id_ not in known:
            verdict.pending.append(f"{id_}: the shop does not know this payment")
            verdict.broken["lost"].append(f"{id_} of {attempt}")
            continue
        row = known[id_]
        if (row["amount"], row["currency"]) != (paid["amount_received"], paid["currency"]):
            verdict.broken["amount errors"].append(f"{id_}: {row['amount']} here")
        if row["role"] == "settles":
            settling[attempt] += 1
            if orders.get(attempt, {}).get("status") not in CONFIRMED and not is_back:
                verdict.broken["lost"].append(f"{id_}: no confirmed order {attempt}")
        elif not is_back and id_ not in with_a_person:
            verdict.pending.append(f"{id_} ({row['role']}): neither given back nor looked at")
            verdict.broken["lost"].append(f"{id_} ({row['role']})")
    for attempt, times in settling.items():
        if times > 1:
            verdict.broken["duplicated"].append(f"{attempt}: paid {times} times")
    theirs = {paid["id"] for paid in books.payments if paid["status"] == "succeeded"}
    for id_ in known.keys() - theirs:
        verdict.broken["duplicated"].append(f"{id_}: Stripe does not have it")
    for attempt, times in Counter(row["id"] for row in books.shop["order"]).items():
        if times > 1:
            verdict.broken["duplicated"].append(f"order {attempt} is there {times} times")


def _orders(books: Books, verdict: Verdict) -> None:
    """Each confirmed order has its payment, to the cent, at the price that was on the shelf."""
    taken = {paid["id"]: paid["amount_received"] for paid in books.payments}
    settled: Counter[str] = Counter()
    for row in books.shop["payment"]:
        if row["role"] == "settles":
            settled[row["attempt"]] += taken.get(row["payment_intent"], 0)
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in books.shop["order_item"]:
        lines[row["order"]].append(row)
    for order in books.shop["order"]:
        if order["status"] not in CONFIRMED:
            continue
        verdict.figures["confirmed orders"] += 1
        id_, total = order["id"], order["total"]
        if settled[id_] != total:
            verdict.broken["amount errors"].append(f"{id_}: {settled[id_]} paid of {total}")
        goods = sum(line["quantity"] * PRICES[line["sku"]] for line in lines[id_])
        sums = order["subtotal"] - order["discount"] + order["shipping"] + order["tax"]
        if goods != order["subtotal"] or sums != total:
            verdict.broken["amount errors"].append(f"{id_}: {goods} of goods, {sums} in all")
    # What a shopper was shown as paid stays so.
    orders = {row["id"]: row for row in books.shop["order"]}
    for told in books.checkouts:
        if told.seen_paid_at and orders.get(told.order_id, {}).get("paid_at") is None:
            verdict.broken["lost"].append(f"shopper {told.number} saw {told.order_id} paid")


def _given_back(books: Books) -> Counter[str]:
    back: Counter[str] = Counter()
    for refund in books.refunds:
        if refund["status"] in ("succeeded", "pending"):
            back[refund["payment_intent"]] += refund["amount"]
    return back


def _refunds(books: Books, verdict: Verdict) -> None:
    """Both sides gave back the same, never more than was taken, and each refund of ours once."""
    here: Counter[str] = Counter()
    for row in books.shop["refund"]:
        if row["state"] in ("succeeded", "pending") and row["stripe_id"]:
            here[row["payment_intent"]] += row["amount"]
    there, taken = _given_back(books), {p["id"]: p["amount_received"] for p in books.payments}
    for intent in here.keys() | there.keys():
        if here[intent] != there[intent]:
            text = f"{intent}: {there[intent]} given back at Stripe, {here[intent]} here"
            verdict.pending.append(text)
            verdict.broken["amount errors"].append(text)
        if there[intent] > taken.get(intent, 0):
            verdict.broken["duplicated"].append(f"{intent}: more given back than taken")
    rows = Counter((refund["metadata"] or {}).get("refund_row") for refund in books.refunds)
    verdict.figures["refunds"] = len(books.refunds)
    for ours, times in rows.items():
        if ours and times > 1:
            verdict.broken["duplicated"].append(f"refund {ours} was made {times} times")


def _stock(books: Books, verdict: Verdict) -> None:
    """No more was sold than there was, and the shelf agrees with the orders."""
    status = {row["id"]: row["paid_at"] for row in books.shop["order"]}
    sold: Counter[str] = Counter()
    for line in books.shop["order_item"]:
        if status.get(line["order"]):
            sold[line["sku"]] += line["quantity"]
    for row in books.shop["stock"]:
        sku, there_was = row["sku"], row["initial"] + row["received"]
        if sku not in PRICES:
            continue
        if sold[sku] - row["restocked"] > there_was or not 0 <= row["held"] <= row["on_hand"]:
            verdict.broken["oversold"].append(f"{sku}: {sold[sku]} sold of {there_was}")
        if there_was != row["on_hand"] + row["sold"] or row["sold"] != sold[sku] - row["restocked"]:
            verdict.broken["oversold"].append(
                f"{sku}: {there_was} came, {row['on_hand']} there, {row['sold']} sold, "
                f"{sold[sku]} ordered"
            )


def _receipts(books: Books, verdict: Verdict) -> None:
    """One receipt, by its Message-ID, of each confirmed order, and of nothing else."""
    came: dict[str, set[str]] = defaultdict(set)
    for mail in books.mails:
        if mail.subject.startswith(RECEIPT):
            verdict.figures["receipts that came"] += 1
            came[mail.subject.removeprefix(RECEIPT)].add(mail.message_id)
    letters = {mail.message_id for mail in books.mails}
    verdict.figures["orders with a receipt"] = len(came)
    for number, ids in came.items():
        if len(ids) > 1:
            verdict.broken["second receipts"].append(f"order {number}: {sorted(ids)}")
    owed = [row for row in books.shop["message"] if row["message_kind"] == "receipt"]
    for order, times in Counter(row["order"] for row in owed).items():
        if times > 1:
            verdict.broken["second receipts"].append(f"{order}: owed {times} times")
    paid = {row["id"] for row in books.shop["order"] if row["paid_at"]}
    for order in paid ^ {row["order"] for row in owed}:
        verdict.broken["lost"].append(f"{order}: paid and receipt do not go together")
    for row in owed:
        if row["sent_at"] and row["message_id"] not in letters:
            verdict.broken["lost"].append(f"{row['order']}: the receipt never came")


def _under_way(books: Books, verdict: Verdict) -> None:
    """What should be decided by now: nothing stays open that Stripe has decided."""
    verdict.pending += [
        f"{row['message_kind']}:{row['key']} is not sent"
        for row in books.shop["message"]
        if row["sent_at"] is None
    ]
    verdict.pending += [
        f"{row['id']} ({row['type']}) is {row['state']}"
        for row in books.shop["event"]
        if row["state"] not in ("done", "ignored")
    ]
    orders = {row["id"]: row for row in books.shop["order"]}
    attempts = {row["id"]: row for row in books.shop["attempt"]}
    for session in books.sessions:
        attempt = (session["metadata"] or {}).get(OURS, "")
        if session["status"] == "complete" and session["payment_status"] == "paid":
            if attempts.get(attempt, {}).get("state") == "open":
                verdict.pending.append(f"{attempt}: paid at Stripe, open here")
            if orders.get(attempt, {}).get("status") == "pending_payment":
                verdict.pending.append(f"{attempt}: paid at Stripe, pending here")
    by_session = {leg["stripe_id"]: leg for leg in books.shop["leg"]}
    for session in books.sessions:
        leg = by_session.get(session["id"])
        if session["status"] == "expired" and leg and leg["state"] in ("open", "creating"):
            verdict.pending.append(f"{session['id']}: expired at Stripe, {leg['state']} here")
