"""What becomes of money that was taken: the balance, refunds, disputes; and who paid it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cards import way
from .contract import load
from .shapes import catalog, payments

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

DISPUTE_FEE = 1500  # minor units
ANSWER_DISPUTE_WITHIN_S = 9 * 86_400


def book_charge(box: Sandbox, charge: Obj) -> None:
    """Put a captured charge on the balance; a card that is known to dispute does so now."""
    net = charge["amount"] - charge["amount_refunded"]
    fee = net * 3 // 200 + 25
    charge["balance_transaction"] = _book(box, charge, net, "charge", fee)
    box.store.put(charge)
    box.emit("charge.updated", charge, {"balance_transaction": None})
    if way(box.store.aside[charge["id"]]["way"]).later == "disputed":
        open_dispute(box, charge)


def _book(box: Sandbox, source: Obj, amount: int, type: str, fee: int = 0) -> str:
    entry = payments.balance_transaction(
        box.store.new_id("txn_"),
        created=int(box.now()),
        source=source,
        amount=amount,
        fee=fee,
        type=type,
    )
    box.store.put(entry)
    id: str = entry["id"]
    return id


def new_refund(box: Sandbox, charge: Obj, amount: int, params: Obj) -> Obj:
    """Give ``amount`` back. Whether it arrives depends on how it was paid."""
    refund = payments.refund(
        box.store.new_id("re_"), created=int(box.now()), charge=charge, amount=amount, params=params
    )
    later = way(box.store.aside[charge["id"]]["way"]).later
    if later == "refund_waits":
        refund |= {"status": "pending", "pending_reason": "processing"}
        box.plan(box.refund_s, "refund_arrives", refund["id"])
    elif later == "refund_fails":
        box.plan(box.refund_s, "refund_fails", refund["id"])
    refund["balance_transaction"] = _book(box, refund, -amount, "refund")
    box.store.put(refund)
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    _move_refunded(box, charge, amount)
    box.emit("refund.created", refund)
    box.emit("charge.refunded", charge, before)
    return refund


def refund_arrives(box: Sandbox, refund_id: str) -> None:
    refund = box.store.objects["refund"].get(refund_id)
    if refund is None or refund["status"] != "pending":
        return
    refund["status"] = "succeeded"
    reason = refund.pop("pending_reason", "processing")
    box.store.put(refund)
    _tell_refund(box, refund, {"status": "pending", "pending_reason": reason})


def refund_fails(box: Sandbox, refund_id: str) -> None:
    """The bank sends the money back: the charge counts as not refunded by that much again."""
    refund = box.store.objects["refund"].get(refund_id)
    if refund is None or refund["status"] in ("failed", "canceled"):
        return
    before = {"status": refund["status"]}
    _undo(box, refund, "failed")
    refund["failure_reason"] = "expired_or_canceled_card"
    box.emit("refund.failed", refund)
    _tell_refund(box, refund, before)


def cancel_refund(box: Sandbox, refund: Obj) -> None:
    before = {"status": refund["status"]}
    _undo(box, refund, "canceled")
    _tell_refund(box, refund, before)


def _undo(box: Sandbox, refund: Obj, status: str) -> None:
    charge = box.store.objects["charge"][refund["charge"]]
    _move_refunded(box, charge, -refund["amount"])
    refund["status"] = status
    refund["failure_balance_transaction"] = _book(box, refund, refund["amount"], "refund_failure")
    box.store.put(refund)


def _tell_refund(box: Sandbox, refund: Obj, before: Obj) -> None:
    box.emit("refund.updated", refund, before)
    box.emit("charge.refund.updated", refund, before)


def _move_refunded(box: Sandbox, charge: Obj, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    box.store.put(charge)


def open_dispute(box: Sandbox, charge: Obj) -> Obj:
    """The buyer's bank takes the money back until the case is decided."""
    now = int(box.now())
    evidence = load()["$defs"]["Dispute.Evidence"]["required"]
    dispute = payments.dispute(
        box.store.new_id("du_"),
        created=now,
        charge=charge,
        evidence=evidence,
        due_by=now + ANSWER_DISPUTE_WITHIN_S,
    )
    box.store.put(dispute)
    charge["disputed"] = True
    box.store.put(charge)
    box.emit("charge.dispute.created", dispute)
    box.emit("charge.updated", charge, {"disputed": False})
    _withdraw(box, dispute, -1, "charge.dispute.funds_withdrawn")
    return dispute


def close_dispute(box: Sandbox, dispute: Obj, *, won: bool) -> None:
    before = {"status": dispute["status"]}
    dispute["status"] = "won" if won else "lost"
    box.store.put(dispute)
    box.emit("charge.dispute.updated", dispute, before)
    if won:
        _withdraw(box, dispute, +1, "charge.dispute.funds_reinstated")
    box.emit("charge.dispute.closed", dispute)


def _withdraw(box: Sandbox, dispute: Obj, sign: int, news: str) -> None:
    fee = DISPUTE_FEE if sign < 0 else 0
    id = _book(box, dispute, sign * dispute["amount"], "adjustment", fee)
    dispute["balance_transactions"].append(box.store.objects["balance_transaction"][id])
    box.store.put(dispute)
    box.emit(news, dispute)


def new_customer(box: Sandbox, params: Obj) -> str:
    customer = catalog.customer(box.store.new_id("cus_", 14), created=int(box.now()), params=params)
    box.store.put(customer)
    box.emit("customer.created", customer)
    id: str = customer["id"]
    return id
