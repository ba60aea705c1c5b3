"""Answers API calls the way Stripe does: keys checked, parameters checked, answers kept."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contract import API_VERSION
from ..errors import ApiError, Cut
from ..events import compact
from ..params import decode
from . import idempotency, publishable, routes
from .authorization import authorize
from .reading import expand

if TYPE_CHECKING:
    from ..box import Sandbox

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Request Failed",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass
class Call:
    """One API call as it came in."""

    method: str
    path: str
    tree: dict[str, Any]
    key: str | None
    request_id: str
    authorization: str
    params: dict[str, Any] = field(default_factory=dict)
    is_public: bool = False  # made with a publishable key: by a browser
    client_secret: str | None = None


@dataclass
class Reply:
    status: int
    body: str
    replay_of: str | None = None
    retry: bool | None = None


def serve(
    box: Sandbox, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """The WSGI side of a call: read it, answer it, note it down.

    Any origin may call, as with Stripe: what protects is the key.
    """
    origin = environ.get("HTTP_ORIGIN")
    from_browser = [("Access-Control-Allow-Origin", origin), *publishable.HEADERS] if origin else []
    if environ["REQUEST_METHOD"] == "OPTIONS":
        wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        allowed = [("Access-Control-Allow-Headers", wanted)] if wanted else []
        start_response("200 OK", [("Content-Length", "0"), *from_browser, *allowed])
        return [b""]
    call = _read(box, environ)
    note = {"at": box.now(), "id": call.request_id, "method": call.method, "path": call.path}
    note |= {"params": call.tree, "idempotency_key": call.key, "status": None, "by": "shop"}
    box.requests.append(note)
    reply = answer(box, call, note)
    note |= {"status": reply.status, "by": "browser" if call.is_public else "shop"}
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body := reply.body.encode()))),
        ("Request-Id", call.request_id),
        ("Stripe-Version", API_VERSION),
        ("Cache-Control", "no-cache, no-store"),
        *from_browser,
    ]
    if call.key and call.method == "POST":
        headers.append(("Idempotency-Key", call.key))
    if reply.replay_of:
        headers += [("Idempotent-Replayed", "true"), ("Original-Request", reply.replay_of)]
    retry = reply.retry if reply.retry is not None or reply.status >= 500 else False
    if retry is not None:
        headers.append(("Stripe-Should-Retry", "true" if retry else "false"))
    start_response(f"{reply.status} {REASONS.get(reply.status, 'Status')}", headers)
    return [body]


def _read(box: Sandbox, environ: dict[str, Any]) -> Call:
    method = environ["REQUEST_METHOD"]
    text = environ.get("QUERY_STRING", "")
    if method in ("POST", "DELETE"):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length).decode("utf-8", "replace") if length else ""
        text = f"{text}&{sent}" if text and sent else text or sent
    with box.lock:
        request_id = box.store.new_id("req_", 14)
    return Call(
        method=method,
        path=environ["PATH_INFO"].rstrip("/"),
        tree=decode(text),
        key=environ.get("HTTP_IDEMPOTENCY_KEY"),
        request_id=request_id,
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
    )


def answer(box: Sandbox, call: Call, note: dict[str, Any]) -> Reply:
    """Do what the call asks, through whatever faults are switched on."""
    if box.chaos.outage:
        note["fault"] = "outage"
        if box.chaos.outage == "refused":
            raise Cut("the API is out of reach")
        return _error(box, call, ApiError("Service unavailable.", status=503, type="api_error"))
    try:
        call.is_public = authorize(call.authorization)
        route = routes.find(call.method, call.path)
        if call.is_public:
            publishable.admit(call, route)
        call.params = box.checks.read(route.endpoint, call.tree)
        if call.method == "POST":
            idempotency.check_key(call.key)
    except ApiError as error:
        return _error(box, call, error)
    with box.lock:
        box.tick()
        fault = box.chaos.fault_for(call.method, call.path)
        if fault:
            note["fault"] = fault
        reply = _answer_once(box, call, route, fault)
        box.store.commit()
    box.deliver_before_answer()
    if fault == "hang":
        _hang(box, call)
    if fault == "effect_then_cut":
        raise Cut("the connection was lost after the work was done")
    return reply


def _answer_once(box: Sandbox, call: Call, route: routes.Route, fault: str) -> Reply:
    early = EARLY_FAULTS.get(fault)
    if early is not None:
        return _error(box, call, early())
    keyed = call.key if call.method == "POST" else None
    try:
        known = idempotency.recall(box, keyed, call)
    except ApiError as error:
        return _error(box, call, error)
    if known is not None:
        return Reply(known["status"], known["body"], replay_of=known["request"])
    keep = True
    box.cause = (call.request_id, call.key)
    try:
        if fault == "stored_500":
            raise ApiError("An unknown error occurred.", status=500, type="api_error")
        if call.is_public:
            publishable.check_secret(box, call, route)
            box.mood = publishable.mood_of(box, call)
        done = route.handler(box, call.params, *route.ids)
        if isinstance(done, str):
            reply = Reply(200, done)
        else:
            shown = expand(box, box.view(done), call.params.get("expand", ()))
            reply = Reply(200, compact(publishable.view(shown) if call.is_public else shown))
    except ApiError as error:
        reply, keep = _error(box, call, error), error.begun
    except Exception:  # noqa: BLE001  a bug of the sandbox must not look like a dead line
        traceback.print_exc()
        bug = ApiError("The sandbox itself failed; see its log.", status=500, type="api_error")
        reply, keep = _error(box, call, bug), False
    finally:
        box.cause, box.mood = (None, None), ""
    if keyed and keep:
        busy_s = box.chaos.hang_s if fault == "hang" else 0.0
        idempotency.keep(box, keyed, call, reply.status, reply.body, busy_s)
    return reply


def _hang(box: Sandbox, call: Call) -> None:
    """Be silent for a while. A driver with a clock of its own gets a ``Cut``: it cannot wait."""
    if not box.is_served:
        raise Cut(f"no answer within {box.chaos.hang_s} seconds")
    time.sleep(box.chaos.hang_s)


def _error(box: Sandbox, call: Call, error: ApiError) -> Reply:
    body = publishable.view_error(error.body) if call.is_public else dict(error.body)
    if error.status not in (401, 503):
        body["request_log_url"] = (
            f"https://dashboard.stripe.com/test/logs/{call.request_id}?t={int(box.now())}"
        )
    return Reply(error.status, compact({"error": body}), retry=error.retry)


EARLY_FAULTS: dict[str, Callable[[], ApiError]] = {
    "error_500": lambda: ApiError("An unknown error occurred.", status=500, type="api_error"),
    "rate_429": lambda: ApiError(
        "Request rate limit exceeded. Learn more about rate limits here: "
        "https://stripe.com/docs/rate-limits.",
        status=429,
        code="rate_limit",
    ),
    "conflict_409": lambda: ApiError(
        "This object cannot be accessed right now because another API request or Stripe process "
        "is currently accessing it. If you see this error intermittently, retry the request.",
        status=409,
        code="lock_timeout",
        retry=True,
    ),
}
