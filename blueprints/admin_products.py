"""What is for sale and how much of it is there; a part of the counter, under its rules."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from flask import g, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import charts, web
from blueprints.admin import bp
from blueprints.forms import tidy
from domain.clock import now
from domain.errors import Conflict, ShopError
from domain.money import display, plain
from models import Product, StockMovement
from services import goods, goods_file
from services.catalogue import CURRENCIES
from services.goods_file import BadFile, Plan, PlanOvertaken, Step

__all__ = ["bp"]  # the counter's, with the goods in it

Page = Response | str | tuple[str, int]

# A file a little too large is still read, so that the page can say what is wrong with it.
LARGEST_UPLOAD = 2 * goods.LARGEST_FILE
WITH_A_FILE = {"admin.check_products_file", "admin.import_products"}
MOST_PROBLEMS = 50  # shown of a file that cannot be read
LONGEST_SHOWN = 80  # characters of a text that changes
NAMES = {"slug": "Address", "active": "For sale"}
ACTIONS = {
    "added goods": "Added",
    "changed goods": "Changed",
    "imported goods": "Changed by a file",
    "archived goods": "Archived",
    "brought back goods": "Brought back",
}
EMPTY = {
    "all": (
        "No products yet",
        "Import brings a whole catalogue from a file and shows first what it would do; "
        "New product adds one.",
    ),
    "for-sale": (
        "Nothing is for sale",
        "Book what came in on a product’s page, or bring one back.",
    ),
    "low": ("Nothing is running low", f"Here stands what has fewer than {goods.FEW} units free."),
    "sold-out": ("Nothing is sold out", "Here stands what is on the shelf with no unit free."),
    "archived": (
        "Nothing is archived",
        "A product that is no longer sold is archived on its page, and never deleted: "
        "its orders and its stock stay.",
    ),
}


@bp.url_value_preprocessor
def _room_for_a_file(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Before anybody reads the form, which the token's check does first."""
    if endpoint in WITH_A_FILE:
        request.max_content_length = request.max_form_memory_size = LARGEST_UPLOAD


@bp.get("/products", endpoint="products")
def product_list() -> str:
    if web.is_fragment():
        return render_template("admin/_product_rows.html", **_list())
    current = request.args.get("view", "all")
    counts = goods.view_counts()
    return render_template(
        "admin/products.html",
        views=[
            {
                "label": label,
                "url": url_for(".products", view=code),
                "count": counts[code],
                "current": code == current,
            }
            for code, (label, _) in goods.VIEWS.items()
        ],
        said=session.pop("products_said", None),
        view=current if current in goods.VIEWS else "all",
        **_list(),
    )


@bp.get("/products.csv")
def products_csv() -> Response:
    """The goods as a file that can be changed and imported again."""
    answer = make_response("".join(goods_file.write()))
    answer.content_type = "text/csv; charset=utf-8"
    name = f"products-{now():%Y-%m-%d}.csv"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@bp.get("/new-product")
def new_product() -> str:
    return _new_page({}, {})


@bp.post("/products")
def add_product() -> Page:
    typed = _typed()
    try:
        product = goods.add(g.admin.email, typed)
    except goods.NotGoods as error:
        return _new_page(typed, error.problems), error.http_status
    return _back(product.sku, "Added. It is in the shop now.")


@bp.get("/products/<sku>")
def product(sku: str) -> Page:
    return _product_page(sku, said=session.pop("product_said", None))


@bp.post("/products/<sku>")
def change_product(sku: str) -> Page:
    typed = _typed()
    try:
        changed = goods.change(
            g.admin.email, sku, typed, reason=typed.get("reason", ""), seen=typed.get("seen", "")
        )
    except goods.NotGoods as error:
        return _product_page(sku, typed=typed, problems=error.problems), error.http_status
    except Conflict as error:
        kept = {"reason": typed.get("reason", "")}
        return _product_page(sku, typed=kept, conflict=error), error.http_status
    return _back(sku, "Saved." if changed else "Nothing was different, so nothing was saved.")


@bp.post("/products/<sku>/receipts")
def receive_stock(sku: str) -> Page:
    typed = _typed()
    came = goods.whole(typed.get("came", ""))
    try:
        units = goods.receive(
            g.admin.email,
            sku,
            typed.get("units", ""),
            reason=typed.get("reason", ""),
            came=-1 if came is None else came,
        )
    except goods.NotGoods as error:
        return _stock_problem(sku, "receive", typed, error)
    except Conflict as error:
        kept = _named("receive", typed)
        return _product_page(sku, typed=kept, conflict=error), error.http_status
    return _back(sku, f"{units:,} received.")


@bp.post("/products/<sku>/corrections")
def correct_stock(sku: str) -> Page:
    typed = _typed()
    seen = goods.whole(typed.get("seen", ""))
    try:
        changed = goods.correct(
            g.admin.email,
            sku,
            typed.get("on_hand", ""),
            reason=typed.get("reason", ""),
            on_hand=-1 if seen is None else seen,
        )
    except goods.NotGoods as error:
        return _stock_problem(sku, "correct", typed, error)
    except Conflict as error:  # the number was counted before: it has to be counted again
        kept = {"correct-reason": typed.get("reason", "")}
        return _product_page(sku, typed=kept, conflict=error), error.http_status
    return _back(sku, "Corrected." if changed else "That many are on hand: nothing to correct.")


@bp.post("/products/<sku>/archiving")
def archive_product(sku: str) -> Page:
    return _put_on_sale(sku, False, "Archived. Its page stays, and says that it is not for sale.")


@bp.post("/products/<sku>/return")
def bring_back_product(sku: str) -> Page:
    return _put_on_sale(sku, True, "Back in the shop.")


@bp.get("/product-imports")
def products_import() -> str:
    return _import_page()


@bp.post("/product-imports")
def check_products_file() -> Page:
    """The dry run: what this file would do, line by line."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return _import_page(problems=["Choose a file first."]), 422
    # One byte more than a file may have tells whether it has more.
    return _planned(upload.stream.read(goods.LARGEST_FILE + 1), tidy(upload.filename) or "")


@bp.post("/product-imports/confirmations")
def import_products() -> Page:
    """Apply the very bytes that the dry run has shown, if they still do what it said."""
    try:
        content = base64.urlsafe_b64decode(request.form.get("content", ""))
    except (binascii.Error, ValueError):
        content = b""
    name = tidy(request.form.get("name")) or ""
    try:
        done = goods.import_file(
            g.admin.email, content, seen=request.form.get("seen", ""), name=name[:80]
        )
    except BadFile as error:
        return _import_page(problems=error.problems, name=name), error.http_status
    except PlanOvertaken as error:
        page, status = _planned(content, name, conflict=error)
        return page, error.http_status if status == 200 else status
    session["products_said"] = f"Imported: {done.new} new, {done.changed} changed."
    return redirect(url_for(".products"), code=303)


def _put_on_sale(sku: str, active: bool, said: str) -> Page:
    typed = _typed()
    try:
        goods.put_on_sale(g.admin.email, sku, active, reason=typed.get("reason", ""))
    except goods.NotGoods as error:
        return _stock_problem(sku, "sale", typed, error)
    return _back(sku, said)


def _stock_problem(sku: str, form: str, typed: dict[str, str], error: goods.NotGoods) -> Page:
    problems, kept = _named(form, error.problems), _named(form, typed)
    return _product_page(sku, typed=kept, problems=problems), error.http_status


def _named(form: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Several forms of the page ask for a reason: each field is known by its form's name too."""
    return {f"{form}-{name}": value for name, value in fields.items()}


def _back(sku: str, said: str) -> Response:
    session["product_said"] = said
    return redirect(url_for(".product", sku=sku), code=303)


def _typed() -> dict[str, str]:
    """What the form holds, tidied; a description keeps its lines."""
    form = request.form
    typed = {name: tidy(form.get(name)) or "" for name in form}
    lines = [tidy(line) or "" for line in form.get("description", "").splitlines()]
    return {**typed, "description": "\n".join(lines).strip()} if "description" in form else typed


# -- pages


def _list() -> dict[str, Any]:
    view, wanted = request.args.get("view", "all"), request.args.get("q", "").strip()[:200]
    after = request.args.get("after")
    found = goods.page(view, wanted, after)
    shown, more = found[: goods.PAGE], len(found) > goods.PAGE
    here: dict[str, Any] = {"view": view, "q": wanted or None}
    return {
        "rows": [_row(product) for product in shown],
        "wanted": wanted,
        "empty": EMPTY.get(view, EMPTY["all"]),
        "first": url_for(".products", **here) if after else None,
        "next": url_for(".products", **here, after=shown[-1].sku) if more else None,
    }


def _row(product: Product) -> dict[str, Any]:
    return {
        "sku": product.sku,
        "title": product.title,
        "picture": product.picture,
        "prices": [display(amount, currency) for currency, amount in _prices(product)],
        "plan": product.plan,
        "state": _state(product),
        "on_hand": product.on_hand,
        "held": product.held,
        "sold": product.sold,
        "free": product.free,
        "bar": charts.shares(free=product.free, held=product.held, sold=product.sold),
    }


def _prices(product: Product) -> list[tuple[str, int]]:
    of = product.prices
    return [(currency, of[currency]) for currency in goods.currencies_of(product) if currency in of]


def _state(product: Product) -> str:
    if not product.active:
        return "archived"
    return "for_sale" if product.free > 0 else "sold_out"


def _new_page(typed: dict[str, str], problems: dict[str, str]) -> str:
    return render_template(
        "admin/product_new.html",
        shown={"units": "0", **typed},
        problems=problems,
        currencies=CURRENCIES,
        longest=goods_file.TEXTS,
    )


def _product_page(
    sku: str,
    *,
    said: str | None = None,
    typed: Mapping[str, str] | None = None,
    problems: dict[str, str] | None = None,
    conflict: ShopError | None = None,
) -> str:
    """One product with everything about it. ``conflict`` says what was not done and why: what is
    shown beside it is the fresh state."""
    product = goods.find(sku)
    before = goods.whole(request.args.get("before", ""))
    found = goods.movements(product, before)
    latest, more = found[: goods.LATEST], len(found) > goods.LATEST
    seen = goods.version_of(product)
    typed = dict(typed or {})
    if problems and "seen" in typed:
        seen = typed["seen"]  # what was typed was typed over what was seen then
    return render_template(
        "admin/product.html",
        product={**_row(product), "slug": product.slug, "came": product.on_hand + product.sold},
        shown={**_as_typed(product), **typed},
        seen=seen,
        currencies=goods.currencies_of(product),
        longest=goods_file.TEXTS,
        longest_reason=goods.LONGEST_REASON,
        most_units=goods_file.MOST_UNITS,
        movements=[_movement(row) for row in latest],
        older=url_for(".product", sku=sku, before=latest[-1].id) if more else None,
        newest=url_for(".product", sku=sku) if before is not None else None,
        changes=[_change(row) for row in goods.changes(product)],
        problems=problems or {},
        conflict=conflict,
        said=said,
    )


def _as_typed(product: Product) -> dict[str, str]:
    """The product as its forms would send it."""
    return {
        **{name: getattr(product, name) for name in goods.WORDS},
        **{f"price_{currency}": plain(amount, currency) for currency, amount in _prices(product)},
        "correct-on_hand": str(product.on_hand),
    }


def _movement(row: StockMovement) -> dict[str, Any]:
    return {
        "at": row.at,
        "units": f"{row.quantity:+,}".replace("-", "−"),
        "kind": row.kind,
        "reason": row.reason,
        "order_id": row.order_id,
        "actor": row.actor,
        "initials": row.actor[:2].upper(),
    }


def _change(change: goods.Change) -> dict[str, Any]:
    return {
        "at": change.at,
        "actor": change.actor,
        "initials": change.actor[:2].upper(),
        "what": ACTIONS[change.action],
        "reason": change.reason,
        "steps": _in_words(change.steps),
    }


def _import_page(**more: Any) -> str:
    problems = more.pop("problems", [])
    return render_template(
        "admin/products_import.html",
        problems=problems[:MOST_PROBLEMS],
        more_problems=max(0, len(problems) - MOST_PROBLEMS),
        most_lines=goods.MOST_LINES,
        largest_kib=goods.LARGEST_FILE // 1024,
        columns=goods_file.columns(),
        **{"plan": None, "name": "", "conflict": None, **more},
    )


def _planned(content: bytes, name: str, conflict: ShopError | None = None) -> tuple[str, int]:
    try:
        plan = goods.plan_file(content)
    except BadFile as error:
        return _import_page(problems=error.problems, name=name), error.http_status
    page = _import_page(
        plan=_plan(plan),
        name=name,
        content=base64.urlsafe_b64encode(content).decode(),
        conflict=conflict,
    )
    return page, 200


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "token": plan.token,
        "new": plan.new,
        "changed": plan.changed,
        "received": plan.received,
        "same": plan.lines - len(plan.steps),
        "steps": [_step(step) for step in plan.steps],
    }


def _step(step: Step) -> dict[str, Any]:
    shown = {"sku", "title"} if step.is_new else set()
    return {
        "line": step.line,
        "sku": step.sku,
        "title": step.title,
        "is_new": step.is_new,
        "units": step.units,
        "changes": _in_words({k: v for k, v in step.changes.items() if k not in shown}),
    }


def _in_words(steps: Mapping[str, tuple[Any, Any]]) -> list[tuple[str, str, str]]:
    """(what, before, after) of each column, for people."""
    return [
        (_name(name), _value(name, old), _value(name, new)) for name, (old, new) in steps.items()
    ]


def _name(column: str) -> str:
    if column.startswith("price_"):
        return f"Price in {column[-3:].upper()}"
    return NAMES.get(column) or column.replace("_", " ").capitalize()


def _value(column: str, value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.startswith("price_"):
        return display(value, column[-3:])
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
