"""The same done to many orders, one after the other: what went wrong with one never stops the rest.

Pressing twice is safe: what is done already is counted as skipped.
"""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from domain.errors import ShopError
from domain.transitions import Status
from models import Order
from services import auth, order_list, orders, receipts, reconcile, shipping
from services.causes import Cause
from services.cells import guarded

MOST = order_list.PAGE  # as many as one page shows
BUDGET_S = 15  # somebody waits for the answer, and a dyno cuts a request at 30 s

DONE, FAILED, SKIPPED = "done", "failed", "skipped"


class NothingChosen(ShopError):
    code = "nothing_chosen"
    http_status = 422
    headline = "No order is ticked"

    def __init__(self) -> None:
        super().__init__(f"Tick the orders that you mean, from 1 to {MOST} of them.")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one order: done, failed or skipped, and why in a sentence."""

    order: Order
    state: str
    said: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes on the label, and the version of the order that the form showed."""

    tracking: str
    version: int | None


def chosen(order_ids: Iterable[str]) -> list[Order]:
    """The ticked orders, newest first. Raises NothingChosen; an id that is none is passed over."""
    ids = list(dict.fromkeys(order_ids))
    if not 1 <= len(ids) <= MOST:
        raise NothingChosen
    found = order_list.chosen(ids)
    if not found:
        raise NothingChosen
    return found


def tally(results: list[Result], done: str) -> str:
    """``9 synced, 1 failed, 2 skipped``."""
    found = Counter(result.state for result in results)
    return f"{found[DONE]} {done}, {found[FAILED]} failed, {found[SKIPPED]} skipped"


def sync(chosen: list[Order], actor: str) -> list[Result]:
    """Hold each against Stripe, as far as it gets in 15 s; the rest is skipped."""
    until = time.monotonic() + BUDGET_S

    def one(order: Order) -> tuple[str, str]:
        if time.monotonic() > until:
            return SKIPPED, f"Not reached within {BUDGET_S} s. Press again for the rest."
        came = reconcile.sync_order(order.id, Cause("admin", actor=actor))
        if came.failed:
            return FAILED, "Stripe did not answer. Nothing was lost; try again in a moment."
        return (DONE, "Brought up to date.") if came.synced else (SKIPPED, "Nothing new at Stripe.")

    return _each(chosen, one, actor, "synced")


def ship(
    chosen: list[Order], parcels: Mapping[str, Parcel], *, carrier: str, actor: str
) -> list[Result]:
    """Send all that is left of each in one parcel; an order that was not packed yet is packed."""

    def one(order: Order) -> tuple[str, str]:
        parcel = parcels.get(order.id, Parcel("", order.version))
        if order.status not in order_list.TO_SHIP:
            return SKIPPED, _why_not(order)
        units = shipping.waiting_of(order.id)
        if not any(units.values()):
            return SKIPPED, "Nothing of it is left to send."
        version = parcel.version
        if order.status == Status.PAYMENT_CONFIRMED:
            shipping.pack(order.id, actor=actor, version=version)
            version = (version or 0) + 1
        shipping.ship(
            order.id,
            units,
            carrier=carrier,
            tracking=parcel.tracking,
            actor=actor,
            version=version,
        )
        return DONE, f"Sent with {carrier} {parcel.tracking}".strip() + "."

    return _each(chosen, one, actor, "shipped")


def resend(chosen: list[Order], actor: str) -> list[Result]:
    """Mail the receipt once more; at most one a minute to each, whoever presses."""

    def one(order: Order) -> tuple[str, str]:
        if not order.paid_at:
            return SKIPPED, "It is not paid, so there is no receipt."
        if not order.email:
            return SKIPPED, "The person is forgotten, and with them the address."
        if not receipts.send_again(order.id):
            return SKIPPED, "One was sent within this minute."
        return DONE, f"On its way to {order.email}."

    return _each(chosen, one, actor, "resent receipt")


def table(chosen: list[Order], actor: str) -> str:
    """The ticked orders as CSV, as a spreadsheet shows it and never runs it."""
    texts = order_list.items_text([order.id for order in chosen])
    told = io.StringIO()
    writer = csv.writer(told, lineterminator="\r\n")
    for row in _table(chosen, texts):
        writer.writerow([guarded(cell) for cell in row])
    auth.note(actor, "exported orders", detail=f"{len(chosen)} of the list")
    return told.getvalue()


def _table(chosen: list[Order], texts: Mapping[str, str]) -> Iterator[list[str]]:
    parts = ("line1", "line2", "postal_code", "city", "state", "country")
    yield ["number", "placed_at", "status", "payment_status", "currency", "total", "refunded",
           "name", "email", "phone", *parts, "items", "id"]  # fmt: skip
    for order in chosen:
        address = order.address or {}
        yield [
            orders.number(order),
            order.created_at.isoformat(timespec="seconds"),
            order.status,
            order.payment_status,
            order.currency,
            str(order.total),
            str(order.refunded),
            order.name or "",
            order.email or "",
            order.phone or "",
            *(address.get(part) or "" for part in parts),
            texts.get(order.id, ""),
            order.id,
        ]


def _each(
    chosen: list[Order], act: Callable[[Order], tuple[str, str]], actor: str, action: str
) -> list[Result]:
    results = []
    for order in chosen:
        try:
            state, said = act(order)
        except ShopError as error:
            state, said = FAILED, error.message
        if state == DONE and action != "shipped":  # a parcel has its own line in the log
            auth.note(actor, action, order.id)
        results.append(Result(order, state, said))
    return results


def _why_not(order: Order) -> str:
    return {
        Status.PENDING_PAYMENT: "It is not paid yet.",
        Status.SHIPPED: "It was sent already.",
        Status.DELIVERED: "It was sent already.",
    }.get(Status(order.status), f"It is {order.status.replace('_', ' ')}.")
