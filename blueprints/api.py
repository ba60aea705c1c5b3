"""JSON for the browser and for programs; errors are application/problem+json."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from blueprints import roles, web
from blueprints.forms import COUNTRIES, tidy
from domain import plans
from domain.delivery import DEFAULT, DELIVERIES
from domain.errors import Forbidden, ShopError
from extensions import csrf, limiter
from services import by_hand, cart, checkout, orders, status_page
from services.addresses import mail_address
from services.checkout import Address, Contact

bp = Blueprint("api", __name__, url_prefix="/api")

MOST_ITEMS = 100


class Unprocessable(ShopError):
    code = "invalid"
    http_status = 422
    headline = "Some fields need another look"


@bp.put("/cart")
def put_cart() -> ResponseReturnValue:
    """Make these the cart's lines, and say what they cost now."""
    cart.replace(web.shopper(), _items(_body()), web.currency())
    basket = _basket()
    return _cart_json(basket.to_buy, basket.currency)


@bp.get("/cart")
def get_cart() -> ResponseReturnValue:
    basket = _basket()
    return _cart_json(basket.kept, basket.currency)


@bp.post("/payments/create-checkout-session")
@bp.post("/checkout/create-session", endpoint="create_session")
@limiter.limit("30 per minute")
def create_checkout_session() -> ResponseReturnValue:
    """Open (or find again) the payment page of this shopper's basket."""
    body = _body()
    way = body.get("uiMode", "hosted")
    if way not in ("hosted", "embedded"):
        raise Unprocessable("uiMode must be “hosted” or “embedded”.")
    page = _start(body, way)
    entrance = {"clientSecret": page.client_secret} if way == "embedded" else {"url": page.url}
    return jsonify(**_ids(page), sessionId=page.session_id, **entrance), 201


@bp.post("/stripe/initiate-checkout")
@bp.post("/create-payment-intent", endpoint="create_payment_intent")
@limiter.limit("30 per minute")
def initiate_checkout() -> ResponseReturnValue:
    """Open (or find again) what this shopper's basket can be paid with on the caller's own page.
    Subscriptions alone are paid with the card that ``clientSecret`` saves, beside other things with
    that of ``setupClientSecret``, which comes first. Where nothing is due there is nothing to enter
    there, and a page to send the shopper to."""
    page = _start(_body(), "elements")
    if page.url:
        return jsonify(**_ids(page), url=page.url), 201
    answer = {**_ids(page), "clientSecret": page.client_secret or page.setup_client_secret}
    if page.payment_intent:
        answer["paymentIntentId"] = page.payment_intent
    if page.client_secret and page.setup_client_secret:
        answer["setupClientSecret"] = page.setup_client_secret
    return jsonify(answer), 201


@bp.post("/orders")
@csrf.exempt
@limiter.limit("120 per minute")
def settle_order() -> ResponseReturnValue:
    """The browser says that it has confirmed a payment, or saved the card of subscriptions. Stripe
    is asked; the order is never made twice, whoever comes first. 202 while it is not decided."""
    _from_our_page_or_with_a_token()
    body = _body()
    attempt_id = _id(body, "checkoutAttemptId")
    name = "setupIntentId" if "setupIntentId" in body else "paymentIntentId"
    case = _told(attempt_id, name, _id(body, name))
    if case.attempt.state == "settled" and name == "setupIntentId":
        checkout.ask(attempt_id)  # the order is decided, but not what recurs
    case = status_page.landed(case, web.known_shopper())
    return jsonify(orders.as_dict(case)), 202 if case.attempt.state == "open" else 200


def _told(attempt_id: str, name: str, value: str) -> orders.Dossier:
    """The checkout, if it is this visitor's and what was confirmed is its own."""
    case = web.owned(attempt_id)
    if name == "setupIntentId":
        if not case.has_card_by(value):
            raise web.missing("card of this order")
        return case
    if not case.is_paid_through(value):
        case = status_page.asked(case)  # a session names its intent only once somebody has paid
    if not case.is_paid_through(value):
        raise web.missing("payment of this order")
    return case


@bp.post("/orders/<order_id>/retry-session")
@csrf.exempt
@limiter.limit("30 per minute")
def retry_session(order_id: str) -> ResponseReturnValue:
    """A new payment page for the same order; the old one can no longer be paid."""
    _from_our_page_or_with_a_token()
    attempt = web.owned(order_id).attempt
    page = checkout.retry(attempt.id, attempt.shopper_id)
    answer = {
        "sessionId": page.session_id,
        "previousSessionId": page.previous_session_id,
        "url": page.url or web.own_pay_url(page),
    }
    return jsonify(answer), 201


def _from_our_page_or_with_a_token() -> None:
    """An order's token is sent by a program, and no other site can make a browser send it."""
    if not web.bearer():
        csrf.protect()


@bp.get("/orders/by-session/<session_id>")
def order_by_session(session_id: str) -> ResponseReturnValue:
    return _order_json(orders.id_of_session(session_id))


@bp.get("/orders/<order_or_intent>")
def order(order_or_intent: str) -> ResponseReturnValue:
    return _order_json(orders.id_of(order_or_intent))


def _start(body: dict[str, Any], way: str) -> checkout.PayPage:
    contact, address, delivery = _contact(body), _address(body), _delivery(body)
    if "items" in body:
        cart.replace(web.shopper(), _items(body), web.currency())
    return checkout.start(web.shopper(), contact, address, delivery, way, _code(body))


def _ids(page: checkout.PayPage) -> dict[str, Any]:
    return {"checkoutAttemptId": page.attempt_id, "orderId": page.attempt_id}


@bp.post("/admin/sync-orders")
@csrf.exempt  # only so that who asks is looked at first: nobody else's request gets any further
def sync_orders() -> ResponseReturnValue:
    """Hold everything open against Stripe, and say how many orders that changed."""
    admin = web.admin()
    if admin is None or not roles.may(admin.role, request.endpoint):
        raise Forbidden("Only a signed-in admin may do this. Nothing was done.")
    csrf.protect()
    return jsonify(by_hand.sync_orders(admin.email).as_dict())


def _basket() -> cart.CartView:
    return cart.view(web.known_shopper(), web.currency())


def _cart_json(lines: list[cart.Line], currency: str) -> ResponseReturnValue:
    items = [_cart_line(line) for line in lines]
    return jsonify(items=items, subtotal=cart.amount_of(lines), currency=currency)


def _cart_line(line: cart.Line) -> dict[str, Any]:
    item: dict[str, Any] = {
        "sku": line.sku,
        "title": line.title,
        "quantity": line.quantity,
        "unitAmount": line.unit_amount,
        "amount": line.price,
    }
    if line.plan:
        interval, count, trial_days = plans.rhythm(line.plan)
        item["plan"] = {"interval": interval, "count": count, "trialDays": trial_days}
    return item


def _order_json(order_id: str | None) -> ResponseReturnValue:
    return jsonify(orders.as_dict(web.owned(order_id)))


def _body() -> dict[str, Any]:
    try:
        body = request.get_json()
    except RecursionError as error:
        raise BadRequest from error
    if not isinstance(body, dict):
        raise Unprocessable("The body must be a JSON object.")
    return body


def _items(body: dict[str, Any]) -> list[tuple[str, object]]:
    items = body.get("items")
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise Unprocessable(f"items must be a list of at most {MOST_ITEMS} lines.")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("sku"), str):
            raise Unprocessable("Each item needs a sku (text) and a quantity (whole number).")
    return [(tidy(item["sku"]) or "", item.get("quantity")) for item in items]


def _contact(body: dict[str, Any]) -> Contact:
    given = _part(body, "contact")
    name = _text(given, "contact", "name", 120)
    email = mail_address(_text(given, "contact", "email", 254))
    if email is None:
        raise Unprocessable("contact.email must be an address like name@example.com.")
    return Contact(name, email, _text(given, "contact", "phone", 40, optional=True))


def _address(body: dict[str, Any]) -> Address:
    given = _part(body, "shipping")
    country = _text(given, "shipping", "country", 2)
    if country.upper() not in COUNTRIES:
        raise Unprocessable("shipping.country must be a two-letter code that this shop ships to.")
    return Address(
        line1=_text(given, "shipping", "line1", 200),
        line2=_text(given, "shipping", "line2", 200, optional=True),
        city=_text(given, "shipping", "city", 120),
        postal_code=_text(given, "shipping", "postalCode", 20),
        state=_text(given, "shipping", "state", 120, optional=True),
        country=country.upper(),
    )


def _code(body: dict[str, Any]) -> str | None:
    value = body.get("code")
    if value is not None and not isinstance(value, str):
        raise Unprocessable("code must be text.")
    return tidy(value)


def _delivery(body: dict[str, Any]) -> str:
    given = _part(body, "shipping")
    chosen: str = _text(given, "shipping", "delivery", 40, optional=True) or DEFAULT
    if chosen not in DELIVERIES:
        raise Unprocessable(f"shipping.delivery must be one of {', '.join(DELIVERIES)}.")
    return chosen


def _id(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    text = tidy(value) if isinstance(value, str) else None  # no NUL: PostgreSQL knows no such text
    if not text:
        raise Unprocessable(f"{name} must be text.")
    return text


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if not isinstance(part, dict):
        raise Unprocessable(f"{name} must be an object.")
    return part


def _text(given: dict[str, Any], part: str, name: str, most: int, *, optional: bool = False) -> Any:
    value = given.get(name)
    if value is None and optional:
        return None
    text = tidy(value) if isinstance(value, str) else None
    if not text and optional and isinstance(value, str):
        return None
    if not text or len(text) > most:
        raise Unprocessable(f"{part}.{name} must be text of 1 to {most} characters.")
    return text
