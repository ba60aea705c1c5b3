"""A stand-in for Stripe.js: the script a page loads, and the form that it frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response

from . import cards, methods
from .api.authorization import authorize
from .api.payment_methods import CURRENCY
from .errors import ApiError
from .pages import HERE, groups, render

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

FILES = {
    "elements.js": "text/javascript",
    "element-frame.js": "text/javascript",
    "checkout-frame.js": "text/javascript",
    "element.css": "text/css",
}
# What the form does not offer: it happens after paying, or to the news of it.
ELSEWHERE = ("late", "lost", "twice", "shuffled", "expires", "wrong_amount")
NEWS = {
    "": "At once",
    "late": "20 seconds late",
    "lost": "Never",
    "twice": "Twice",
    "shuffled": "In the wrong order",
}


def serve(box: Sandbox, environ: dict[str, Any]) -> Response:
    request = Request(environ)
    name = request.path.removeprefix("/js/")
    if name in FILES:
        text = (HERE / "static" / name).read_bytes()
        headers = {"Cache-Control": "max-age=60", "X-Content-Type-Options": "nosniff"}
        return Response(text, mimetype=FILES[name], headers=headers)
    if name == "element" and request.method == "GET":
        return _form(request)
    if name == "method" and request.method == "POST":
        return _make_method(box, request)
    return render("gone.html", status=404)


def _form(request: Request) -> Response:
    """The form in the frame: what it asks for depends on what the intent takes."""
    kinds = request.args.get("types", "card").split(",")
    saving = request.args.get("saving") == "1"
    cards_first, *rest = groups(lambda way: not way.is_debit, saving=saving, without=ELSEWHERE)
    offered = cards_first[1] + [outcome for _, group in rest for outcome in group]
    return render(
        "element.html",
        scripts=True,
        back_to="*",
        scheme="dark" if request.args.get("scheme") == "dark" else "light",
        tests=[o for o in offered if o.way in cards.WAYS],
        takes_card="card" in kinds,
        debit=next((kind for kind in kinds if kind != "card"), None),
        saving=saving,
        news=NEWS,
    )


def _make_method(box: Sandbox, request: Request) -> Response:
    """Make a payment method of what was typed; what befalls its webhooks is noted beside it."""
    asked: Obj = request.get_json(silent=True) or {}
    try:
        authorize(request.headers.get("Authorization", ""))
    except ApiError as error:
        return _json({"error": error.body}, error.status)
    name = str(asked.get("way", ""))
    if name not in cards.WAYS and not cards.is_card_number(name):
        problem = {
            "type": "validation_error",
            "code": "incomplete_number",
            "message": "Your card number is incomplete.",
        }
        return _json({"error": problem}, 400)
    with box.lock:
        box.tick()
        currency = CURRENCY.get(asked.get("type", ""))
        method = methods.new_method(box, name, currency, asked.get("buyer"))
        mood = str(asked.get("webhooks", ""))
        box.store.put(method, mood=mood if mood in NEWS else "")
        box.store.commit()
        return _json(method, 200)


def _json(told: Obj, status: int) -> Response:
    return Response(json.dumps(told), status, mimetype="application/json")
