"""Catalogue and product pages."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import (
    Blueprint,
    current_app,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from blueprints import web
from domain import plans
from domain.clock import now
from services import cart, catalogue, language

bp = Blueprint("storefront", __name__)


@bp.get("/", endpoint="catalogue")
def show_catalogue() -> str:
    after = request.args.get("after", "")
    offset = min(int(after), 10_000) if after.isdecimal() and len(after) < 6 else 0
    asked = {name: request.args.get(name, "").strip()[:80] for name in ("q", "category", "sort")}
    found, count = catalogue.search(
        query=asked["q"],
        category=asked["category"],
        sort=asked["sort"] or "name",
        currency=web.currency(),
        offset=offset,
    )
    following = offset + len(found)
    page = "storefront/_grid.html" if web.is_fragment() else "storefront/catalogue.html"
    return render_template(
        page,
        products=[Shown(product, web.currency()) for product in found],
        query=asked["q"],
        category=asked["category"],
        categories=catalogue.categories(),
        sort=asked["sort"] or "name",
        next_after=str(following) if following < count else None,
        total_count=count,
    )


@bp.get("/products/<slug>")
def product(slug: str) -> str:
    return render_product(slug)


def render_product(
    slug: str,
    *,
    added: bool = False,
    problem: dict[str, object] | None = None,
    quantity: object = 1,
) -> str:
    """The page, or only its buying part for htmx."""
    shown = Shown(catalogue.by_slug(slug), web.currency())
    page = "storefront/_buy.html" if web.is_fragment() else "storefront/product.html"
    return render_template(page, product=shown, added=added, problem=problem, quantity=quantity)


@bp.post("/currency")
def choose_currency() -> Response:
    chosen = request.form.get("currency", "")
    if chosen in catalogue.CURRENCIES:
        session["currency"] = chosen
        shopper = web.known_shopper()
        if shopper:
            cart.choose_currency(shopper, chosen)
    host, _, rest = (request.referrer or "").partition("://")[2].partition("/")
    return redirect(_back_to(f"/{rest}" if host == request.host else ""), code=303)


@bp.post("/language")
def choose_language() -> Response:
    """The form says where it stands, because the pages of an order keep their address to
    themselves. A page that named another language is left for the one without a name."""
    chosen = request.form.get("language", "")
    if chosen in language.LANGUAGES:
        session["language"] = chosen
    path, _, query = request.form.get("back", "").partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name != "lang"]
    return redirect(_back_to(path + ("?" + urlencode(kept) if kept else "")), code=303)


def _back_to(address: str) -> str:
    """A page of ours; whatever else a browser names leads to the shelf."""
    pages = current_app.create_url_adapter(request)
    if pages and address.startswith("/") and not address.startswith(("//", "/\\")):
        with suppress(HTTPException):
            pages.match(address.partition("?")[0], method="GET")
            return address
    return url_for("storefront.catalogue")


class Shown:
    """A product as a page shows it: with one price, in the visitor's currency (minor units)."""

    def __init__(self, product: object, currency: str) -> None:
        self._product = product
        self._currency = currency

    def __getattr__(self, name: str) -> object:
        return getattr(self._product, name)

    @property
    def price(self) -> int | None:
        prices: dict[str, int] = self._product.prices  # type: ignore[attr-defined]
        return prices.get(self._currency)

    @property
    def charged_next(self) -> datetime | None:
        """When one who subscribes now pays again, or, after a trial, for the first time."""
        plan: dict[str, Any] | None = self._product.plan  # type: ignore[attr-defined]
        return plans.charged_next(plan, now()) if plan else None
