"""Subscriptions: how they begin and end, and what time does to them in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import invoices, periods, setups
from .invoices import DAY_S, Charge
from .shapes import billing

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

FIRST_PAYMENT_WITHIN_S = 23 * 3600
TELL_OF_TRIAL_S = 3 * DAY_S
TELL_OF_RENEWAL_S = 7 * DAY_S
RUNNING = ("trialing", "active", "past_due", "unpaid")
ENDED = ("canceled", "incomplete_expired")


@dataclass(frozen=True)
class Wanted:
    """Something to be subscribed to, or with a price that does not recur, bought once beside it."""

    price: Obj
    quantity: int
    metadata: Obj = field(default_factory=dict)


# -- beginning ------------------------------------------------------------------------------------


def subscribe(
    box: Sandbox,
    params: Obj,
    wanted: list[Wanted],
    *,
    trial_end: int | None = None,
    leaves: Obj | None = None,
    behavior: str = "allow_incomplete",
    attended: bool = True,
    paid_by: Obj | None = None,
) -> Obj:
    """Begin a subscription, send its first invoice and try to collect it.

    ``params`` as the API takes them; ``leaves`` says when it is to end again. With ``paid_by``
    the first invoice's money was taken, or is under way, through that intent already.
    """
    store, now = box.store, int(box.now())
    recurring = [w for w in wanted if w.price["recurring"]]
    rhythm = recurring[0].price["recurring"]
    subscription = billing.subscription(
        store.new_id("sub_1"), created=now, currency=recurring[0].price["currency"], params=params
    )
    anchor = trial_end or now
    subscription |= {"billing_cycle_anchor": anchor, "trial_end": trial_end}
    subscription["trial_start"] = now if trial_end else None
    ends = trial_end or periods.after(anchor, rhythm, 1)
    subscription["items"]["data"] = [
        billing.subscription_item(
            store.new_id("si_", 14),
            created=now,
            subscription=subscription["id"],
            price=w.price,
            quantity=w.quantity,
            metadata=w.metadata,
        )
        | {"current_period_start": now, "current_period_end": ends}
        for w in recurring
    ]
    if leaves and (leaves["cancel_at"] or leaves["cancel_at_period_end"]):
        at = leaves["cancel_at"] or ends
        subscription |= {**leaves, "cancel_at": at, "canceled_at": now}
        subscription["cancellation_details"]["reason"] = "cancellation_requested"
    # Nobody hears of its changes before they have heard that it is there.
    store.put(subscription, told=False, cycle=0 if trial_end else 1, invoices=[])
    once = [w for w in wanted if not w.price["recurring"]]
    charges = _charges(box, subscription, trial=trial_end is not None)
    charges += [_once(box, w, now) for w in once]
    invoice = invoices.draft(box, subscription, charges, "subscription_create")
    subscription["latest_invoice"] = invoice["id"]
    _collect_first(box, subscription, invoice, behavior, attended, paid_by)
    store.put(subscription, told=True)
    box.emit("customer.subscription.created", subscription)
    if subscription["status"] == "incomplete":
        box.plan(FIRST_PAYMENT_WITHIN_S, "first_payment_overdue", subscription["id"])
    if subscription["cancel_at"] is not None:
        box.plan_at(subscription["cancel_at"], "cancellation_due", subscription["id"])
    _plan_period(box, subscription)
    return subscription


def _collect_first(
    box: Sandbox,
    subscription: Obj,
    invoice: Obj,
    behavior: str,
    attended: bool,
    paid_by: Obj | None,
) -> None:
    invoices.finalize(box, invoice, paid_by)
    method = invoices.method_for(box, subscription)
    if invoice["amount_due"] == 0:
        if behavior == "default_incomplete" and method is None:
            params = {"customer": subscription["customer"], "usage": "off_session"}
            pending = setups.new_setup(
                box, params, subscription["currency"], subscription=subscription["id"]
            )
            subscription["pending_setup_intent"] = pending["id"]
    elif paid_by is not None:
        word = "paid" if paid_by["status"] == "succeeded" else "processing"
        invoices.hear(box, invoice["id"], paid_by, word)
    elif behavior == "default_incomplete":
        intent = invoices.intent_of(box, invoice)
        if method is not None and intent is not None:
            intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
            box.store.put(intent)
    else:
        invoices.attempt(box, invoice, attended=attended)


def _charges(box: Sandbox, subscription: Obj, *, trial: bool = False) -> list[Charge]:
    """What the items ask for in their current period."""
    charges = []
    for item in subscription["items"]["data"]:
        price, quantity = item["price"], item["quantity"]
        name = _product(box, price)
        period = (item["current_period_start"], item["current_period_end"])
        says = f"Trial period for {name}" if trial else f"{quantity} × {name}"
        amount = 0 if trial else price["unit_amount"] * quantity
        metadata = {**subscription["metadata"], **item["metadata"]}
        charges.append(Charge(price, quantity, amount, says, period, item["id"], metadata))
    return charges


def _once(box: Sandbox, wanted: Wanted, now: int) -> Charge:
    price, quantity = wanted.price, wanted.quantity
    amount = price["unit_amount"] * quantity
    name = _product(box, price)
    return Charge(price, quantity, amount, name, (now, now), None, dict(wanted.metadata))


def _product(box: Sandbox, price: Obj) -> str:
    name: str = box.store.objects["product"][price["product"]]["name"]
    return name


# -- what its invoices and its card tell it -------------------------------------------------------


def hear(box: Sandbox, id: str, obj: Obj, word: str) -> None:
    """An invoice of this subscription, or the setup of its card, did what ``word`` says."""
    subscription = box.store.objects["subscription"][id]
    if obj["object"] == "setup_intent":
        if word == "saved":
            change(
                box,
                subscription,
                default_payment_method=obj["payment_method"],
                pending_setup_intent=None,
            )
        return
    if subscription["status"] in ENDED:
        return
    if word == "paid":
        _was_paid(box, subscription, obj)
    elif word == "void":
        _was_voided(box, subscription, obj)
    elif subscription["status"] == "incomplete":
        if box.now() >= subscription["created"] + FIRST_PAYMENT_WITHIN_S:
            first_payment_overdue(box, id)  # a debit that bounced after days
    elif subscription["status"] != "paused":
        _was_not_paid(box, subscription, word)


def _was_paid(box: Sandbox, subscription: Obj, invoice: Obj) -> None:
    changes: Obj = {}
    intent = invoices.intent_of(box, invoice)
    method = intent["payment_method"] if intent else None
    if method and _becomes_default(box, subscription, intent):
        changes["default_payment_method"] = method
    status = subscription["status"]
    if invoice["id"] == subscription["latest_invoice"] and status != "trialing":
        # Until it was paid, nobody knew whether there would be a trial.
        waits = subscription["trial_end"] or 0
        changes["status"] = "trialing" if waits > box.now() else "active"
        if status == "incomplete" and period_end(subscription) <= box.now():
            box.plan(0, "period_ends", subscription["id"])  # the money took longer than the period
    if status == "paused":
        _resumed(box, subscription, **changes)
    else:
        change(box, subscription, **changes)


def _becomes_default(box: Sandbox, subscription: Obj, intent: Obj | None) -> bool:
    if subscription["payment_settings"]["save_default_payment_method"] == "on_subscription":
        return True
    return intent is not None and bool(box.store.aside[intent["id"]].get("becomes_default"))


def _was_not_paid(box: Sandbox, subscription: Obj, word: str) -> None:
    then = box.chaos.after_retries if word == "exhausted" else ""
    if then == "unpaid":
        change(box, subscription, status="unpaid")
    elif subscription["status"] != "unpaid":
        change(box, subscription, status="past_due")
    if then == "cancel":
        end(box, subscription, "payment_failed")


def _was_voided(box: Sandbox, subscription: Obj, invoice: Obj) -> None:
    """The most recent invoice that is not void decides; without any, it never began."""
    if subscription["status"] == "incomplete":
        now = int(box.now())
        box.unplan(subscription["id"])
        change(box, subscription, status="incomplete_expired", canceled_at=now, ended_at=now)
        return
    known = [
        box.store.objects["invoice"][id] for id in box.store.aside[subscription["id"]]["invoices"]
    ]
    standing = next((i for i in reversed(known) if i["status"] not in ("void", "draft")), None)
    was_due = subscription["status"] in ("past_due", "unpaid")
    if was_due and standing is not None and standing["status"] in ("paid", "uncollectible"):
        change(box, subscription, status="active")


def change(box: Sandbox, subscription: Obj, before: Obj | None = None, **changes: Any) -> None:
    """Set fields and tell what they were; nothing is told when nothing is new."""
    news = {k: v for k, v in changes.items() if subscription[k] != v}
    told = {**{k: subscription[k] for k in news}, **(before or {})}
    subscription |= news
    box.store.put(subscription)
    if told and box.store.aside[subscription["id"]]["told"]:
        box.emit("customer.subscription.updated", subscription, told)


# -- what time does -------------------------------------------------------------------------------


def _plan_period(box: Sandbox, subscription: Obj) -> None:
    """Note what comes next by itself: the end of the period, and the words before it."""
    id, now = subscription["id"], box.now()
    ends = period_end(subscription)
    box.plan_at(ends, "period_ends", id)
    begun = subscription["items"]["data"][0]["current_period_start"]
    if ends - TELL_OF_RENEWAL_S > max(now, begun):
        box.plan_at(ends - TELL_OF_RENEWAL_S, "renewal_nears", id)
    if subscription["trial_end"] == ends:
        box.plan_at(max(ends - TELL_OF_TRIAL_S, now), "trial_nears_its_end", id)


def plan_of(price: Obj) -> Obj:
    return billing.plan(price)


def period_end(subscription: Obj) -> int:
    ends: int = subscription["items"]["data"][0]["current_period_end"]
    return ends


def renewal_nears(box: Sandbox, id: str) -> None:
    """Tell what the next invoice will be, unless there will be none."""
    subscription = box.store.objects["subscription"][id]
    ends = period_end(subscription)
    leaves = subscription["cancel_at"]
    if subscription["status"] not in RUNNING or (leaves is not None and leaves <= ends):
        return
    _, then = _next_period(box, subscription)
    charges = [
        Charge(c.price, c.quantity, c.amount, c.description, (ends, then), c.item, c.metadata)
        for c in _charges(box, subscription)
    ]
    preview = invoices.compose(
        box, subscription, charges, "upcoming", box.store.new_id("upcoming_in_1")
    )
    preview["next_payment_attempt"] = int(ends + box.finalize_s)
    preview["period_start"] = subscription["items"]["data"][0]["current_period_start"]
    preview["period_end"] = ends
    box.emit("invoice.upcoming", preview)


def _next_period(box: Sandbox, subscription: Obj) -> tuple[int, int]:
    """Which period comes after the current one: its number since the anchor, and its end."""
    cycle: int = box.store.aside[subscription["id"]]["cycle"] + 1
    rhythm = subscription["items"]["data"][0]["price"]["recurring"]
    return cycle, periods.after(subscription["billing_cycle_anchor"], rhythm, cycle)


def trial_nears_its_end(box: Sandbox, id: str) -> None:
    subscription = box.store.objects["subscription"][id]
    if subscription["status"] == "trialing":
        box.emit("customer.subscription.trial_will_end", subscription)


def period_ends(box: Sandbox, id: str) -> None:
    """Begin the next period with an invoice, or end what is not to go on."""
    subscription = box.store.objects["subscription"][id]
    if subscription["status"] not in RUNNING:
        return
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= box.now():
        end(box, subscription)
        return
    if subscription["status"] == "trialing" and invoices.method_for(box, subscription) is None:
        then = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if then == "cancel":
            end(box, subscription)
            return
        if then == "pause":
            _pause(box, subscription)
            return
    renew(box, subscription)


def renew(
    box: Sandbox, subscription: Obj, reason: str = "subscription_cycle", *, at_once: bool = False
) -> Obj:
    """Begin the next period and draft its invoice, which is collected within the hour.

    A subscription that is ``unpaid`` gets drafts that nobody collects.
    """
    items = subscription["items"]["data"]
    begun = items[0]["current_period_start"]
    now = int(box.now())
    cycle, ends = _next_period(box, subscription)
    before = [{k: i[k] for k in ("current_period_end", "current_period_start")} for i in items]
    for item in items:
        item |= {"current_period_start": now, "current_period_end": ends}
    box.store.put(subscription, cycle=cycle)
    invoice = invoices.draft(box, subscription, _charges(box, subscription), reason, (begun, now))
    lets_be = subscription["status"] == "unpaid"
    if lets_be:
        invoice["auto_advance"] = False
    elif not at_once:
        at = int(box.now() + box.finalize_s)
        invoice["automatically_finalizes_at"] = at
        box.plan_at(at, "finalize_invoice", invoice["id"])
    box.store.put(invoice)
    status = "active" if subscription["status"] == "trialing" else subscription["status"]
    change(
        box,
        subscription,
        {"items": {"data": before}},
        latest_invoice=invoice["id"],
        status=status,
    )
    _plan_period(box, subscription)
    return invoice


def finalize_invoice(box: Sandbox, id: str) -> None:
    invoice = box.store.objects["invoice"][id]
    if invoice["status"] == "draft":
        invoices.finalize(box, invoice)
    if invoice["status"] == "open":
        invoices.attempt(box, invoice)


def retry_invoice(box: Sandbox, id: str) -> None:
    invoice = box.store.objects["invoice"][id]
    if invoice["status"] == "open" and invoice["auto_advance"]:
        invoices.attempt(box, invoice)


def first_payment_overdue(box: Sandbox, id: str) -> None:
    """Nobody paid the first invoice in time; money that is under way is waited for."""
    subscription = box.store.objects["subscription"][id]
    if subscription["status"] != "incomplete":
        return
    invoice = box.store.objects["invoice"][subscription["latest_invoice"]]
    intent = invoices.intent_of(box, invoice)
    if intent is None or intent["status"] != "processing":
        invoices.void(box, invoice)


def cancellation_due(box: Sandbox, id: str) -> None:
    subscription = box.store.objects["subscription"][id]
    due = subscription["cancel_at"]
    if subscription["status"] not in ENDED and due is not None and due <= box.now():
        end(box, subscription)


# -- pausing and ending ---------------------------------------------------------------------------


def _pause(box: Sandbox, subscription: Obj) -> None:
    told = {"status": subscription["status"]}
    subscription["status"] = "paused"
    subscription["status_details"] = {
        "paused": {
            "subscription": {"type": "trial_end_without_payment_method"},
            "transitioned_at": int(box.now()),
            "type": "subscription",
        }
    }
    box.store.put(subscription)
    box.emit("customer.subscription.paused", subscription)
    box.emit("customer.subscription.updated", subscription, told)


def resume(box: Sandbox, subscription: Obj, *, whatever_the_bank_says: bool = False) -> None:
    """Begin a new period today; the subscription runs again once its invoice is paid.

    Or, ``whatever_the_bank_says``, at once: what is not paid is past due then.
    """
    now = int(box.now())
    subscription["billing_cycle_anchor"] = now
    box.store.put(subscription, cycle=0)
    invoice = renew(box, subscription, "subscription_update", at_once=True)
    invoices.finalize(box, invoice)
    if invoice["status"] == "open":
        invoices.attempt(box, invoice)
    if subscription["status"] == "paused" and whatever_the_bank_says:
        _resumed(box, subscription, status="past_due")


def _resumed(box: Sandbox, subscription: Obj, **changes: Any) -> None:
    subscription.pop("status_details", None)
    change(box, subscription, **changes)
    box.emit("customer.subscription.resumed", subscription)


def end_trial(box: Sandbox, subscription: Obj, at: int) -> None:
    """Move the trial's end; with ``at`` now, the first period begins and is collected at once."""
    box.unplan(subscription["id"])
    now = int(box.now())
    if at > now:
        before = {"items": {"data": [{"current_period_end": period_end(subscription)}]}}
        for item in subscription["items"]["data"]:
            item["current_period_end"] = at
        change(box, subscription, before, trial_end=at, billing_cycle_anchor=at)
        _plan_period(box, subscription)
        return
    box.emit("customer.subscription.trial_will_end", subscription)
    subscription |= {"trial_end": now, "billing_cycle_anchor": now}
    box.store.put(subscription, cycle=0)
    invoice = renew(box, subscription, "subscription_update", at_once=True)
    invoices.finalize(box, invoice)
    if invoice["status"] == "open":
        invoices.attempt(box, invoice)


def cancel(box: Sandbox, subscription: Obj) -> None:
    """End it now; one whose first invoice was never paid has never begun."""
    if subscription["status"] == "incomplete":
        invoices.void(box, box.store.objects["invoice"][subscription["latest_invoice"]])
    else:
        end(box, subscription, "cancellation_requested")


def end(box: Sandbox, subscription: Obj, reason: str | None = None) -> None:
    """It is over. What is owed stays owed, and is no longer asked for by itself."""
    now = int(box.now())
    subscription |= {
        "status": "canceled",
        "canceled_at": subscription["canceled_at"] or now,
        "ended_at": now,
    }
    if reason and subscription["cancellation_details"]["reason"] is None:
        subscription["cancellation_details"] |= {"reason": reason}
    box.unplan(subscription["id"])
    for id in box.store.aside[subscription["id"]]["invoices"]:
        invoices.stop_collecting(box, box.store.objects["invoice"][id])
    pending = box.store.objects["setup_intent"].get(subscription["pending_setup_intent"])
    if pending is not None and pending["status"] != "canceled":
        setups.cancel(box, pending, "abandoned")
        subscription["pending_setup_intent"] = None
    box.store.put(subscription)
    box.emit("customer.subscription.deleted", subscription)


def end_all_of(box: Sandbox, customer: str) -> None:
    """A customer who is deleted leaves no subscription behind."""
    for subscription in list(box.store.objects["subscription"].values()):
        if subscription["customer"] == customer and subscription["status"] not in ENDED:
            cancel(box, subscription)


HAPPENINGS = {
    happening.__name__: happening
    for happening in (
        period_ends,
        renewal_nears,
        trial_nears_its_end,
        finalize_invoice,
        retry_invoice,
        first_payment_overdue,
        cancellation_due,
    )
}
