"""The basket's page and its buttons."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import storefront, web
from domain.errors import BadQuantity, OutOfStock, ProductUnavailable, ShopError
from services import cart, catalogue, pricing

bp = Blueprint("cart", __name__, url_prefix="/cart")

Page = Response | str | tuple[str, int]


@bp.get("")
def show() -> str:
    return _render(undo=session.pop("undo", None))


@bp.post("/items")
def add() -> Page:
    sku, quantity = request.form.get("sku", ""), request.form.get("quantity", "1")
    product = catalogue.by_sku(sku)
    try:
        cart.add(web.shopper(), sku, quantity, web.currency())
    except ShopError as error:
        problem = {"message": error.message, "left": getattr(error, "left", None)}
        shown = problem["left"] if isinstance(error, OutOfStock) else quantity
        page = storefront.render_product(product.slug, problem=problem, quantity=shown)
        return page, error.http_status
    if web.is_fragment():
        return storefront.render_product(product.slug, added=True)
    return redirect(url_for(".show"), code=303)


@bp.post("/lines")
def change() -> Page:
    sku = request.form.get("sku", "")
    try:
        cart.change(web.shopper(), sku, request.form.get("quantity", ""), web.currency())
    except (OutOfStock, BadQuantity, ProductUnavailable) as error:
        return _render(problems={sku: error.message}), error.http_status
    return _done()


@bp.post("/lines/remove")
def remove() -> Page:
    sku = request.form.get("sku", "")
    removed = cart.remove(web.shopper(), sku)
    undo = {"sku": sku, "title": removed[0], "quantity": removed[1]} if removed else None
    return _done(undo)


@bp.post("/lines/restore")
def restore() -> Page:
    sku, quantity = request.form.get("sku", ""), request.form.get("quantity", "1")
    cart.add(web.shopper(), sku, quantity, web.currency())
    return _done()


@bp.post("/prices")
def accept_prices() -> Page:
    cart.accept_prices(web.shopper())
    return _done()


def _done(undo: dict[str, Any] | None = None) -> Page:
    if web.is_fragment():
        return _render(undo=undo)
    if undo:
        session["undo"] = undo
    return redirect(url_for(".show"), code=303)


def _render(*, undo: dict[str, Any] | None = None, problems: dict[str, str] | None = None) -> str:
    basket = cart.view(web.known_shopper(), web.currency())
    page = "storefront/_cart_lines.html" if web.is_fragment() else "storefront/cart.html"
    taxed_later = pricing.comes_on_top()
    return render_template(
        page, cart=basket, undo=undo, problems=problems or {}, taxed_later=taxed_later
    )
