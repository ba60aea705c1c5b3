"""All money there is here, in minor units, and the subscriptions that ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

PAYMENT = "id amount amount_received currency status latest_charge metadata created".split()
INVOICE = "id status billing_reason amount_due amount_paid currency created".split()
SUBSCRIPTION = (
    "id status customer currency metadata latest_invoice cancel_at ended_at created".split()
)
REFUND = "id amount currency status payment_intent charge metadata created".split()
DISPUTE = "id amount currency status payment_intent charge created".split()


def read(box: Sandbox) -> Obj:
    objects, aside = box.store.objects, box.store.aside
    return {
        "payments": [
            {
                **_some(intent, PAYMENT),
                "session": aside[intent["id"]]["session"],
                "invoice": aside[intent["id"]].get("invoice"),
            }
            for intent in objects["payment_intent"].values()
        ],
        "invoices": [
            {
                **_some(invoice, INVOICE),
                "subscription": aside[invoice["id"]]["subscription"],
                "payment_intent": aside[invoice["id"]]["intent"],
            }
            for invoice in objects["invoice"].values()
        ],
        "subscriptions": [_some(s, SUBSCRIPTION) for s in objects["subscription"].values()],
        "refunds": [_some(r, REFUND) for r in objects["refund"].values()],
        "disputes": [_some(d, DISPUTE) for d in objects["dispute"].values()],
    }


def _some(obj: Obj, names: Iterable[str]) -> Obj:
    return {name: obj[name] for name in names}
