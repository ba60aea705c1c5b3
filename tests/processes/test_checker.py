"""The storm's checker finds what is wrong: one fault at a time in books that were right."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest

from storm.processes.bots import PRICES, Checkout
from storm.processes.checker import OURS, Books, judge
from storm.processes.house import ROOT
from storm.processes.wires import Mail

SKU = "MUG"
PRICE = PRICES[SKU]


def books() -> Books:
    """One order of one mug, paid, refunded in part, and told of."""
    return Books(
        payments=[
            {
                "id": "pi_1",
                "status": "succeeded",
                "amount_received": PRICE + 490,
                "currency": "eur",
                "metadata": {OURS: "a1"},
            }
        ],
        refunds=[
            {
                "id": "re_1",
                "payment_intent": "pi_1",
                "amount": 100,
                "status": "succeeded",
                "metadata": {"refund_row": "7"},
            }
        ],
        sessions=[
            {"id": "cs_1", "status": "complete", "payment_status": "paid", "metadata": {OURS: "a1"}}
        ],
        shop={
            "attempt": [{"id": "a1", "state": "settled"}],
            "leg": [{"stripe_id": "cs_1", "state": "complete"}],
            "order": [
                {
                    "id": "a1",
                    "status": "payment_confirmed",
                    "subtotal": PRICE,
                    "discount": 0,
                    "shipping": 490,
                    "tax": 0,
                    "total": PRICE + 490,
                    "paid_at": "2026-03-02T09:00:00+00:00",
                }
            ],
            "order_item": [{"order": "a1", "sku": SKU, "quantity": 1}],
            "payment": [
                {
                    "payment_intent": "pi_1",
                    "attempt": "a1",
                    "amount": PRICE + 490,
                    "currency": "eur",
                    "role": "settles",
                }
            ],
            "refund": [
                {
                    "payment_intent": "pi_1",
                    "amount": 100,
                    "state": "succeeded",
                    "stripe_id": "re_1",
                }
            ],
            "exception": [],
            "stock": [
                {
                    "sku": SKU,
                    "initial": 5,
                    "received": 0,
                    "restocked": 0,
                    "on_hand": 4,
                    "held": 0,
                    "sold": 1,
                }
            ],
            "message": [
                {
                    "message_kind": "receipt",
                    "key": "a1",
                    "order": "a1",
                    "message_id": "<1@shop>",
                    "sent_at": "2026-03-02T09:00:01+00:00",
                }
            ],
            "event": [{"id": "evt_1", "type": "charge.succeeded", "state": "done"}],
        },
        mails=[Mail(0.0, "<1@shop>", "maya@example.com", "Your receipt for order H-1")],
        checkouts=[Checkout(1, "buys", order_id="a1", seen_paid_at=1.0)],
    )


def no_payment_row(of: Books) -> None:
    of.shop["payment"].clear()


def no_order(of: Books) -> None:
    of.shop["order"][0]["status"] = "pending_payment"


def paid_twice(of: Books) -> None:
    of.payments.append(of.payments[0] | {"id": "pi_2"})
    of.shop["payment"].append(of.shop["payment"][0] | {"payment_intent": "pi_2"})


def surplus_kept(of: Books) -> None:
    of.payments.append(of.payments[0] | {"id": "pi_2"})
    row = {"payment_intent": "pi_2", "role": "surplus"}
    of.shop["payment"].append(of.shop["payment"][0] | row)


def a_payment_of_nobody(of: Books) -> None:
    of.shop["payment"].append(of.shop["payment"][0] | {"payment_intent": "pi_9"})


def another_amount(of: Books) -> None:
    of.shop["payment"][0]["amount"] -= 1


def another_total(of: Books) -> None:
    of.shop["order"][0]["total"] += 1


def another_price(of: Books) -> None:
    of.shop["order"][0]["subtotal"] -= 1
    of.shop["order"][0]["shipping"] += 1


def refund_unknown_here(of: Books) -> None:
    of.shop["refund"].clear()


def refunded_twice(of: Books) -> None:
    of.refunds.append(of.refunds[0] | {"id": "re_2"})
    of.shop["refund"].append(of.shop["refund"][0] | {"stripe_id": "re_2"})


def oversold(of: Books) -> None:
    of.shop["order_item"][0]["quantity"] = 6


def sold_without_an_order(of: Books) -> None:
    of.shop["stock"][0] |= {"on_hand": 3, "sold": 2}


def another_receipt(of: Books) -> None:
    of.mails.append(Mail(0.0, "<2@shop>", "maya@example.com", "Your receipt for order H-1"))


def receipt_never_came(of: Books) -> None:
    of.mails.clear()


def receipt_never_owed(of: Books) -> None:
    of.shop["message"].clear()


def seen_paid_and_gone(of: Books) -> None:
    of.checkouts[0].order_id = "a2"


BROKEN: list[tuple[Callable[[Books], None], str]] = [
    (no_payment_row, "lost"),
    (no_order, "lost"),
    (surplus_kept, "lost"),
    (receipt_never_came, "lost"),
    (receipt_never_owed, "lost"),
    (seen_paid_and_gone, "lost"),
    (paid_twice, "duplicated"),
    (a_payment_of_nobody, "duplicated"),
    (refunded_twice, "duplicated"),
    (another_amount, "amount errors"),
    (another_total, "amount errors"),
    (another_price, "amount errors"),
    (refund_unknown_here, "amount errors"),
    (oversold, "oversold"),
    (sold_without_an_order, "oversold"),
    (another_receipt, "second receipts"),
]


def test_right_books_are_clean() -> None:
    verdict = judge(books())

    assert verdict.is_clean, (dict(verdict.broken), verdict.pending)


@pytest.mark.parametrize(("spoil", "promise"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_what_is_wrong_is_found_under_its_name(
    spoil: Callable[[Books], None], promise: str
) -> None:
    spoiled = copy.deepcopy(books())
    spoil(spoiled)

    assert promise in {name for name, found in judge(spoiled).broken.items() if found}


def test_the_same_letter_twice_is_one_receipt() -> None:
    twice = books()
    twice.mails *= 2

    assert judge(twice).is_clean


def test_what_is_under_way_is_pending_and_not_broken() -> None:
    waiting = books()
    waiting.shop["event"][0]["state"] = "new"
    waiting.shop["message"].append(
        {"message_kind": "refund", "key": "1", "order": "a1", "sent_at": None, "message_id": None}
    )
    waiting.sessions.append({**waiting.sessions[0], "id": "cs_2", "status": "expired"})
    waiting.shop["leg"].append({"stripe_id": "cs_2", "state": "open"})

    verdict = judge(waiting)

    assert len(verdict.pending) == 3
    assert not any(verdict.broken.values())


def test_the_storm_of_processes_imports_nothing_of_the_shop() -> None:
    script = (
        "import sys; import storm.processes.__main__;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)

    theirs = {"app", "config", "domain", "extensions", "gateway", "models", "sandbox", "services"}
    assert done.returncode == 0, done.stderr
    assert not theirs & set(done.stdout.split())
