"""/v1/charges, /v1/disputes, /v1/balance_transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import aftermath
from ..errors import ApiError
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

# Stripe's own words that decide a test dispute.
WINNING = "winning_evidence"
LOSING = "losing_evidence"


def retrieve_charge(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "charge", id)


def list_charges(box: Sandbox, params: Obj) -> Obj:
    def keep(charge: Obj) -> bool:
        wanted = ("payment_intent", "customer", "transfer_group")
        return all(n not in params or charge[n] == params[n] for n in wanted)

    return reading.page(box, "charge", params, "/v1/charges", keep)


def retrieve_dispute(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "dispute", id)


def list_disputes(box: Sandbox, params: Obj) -> Obj:
    def keep(dispute: Obj) -> bool:
        return all(n not in params or dispute[n] == params[n] for n in ("payment_intent", "charge"))

    return reading.page(box, "dispute", params, "/v1/disputes", keep)


def update_dispute(box: Sandbox, params: Obj, id: str) -> Obj:
    """Evidence that consists of Stripe's test words wins or loses at once."""
    dispute = reading.find(box, "dispute", id)
    given = params.get("evidence") or {}
    if given and dispute["status"] != "needs_response":
        raise ApiError("This dispute is closed; evidence can no longer be given.", param="evidence")
    dispute["evidence"] |= {k: v for k, v in given.items() if k in dispute["evidence"]}
    amounts.merge_metadata(dispute, params)
    if given:
        dispute["evidence_details"]["has_evidence"] = True
    box.store.put(dispute)
    if not params.get("submit", True):
        return dispute
    words = dispute["evidence"]["uncategorized_text"]
    if words in (WINNING, LOSING):
        dispute["evidence_details"] |= {"submission_count": 1, "submission_method": "manual"}
        aftermath.close_dispute(box, dispute, won=words == WINNING)
    return dispute


def close_dispute(box: Sandbox, params: Obj, id: str) -> Obj:
    dispute = reading.find(box, "dispute", id)
    if dispute["status"] != "needs_response":
        raise ApiError("This dispute is already closed.")
    aftermath.close_dispute(box, dispute, won=False)
    return dispute


def retrieve_balance(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "balance_transaction", id)


def list_balance(box: Sandbox, params: Obj) -> Obj:
    def keep(entry: Obj) -> bool:
        return all(n not in params or entry[n] == params[n] for n in ("source", "type", "currency"))

    return reading.page(box, "balance_transaction", params, "/v1/balance_transactions", keep)


ROUTES: dict[str, Callable[..., Any]] = {
    "GET /v1/charges": list_charges,
    "GET /v1/charges/{id}": retrieve_charge,
    "GET /v1/disputes": list_disputes,
    "GET /v1/disputes/{id}": retrieve_dispute,
    "POST /v1/disputes/{id}": update_dispute,
    "POST /v1/disputes/{id}/close": close_dispute,
    "GET /v1/balance_transactions": list_balance,
    "GET /v1/balance_transactions/{id}": retrieve_balance,
}
