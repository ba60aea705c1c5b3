"""What happened to an order, by three authors: Stripe, the shop, and its people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from logs import redact
from models import OrderEvent, OutboxMessage, StripeEvent
from services import dispute_pages, notes
from services.history import NOTE

AUTHORS = {"": "All", "stripe": "Stripe", "shop": "Shop", "person": "People"}

_TITLES = {
    "payment": "Payment seen",
    "refund": "Refund",
    "parcel": "Parcel sent",
    "ignored": "Nothing to change",
    NOTE: "Note",
    "plan": "Subscription",
}
_MAILS = {
    "receipt": "Receipt",
    "receipt_again": "Receipt, once more,",
    "order_links": "Links to orders",
    "payment_failed": "“The payment did not go through”",
    "refunded": "“Money is on its way back”",
    "shipped": "“Your parcel is on its way”",
    "renewed": "“Your subscription was renewed”",
    "past_due": "“A payment is due”",
    "subscription_ended": "“Your subscription has ended”",
    "not_started": "“Your subscription has not begun”",
}


def entries(
    history: Iterable[tuple[OrderEvent, StripeEvent | None]],
    mails: Iterable[OutboxMessage],
    reader: str,
) -> list[dict[str, Any]]:
    """Newest first; ``reader`` is who looks, for what they may still change."""
    told = [_entry(event, news, reader) for event, news in history]
    told += [_mail(message) for message in mails]
    return sorted(told, key=lambda entry: entry["at"], reverse=True)


def authors(told: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many entries each author has."""
    counted = Counter(entry["author"] for entry in told)
    return {"": counted.total()} | {name: counted[name] for name in AUTHORS if name}


def _entry(event: OrderEvent, news: StripeEvent | None, reader: str) -> dict[str, Any]:
    title = _TITLES.get(event.kind, "")
    if event.kind == "transition":
        came_from = f", was {event.from_status}" if event.from_status else ""
        title = f"Order is {event.to_status}{came_from}".replace("_", " ")
    detail = event.detail
    if event.kind == "dispute":
        title, detail = dispute_pages.entry(detail)
    is_note = event.kind == NOTE
    return {
        "id": event.id,
        "at": event.at,
        "author": "person" if event.actor else "stripe" if news else "shop",
        "title": f"{event.actor} wrote" if is_note else title,
        "detail": "" if is_note else " · ".join((*_of_event(event, news), detail)).strip(" ·"),
        "note": event.detail if is_note else None,
        "may_change": notes.may_change(event, reader),
        "cause": "" if is_note else event.cause,
        "actor": event.actor,
        "event_id": event.stripe_event_id,
        "initials": event.actor[:2].upper(),
        "payload_json": masked(news.payload) if news else None,
    }


def _of_event(event: OrderEvent, news: StripeEvent | None) -> Iterable[str]:
    """How Stripe's news came, how long it waited, and how long the work on it took."""
    if news is None:
        return
    yield news.type
    yield "signature good" if news.lane == "webhook" else "fetched from Stripe"
    yield f"waited {max((event.at - news.received_at).total_seconds(), 0):.1f} s"
    if news.work_ms is not None:
        yield f"worked {news.work_ms} ms"


def _mail(message: OutboxMessage) -> dict[str, Any]:
    result = message.result or {}
    at = message.done_at or message.created_at
    waited = (at - message.created_at).total_seconds()
    what = _MAILS.get(message.kind, message.kind.replace("_", " ").capitalize())
    is_sent = message.state == "done" and "not_sent" not in result
    said = {"done": f"delivered in {max(waited, 0):.1f} s", "new": "waits to be sent"}
    return {
        "at": at,
        "author": "shop",
        "title": f"{what} sent to {result.get('to')}" if is_sent else f"{what} not sent",
        "detail": said.get(message.state, "gave up") if is_sent or message.state != "done"
        else str(result.get("not_sent", "")),
        "cause": "",
        "is_mail": True,
    }  # fmt: skip


def masked(payload: str) -> str:
    """The event as it came, without what opens something and without people."""
    try:
        return redact(json.dumps(json.loads(payload), indent=1, ensure_ascii=False))
    except ValueError:
        return ""
