"""Checkout form, the way to the payment page, and the ways back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import (
    Blueprint,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from blueprints import orders as order_pages
from blueprints import web
from blueprints.forms import CheckoutForm, tidy
from domain import plans
from domain.delivery import DEFAULT, DELIVERIES
from domain.errors import CodeRefused, Conflict, LostReference, PriceChanged, ShopError
from extensions import limiter
from services import (
    cart,
    checkout,
    language,
    orders,
    pay_page,
    plan_pages,
    pricing,
    status_page,
)
from services.checkout import AlreadyPaid

bp = Blueprint("checkout", __name__)

Page = Response | str | tuple[str, int]


@bp.get("/checkout")
def form() -> Page:
    basket = cart.view(web.known_shopper(), web.currency())
    if not basket.lines or basket.clash:  # there it says why
        return redirect(url_for("cart.show"), code=303)
    return _render(CheckoutForm(formdata=None), basket)


@bp.post("/checkout")
@limiter.limit("30 per minute")
def start() -> Page:
    filled = CheckoutForm()
    if not filled.validate_on_submit():
        return _render(filled, errors=filled.problems()), 422
    try:
        page = checkout.start(
            web.shopper(),
            filled.contact(),
            filled.address(),
            filled.delivery.data,
            code=filled.code.data,
        )
    except AlreadyPaid as paid:
        return redirect(url_for("orders.order", order_id=paid.order_id), code=303)
    except CodeRefused as refused:
        return _render(filled, refusal=language.said(refused.message)), refused.http_status
    except ShopError as error:
        return _render(filled, problem=_problem(error)), error.http_status
    return web.to_payment(page)


@bp.post("/checkout/code")
@limiter.limit("20 per minute")
def code() -> Page:
    """The same page, with what a discount code takes off; all that was typed stays."""
    filled = CheckoutForm()
    basket = _basket()
    if not basket.lines or basket.clash:
        return redirect(url_for("cart.show"), code=303)
    refusal = _summary(filled.delivery.data, basket, filled.code.data).refusal
    return _render(filled, basket, refusal=refusal), 422 if refusal else 200


@bp.get("/checkout/pay/<attempt_id>")
@limiter.limit("120 per minute")
def pay(attempt_id: str) -> Page:
    """Stripe's fields on a page of ours; whoever has paid meanwhile sees the order."""
    attempt = web.owned(attempt_id).attempt
    try:
        page = checkout.again(attempt.id, attempt.shopper_id)
    except Conflict:  # paid, or over: the order's page says which
        return redirect(url_for("orders.order", order_id=attempt.id), code=303)
    if page.url:
        return web.to_payment(page)
    settings = current_app.extensions["settings"]
    back = url_for("checkout.order_success", order_id=attempt.id)
    case = web.owned(attempt_id)
    shown = make_response(
        render_template(
            "checkout/pay.html",
            view=status_page.describe(case, mine=True),
            page=page,
            asked=pay_page.describe(case, page),
            embedded=page.session_id is not None,
            publishable_key=settings.stripe_publishable_key,
            fields_script=web.fields_script(),
            back=settings.public_origin + back,
        )
    )
    shown.headers["Content-Security-Policy"] = web.policy(fields=True)
    return shown


@bp.post("/checkout/pay/<attempt_id>/hosted")
@limiter.limit("30 per minute")
def pay_hosted(attempt_id: str) -> Page:
    """The same checkout on Stripe's own page: without scripts, or because somebody likes it."""
    attempt = web.owned(attempt_id).attempt
    try:
        page = checkout.again(attempt.id, attempt.shopper_id, "hosted")
    except Conflict:
        return redirect(url_for("orders.order", order_id=attempt.id), code=303)
    return web.to_payment(page)


@bp.post("/checkout/quote")
@limiter.limit("60 per minute")
def quote() -> str:
    """The summary for another delivery."""
    summary = _summary(request.form.get("delivery"), _basket(), tidy(request.form.get("code")))
    return render_template("checkout/_summary.html", summary=summary)


@bp.post("/checkout/again")
def again() -> Response:
    return order_pages.to_payment(request.form.get("order_id", ""))


@bp.post("/checkout/release")
def release() -> Response:
    attempt = web.owned(request.form.get("order_id")).attempt
    try:
        checkout.release(attempt.id, attempt.shopper_id)
    except AlreadyPaid:
        return redirect(url_for("orders.order", order_id=attempt.id), code=303)
    return redirect(url_for("cart.show"), code=303)


@bp.get("/checkout/success")
@bp.get("/api/checkout/success", endpoint="api_success")
@limiter.limit("120 per minute")
def success() -> Page:
    """The shopper is back. Ask Stripe itself; the address bar proves nothing."""
    session_id = request.args.get("session_id")
    if not session_id:
        raise LostReference
    return _landed(orders.id_of_session(session_id) or checkout.found_at_stripe(session_id))


@bp.get("/order-success/<order_id>")
@limiter.limit("120 per minute")
def order_success(order_id: str) -> Page:
    """The same, by the order's own address, which opens it for its owner only."""
    return _landed(web.owned(order_id).attempt.id)


@bp.get("/payment/success")
@limiter.limit("120 per minute")
def payment_success() -> Page:
    """The same for a shopper who paid on a page of ours, or saved a card there."""
    payment_intent = request.args.get("payment_intent")
    setup_intent = request.args.get("setup_intent")
    if payment_intent:
        return _landed(orders.id_of_intent(payment_intent))
    if setup_intent:
        return _landed(orders.id_of_setup(setup_intent))
    raise LostReference


@bp.get("/checkout/cancel")
def cancel() -> Page:
    case = status_page.asked(web.owned(request.args.get("attempt")))  # paid in another tab?
    owes = plan_pages.first_unpaid(case)  # it is paid on Stripe's page, and not again from here
    if case.has_moved_money or owes or case.attempt.state != "open":  # that page says how it ended
        return redirect(url_for("orders.order", order_id=case.attempt.id), code=303)
    return order_pages.render(case, "checkout/cancel.html")


def _landed(order_id: str | None) -> str:
    case = orders.dossier(order_id)
    if case is None:
        raise web.missing()
    case = status_page.landed(case, web.known_shopper())
    return order_pages.render(case, "checkout/success.html")


@dataclass(frozen=True, slots=True)
class _Summary:
    """Amounts in minor units; ``total`` is due today, with ``taxed_later`` before tax.
    ``refusal`` says why a code that was typed takes nothing off."""

    lines: list[cart.Line]
    shipping: int  # what the chosen delivery costs, where anything is charged for it
    discount: int
    code: str | None
    refusal: str | None
    taxed_later: bool
    total: int
    renewals: list[cart.Renewal]
    ships_free: bool
    currency: str

    @property
    def subtotal(self) -> int:
        return cart.amount_of(self.lines)

    @property
    def is_trial(self) -> bool:
        """Whether it begins with nothing to pay."""
        return bool(self.renewals) and self.total == 0

    @property
    def press(self) -> str:
        """What the button says."""
        if self.is_trial:
            return _("Start your free trial")
        if self.taxed_later:
            return _("Go on to pay")
        return _("Pay %(sum)s", sum=language.money(self.total, self.currency))


@dataclass(frozen=True, slots=True)
class _Way:
    code: str
    label: str
    detail: str
    amount: int


def _render(
    filled: CheckoutForm,
    basket: cart.CartView | None = None,
    *,
    errors: list[tuple[str, str]] | None = None,
    problem: dict[str, Any] | None = None,
    refusal: str | None = None,
) -> str:
    """``refusal`` is why the code that was typed cannot be used."""
    basket = basket or _basket()
    summary = _summary(filled.delivery.data, basket, None if refusal else filled.code.data)
    if refusal or summary.refusal:
        filled.code.errors = [refusal or summary.refusal]
        errors = [*(errors or []), ("code", str(filled.code.errors[0]))]
    return render_template(
        "checkout/form.html",
        cart=basket,
        form=filled,
        deliveries=[
            _Way(way.code, way.label, way.detail, way.prices[basket.currency])
            for way in DELIVERIES.values()
            if basket.currency in way.prices
        ],
        summary=summary,
        errors=errors or [],
        problem=problem,
    )


def _problem(error: ShopError) -> dict[str, Any]:
    back = {"url": url_for("cart.show"), "label": _("Back to basket")}
    if isinstance(error, PriceChanged):
        back["label"] = _("See the new prices")
    return {"headline": error.headline, "message": error.message, "action": back}


def _basket() -> cart.CartView:
    return cart.view(web.known_shopper(), web.currency())


def _summary(delivery: str | None, basket: cart.CartView, code: str | None = None) -> _Summary:
    way = DELIVERIES.get(delivery or "", DELIVERIES[DEFAULT])
    lines, shipping = basket.to_buy, way.prices[basket.currency]
    bare = [line.as_snapshot for line in lines]
    due = plans.due_now(bare, shipping)
    discount, taken, refusal = 0, None, None
    if code and lines:
        try:
            priced = pricing.price(bare, shipping, basket.currency, code=code)
            discount, taken = priced.discount, priced.code
        except ShopError as error:
            refusal = language.said(error.message)
    return _Summary(
        lines=lines,
        shipping=shipping,
        discount=discount,
        code=taken,
        refusal=refusal,
        taxed_later=pricing.comes_on_top(),
        total=sum(due.values()) - discount,
        renewals=cart.renewals_of(lines),
        ships_free=plans.ONCE not in due,
        currency=basket.currency,
    )
