"""The API described for programs: OpenAPI 3.1, served at ``/api/openapi.json``.

Written by hand beside the routes; a test holds it to the addresses and the answers that are really
there.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from domain.delivery import DELIVERIES
from domain.plans import INTERVALS
from domain.transitions import LineState, PaymentStatus, Status

bp = Blueprint("openapi", __name__, url_prefix="/api")

Schema = dict[str, Any]


@bp.get("/openapi.json")
def openapi() -> ResponseReturnValue:
    return jsonify(DOCUMENT)


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(most: int, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most, **more}


ID: Schema = {"type": "string"}
MINOR: Schema = {"type": "integer", "description": "In minor units of the currency."}
TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}

SCHEMAS: Schema = {
    "Items": {
        "type": "array",
        "maxItems": 100,
        "items": _object(
            {"sku": _text(64), "quantity": {"type": "integer", "minimum": 1, "maximum": 99}}
        ),
    },
    "Cart": _object(
        {
            "items": {
                "type": "array",
                "items": _object(
                    {
                        "sku": ID,
                        "title": ID,
                        "quantity": COUNT,
                        "unitAmount": MINOR,
                        "amount": {
                            **MINOR,
                            "description": "unitAmount × quantity; with a plan, each time.",
                        },
                    },
                    {"plan": _ref("Plan")},
                ),
            },
            "subtotal": {
                **MINOR,
                "description": "What is due now, without delivery; a trial counts nothing.",
            },
            "currency": ID,
        }
    ),
    "Plan": {
        **_object(
            {
                "interval": {"enum": list(INTERVALS)},
                "count": {"type": "integer", "minimum": 1},
                "trialDays": COUNT,
            }
        ),
        "description": "How a line recurs: every so many intervals, after so many days free.",
    },
    "Contact": {
        **_object(
            {"name": _text(120), "email": _text(254, format="email")}, {"phone": {"type": "string"}}
        ),
        "additionalProperties": True,
    },
    "Shipping": {
        **_object(
            {
                "line1": _text(200),
                "city": _text(120),
                "postalCode": _text(20),
                "country": {"type": "string", "pattern": "^[A-Za-z]{2}$"},
            },
            {
                "line2": {"type": "string"},
                "state": {"type": "string"},
                "delivery": {"enum": list(DELIVERIES)},
            },
        ),
        "additionalProperties": True,
    },
    "Checkout": {
        "type": "object",
        "required": ["contact", "shipping"],
        "properties": {
            "contact": _ref("Contact"),
            "shipping": _ref("Shipping"),
            "items": _ref("Items"),
            "uiMode": {"enum": ["hosted", "embedded"], "default": "hosted"},
            "code": {"type": ["string", "null"], "description": "A discount code."},
        },
    },
    "Session": _object(
        {"checkoutAttemptId": ID, "orderId": ID, "sessionId": ID},
        {"url": {"type": "string"}, "clientSecret": ID},
    ),
    "Intent": _object(
        {"checkoutAttemptId": ID, "orderId": ID},
        {"clientSecret": ID, "paymentIntentId": ID, "setupClientSecret": ID, "url": ID},
    ),
    "Confirmed": {
        "oneOf": [
            _object({"checkoutAttemptId": ID, "paymentIntentId": ID}),
            _object({"checkoutAttemptId": ID, "setupIntentId": ID}),
        ],
        "description": "What pays for the checkout; for subscriptions alone, what saved the card.",
    },
    "Retry": _object(
        {
            "sessionId": {"type": ["string", "null"]},
            "previousSessionId": {"type": ["string", "null"]},
            "url": ID,
        }
    ),
    "Order": _object(
        {
            "id": ID,
            "number": {"type": ["string", "null"]},
            "status": {"enum": [status.value for status in Status]},
            "paymentStatus": {"enum": [status.value for status in PaymentStatus]},
            "isProvisional": {"type": "boolean"},
            "syncStatus": {"enum": ["syncing", "synced", "failed"]},
            "currency": ID,
            "subtotal": MINOR,
            "discount": MINOR,
            "shipping": MINOR,
            "tax": MINOR,
            "total": MINOR,
            "items": {
                "type": "array",
                "items": _object(
                    {"sku": ID, "title": ID, "unitAmount": MINOR, "quantity": COUNT},
                    {
                        "discount": {**MINOR, "description": "Its part of the order's discount."},
                        "tax": {**MINOR, "description": "On top of what is left."},
                        "plan": _ref("Plan"),
                        "state": {
                            "enum": [state.value for state in LineState],
                            "description": "Of a line that recurs: whether it has begun.",
                        },
                    },
                ),
            },
            "createdAt": TIME,
            "updatedAt": TIME,
        },
        {
            "sessionId": {"type": ["string", "null"]},
            "failureReason": ID,
            "previousSessionId": ID,
            "paymentIntentId": ID,
            "amountReceived": {
                **MINOR,
                "description": "All that paid for the order, renewals not counted.",
            },
            "subscriptions": {"type": "array", "items": _ref("Subscription")},
            "discountCode": ID,
            "taxRates": {"type": "array", "items": _ref("TaxRate")},
        },
    ),
    "TaxRate": {
        **_object(
            {
                "name": ID,
                "percent": {"type": "string"},
                "country": {"type": ["string", "null"]},
                "inclusive": {"type": "boolean"},
                "taxableAmount": MINOR,
                "amount": MINOR,
            }
        ),
        "description": "Tax as Stripe found it out: in the prices (inclusive), else on top.",
    },
    "Subscription": {
        **_object(
            {
                "id": {"type": "integer"},
                "sku": ID,
                "status": {
                    "type": "string",
                    "description": "Stripe's: incomplete, trialing, active, past_due, canceled, …",
                },
                "unitAmount": MINOR,
                "quantity": COUNT,
                "currency": ID,
                "interval": {"enum": list(INTERVALS)},
                "intervalCount": {"type": "integer", "minimum": 1},
            },
            {
                "currentPeriodEnd": TIME,
                "cancelAt": TIME,
                "payUrl": {"type": "string", "description": "Where its unpaid invoice is paid."},
            },
        ),
        "description": "A line that recurs, as Stripe runs it; only in orders with such lines.",
    },
    "Ring": {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": "changed"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": '`{"syncStatus": "syncing"}`, or `synced`, or `failed`.',
            },
            "retry": {"type": "integer", "description": "Milliseconds until it may ask again."},
        },
        "description": "One event of the stream.",
    },
    "Tally": _object({"synced": COUNT, "failed": COUNT, "skipped": COUNT}),
    "Alive": _object({"status": {"const": "ok"}}),
    "Ready": _object(
        {
            "status": {"enum": ["ok", "not ready"]},
            "parts": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["ok"],
                    "properties": {"ok": {"type": "boolean"}},
                },
            },
            "alerts": {"type": "array", "items": _object({"code": ID, "headline": ID})},
        }
    ),
    "Problem": {
        **_object(
            {
                "type": ID,
                "title": {"type": "string", "description": "A headline for people."},
                "status": {"type": "integer"},
                "detail": {"type": "string", "description": "What happened and what to do."},
                "code": {"type": "string", "description": "A stable name for programs."},
            }
        ),
        "description": "RFC 9457.",
    },
}

_PROBLEMS = {
    400: "The body is not readable, or the page's token is missing.",
    403: "Not for this account, or sent from another site.",
    404: "There is no such thing, or it is somebody else's.",
    409: "Stock or state stands against it; the detail says what.",
    413: "Too large.",
    415: "JSON is wanted.",
    422: "A field is wrong; the detail names it.",
    429: "Too many requests.",
    502: "Stripe could not be reached. Nothing was charged.",
    503: "The database could not be reached.",
}
_CALL = (400, 403, 409, 413, 415, 422, 429, 502, 503)
_COME_AGAIN = (429, 503)
_LATER: Schema = {
    "Retry-After": {
        "description": "Seconds to wait before the same call may be made again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}


def _answers(good: dict[int, str], *problems: int) -> Schema:
    answers: Schema = {
        str(status): {
            "description": "Done." if status != 202 else "Taken; not decided yet.",
            "content": {"application/json": {"schema": _ref(name)}},
        }
        for status, name in good.items()
    }
    for status in sorted({*problems, 404}):
        answers[str(status)] = {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
            **({"headers": _LATER} if status in _COME_AGAIN else {}),
        }
    return answers


def _call(summary: str, good: dict[int, str], body: str | None = None, **more: Any) -> Schema:
    problems = more.pop("problems", _CALL if body else (429, 503))
    call: Schema = {"summary": summary, "responses": _answers(good, *problems), **more}
    if body:
        content = {"application/json": {"schema": _ref(body)}}
        call["requestBody"] = {"required": True, "content": content}
    return call


def _named(name: str) -> list[Schema]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]


_CREATE = _call("Open a payment page for the basket or for items", {201: "Session"}, "Checkout")
_INITIATE = _call("Open something to pay on a page of one's own", {201: "Intent"}, "Checkout")

_WEBHOOK: Schema = {
    "summary": "Stripe's door: an event, signed over the raw bytes",
    "parameters": [
        {
            "name": "Stripe-Signature",
            "in": "header",
            "required": True,
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "security": [],
    "responses": {
        "200": {"description": "Stored, or known already."},
        **{
            code: answer
            for code, answer in _answers({}, 400, 413, 503).items()
            if code != "404"  # whoever signs well is let in, and nobody else is told anything
        },
    },
}


def _health(summary: str, schema: str, *also: int) -> Schema:
    content = {"application/json": {"schema": _ref(schema)}}
    answers = {str(status): {"description": "It answers.", "content": content} for status in also}
    return {"summary": summary, "security": [], "responses": answers}


PATHS: Schema = {
    "/stripe/webhook": {"post": _WEBHOOK},
    "/webhook": {"post": _WEBHOOK},
    "/api/payments/webhook": {"post": _WEBHOOK},
    "/api/stripe/webhook": {"post": _WEBHOOK},
    "/api/webhooks": {"post": _WEBHOOK},
    "/healthz": {"get": _health("Whether this process answers", "Alive", 200)},
    "/readyz": {"get": _health("Whether all that a shop needs is there", "Ready", 200, 503)},
    "/api/cart": {
        "get": _call("The basket, priced by the server", {200: "Cart"}),
        "put": _call("Replace what is in the basket", {200: "Cart"}, "CartContent"),
    },
    "/api/payments/create-checkout-session": {"post": _CREATE},
    "/api/checkout/create-session": {"post": _CREATE},
    "/api/stripe/initiate-checkout": {"post": _INITIATE},
    "/api/create-payment-intent": {"post": _INITIATE},
    "/api/orders": {
        "post": _call(
            "Say that a payment or a card was confirmed in the browser; Stripe is asked",
            {200: "Order", 202: "Order"},
            "Confirmed",
        )
    },
    "/api/orders/by-session/{session_id}": {
        "get": _call("The order behind a session", {200: "Order"}, parameters=_named("session_id"))
    },
    "/api/orders/{order_or_intent}": {
        "get": _call(
            "An order, by its id or a payment intent's",
            {200: "Order"},
            parameters=_named("order_or_intent"),
        )
    },
    "/api/orders/{order_or_intent}/sync-status": {
        "get": {
            "summary": "Server-sent events: `changed` whenever the order's page would change",
            "parameters": _named("order_or_intent"),
            "responses": {
                "200": {
                    "description": "A stream of at most a minute.",
                    "content": {"text/event-stream": {"schema": _ref("Ring")}},
                },
                **_answers({}, 429, 503),
            },
        }
    },
    "/api/orders/{order_id}/retry-session": {
        "post": _call(
            "A new payment page for the same order; the old one is closed first",
            {201: "Retry"},
            parameters=_named("order_id"),
            problems=(400, 403, 409, 429, 502, 503),
        )
    },
    "/api/admin/sync-orders": {
        "post": _call(
            "Hold everything open against Stripe (admins)",
            {200: "Tally"},
            problems=(400, 403, 429, 502, 503),
        )
    },
}

DOCUMENT: Schema = {
    "openapi": "3.1.0",
    "info": {
        "title": "Quittance",
        "version": "0.1.0",
        "description": "Checkout and orders. Money is in minor units, times are ISO 8601 in UTC. "
        "Calls come from the shop's own pages (session cookie and X-CSRFToken); one order may be "
        "read with the token of its link.",
    },
    "paths": PATHS,
    "components": {
        "schemas": {**SCHEMAS, "CartContent": _object({"items": _ref("Items")})},
        "securitySchemes": {
            "session": {"type": "apiKey", "in": "cookie", "name": "shop"},
            "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRFToken"},
            "orderLink": {"type": "http", "scheme": "bearer"},
        },
    },
    "security": [{"session": [], "csrf": []}, {"orderLink": []}],
}
