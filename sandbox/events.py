"""Events: what happened, frozen as it was then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .chaos import OLD_API_VERSION
from .contract import API_VERSION

if TYPE_CHECKING:
    from .box import Sandbox

KEPT_S = 30 * 86_400  # Stripe's list goes back thirty days

compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def emit(
    box: Sandbox, type: str, obj: dict[str, Any], previous: dict[str, Any] | None = None
) -> None:
    """Write down that ``obj`` changed, and have it sent to every endpoint that wants to know.

    The object is kept as text: what happens to it later must not change the event.
    """
    data = f'{{"object":{compact(box.view(obj))}'
    if previous is not None:
        data += f',"previous_attributes":{compact(previous)}'
    request_id, key = box.cause
    event = {
        "object": "event",
        "id": box.store.new_id("evt_"),
        "api_version": OLD_API_VERSION if box.chaos.old_api_version else API_VERSION,
        "created": int(box.now()),
        "data": data + "}",
        "about": obj["id"],
        "type": type,
        "request": {"id": request_id, "idempotency_key": key},
        "waiting": [],
    }
    box.courier.enqueue(event)
    box.store.put(event)


def render(event: dict[str, Any]) -> str:
    """The event as the API and the webhook show it."""
    head = compact(
        {
            "id": event["id"],
            "object": "event",
            "api_version": event["api_version"],
            "created": event["created"],
            "livemode": False,
            "pending_webhooks": len(event["waiting"]),
            "request": event["request"],
            "type": event["type"],
        }
    )
    return f'{head[:-1]},"data":{event["data"]}}}'
