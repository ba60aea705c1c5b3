"""/v1/events and /v1/webhook_endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import events
from ..errors import bad_parameter, no_such
from ..shapes import catalog
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

MOST_TYPES = 20


def list_events(box: Sandbox, params: Obj) -> Obj:
    """Thirty days back; ``delivery_success`` tells those that every endpoint has from the rest."""
    if "type" in params and "types" in params:
        raise bad_parameter(
            "You may only specify one of these parameters: type, types.",
            "types",
            "parameters_exclusive",
        )
    types = params.get("types") or ([params["type"]] if "type" in params else None)
    if types and len(types) > MOST_TYPES:
        raise bad_parameter(f"You may pass at most {MOST_TYPES} types.", "types")
    delivered = params.get("delivery_success")
    oldest = box.now() - events.KEPT_S

    def keep(event: Obj) -> bool:
        if event["created"] < oldest or (types and not _matches(event["type"], types)):
            return False
        return delivered is None or delivered == (not event["waiting"])

    return reading.page(box, "event", params, "/v1/events", keep, _show)


def _matches(type: str, wanted: list[str]) -> bool:
    """A type may be named as a group: ``charge.*``."""
    return any(type == w or (w.endswith("*") and type.startswith(w[:-1])) for w in wanted)


def _show(event: Obj) -> Obj:
    shown: Obj = json.loads(events.render(event))
    return shown


def retrieve_event(box: Sandbox, params: Obj, id: str) -> str:
    event = reading.find(box, "event", id)
    if event["created"] < box.now() - events.KEPT_S:
        raise no_such("event", id)
    return events.render(event)


def create_endpoint(box: Sandbox, params: Obj) -> Obj:
    """The secret is shown here, once."""
    amounts.check_url(params["url"], "url")
    endpoint = catalog.webhook_endpoint(
        box.store.new_id("we_1"), created=int(box.now()), params=params
    )
    secret = box.store.new_id("whsec_", 32)
    box.store.put(endpoint, secrets=[secret])
    return {**endpoint, "secret": secret}


def retrieve_endpoint(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "webhook_endpoint", id)


def list_endpoints(box: Sandbox, params: Obj) -> Obj:
    return reading.page(box, "webhook_endpoint", params, "/v1/webhook_endpoints")


def update_endpoint(box: Sandbox, params: Obj, id: str) -> Obj:
    endpoint = reading.find(box, "webhook_endpoint", id)
    amounts.check_url(params.get("url"), "url")
    endpoint |= {k: params[k] for k in ("url", "enabled_events", "description") if k in params}
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    amounts.merge_metadata(endpoint, params)
    return box.store.put(endpoint)


def delete_endpoint(box: Sandbox, params: Obj, id: str) -> Obj:
    box.store.drop(reading.find(box, "webhook_endpoint", id))
    return {"id": id, "object": "webhook_endpoint", "deleted": True}


ROUTES: dict[str, Callable[..., Any]] = {
    "GET /v1/events": list_events,
    "GET /v1/events/{id}": retrieve_event,
    "POST /v1/webhook_endpoints": create_endpoint,
    "GET /v1/webhook_endpoints": list_endpoints,
    "GET /v1/webhook_endpoints/{id}": retrieve_endpoint,
    "POST /v1/webhook_endpoints/{id}": update_endpoint,
    "DELETE /v1/webhook_endpoints/{id}": delete_endpoint,
}
