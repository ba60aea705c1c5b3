"""/v1/products, /v1/prices, /v1/shipping_rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ApiError, missing, not_yet
from ..shapes import catalog, checkout
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

EDITABLE_PRICE = ("active", "nickname", "lookup_key", "tax_behavior")


def new_product(box: Sandbox, params: Obj, *, quiet: bool = False) -> Obj:
    given = params.get("id")
    if given in box.store.objects["product"]:
        raise ApiError("Product already exists.", code="resource_already_exists", param="id")
    product = catalog.product(
        given or box.store.new_id("prod_", 14), created=int(box.now()), params=params
    )
    box.store.put(product)
    if not quiet:
        box.emit("product.created", product)
    return product


def price_from(box: Sandbox, params: Obj, at: str = "", *, inline: bool = False) -> Obj:
    """Make a price, and its product when that is given inline; ``at`` is named in errors."""

    def name(field: str) -> str:
        return f"{at}[{field}]" if at else field

    for unlike in ("tiers", "custom_unit_amount", "currency_options", "transform_quantity"):
        if unlike in params:
            raise not_yet(f"prices with {unlike}", name(unlike))
    currency = amounts.check_currency(params["currency"], name("currency"))
    amount = params.get("unit_amount")
    if amount is None and str(params.get("unit_amount_decimal", "")).isdigit():
        amount = int(params["unit_amount_decimal"])
    if amount is None:
        raise missing(name("unit_amount"))
    amounts.check_amount(amount, currency, name("unit_amount"))
    if "product" in params:
        product = reading.find(box, "product", params["product"], name("product"))
    elif "product_data" in params:
        hidden = {"active": False} if inline else {}
        product = new_product(box, {**params["product_data"], **hidden}, quiet=inline)
    else:
        raise missing(name("product"))
    hidden = {"active": False} if inline else {}
    price = catalog.price(
        box.store.new_id("price_1"),
        created=int(box.now()),
        product=product["id"],
        params={**params, "currency": currency, "unit_amount": amount, **hidden},
    )
    box.store.put(price)
    if not inline:
        box.emit("price.created", price)
    return price


def shipping_rate_from(box: Sandbox, params: Obj, at: str = "") -> Obj:
    if "fixed_amount" not in params:
        raise missing(f"{at}[shipping_rate_data][fixed_amount]" if at else "fixed_amount")
    fixed = params["fixed_amount"]
    fixed["currency"] = amounts.check_currency(fixed["currency"], "currency")
    amounts.check_amount(fixed["amount"], fixed["currency"], "amount")
    rate = checkout.shipping_rate(box.store.new_id("shr_1"), created=int(box.now()), params=params)
    return box.store.put(rate)


def create_product(box: Sandbox, params: Obj) -> Obj:
    price_data = params.pop("default_price_data", None)
    product = new_product(box, params)
    if price_data is not None:
        price = price_from(box, {**price_data, "product": product["id"]}, "default_price_data")
        product["default_price"] = price["id"]
        box.store.put(product)
    return product


def retrieve_product(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "product", id)


def list_products(box: Sandbox, params: Obj) -> Obj:
    ids = params.get("ids")

    def keep(product: Obj) -> bool:
        wanted = ("active", "shippable", "url", "type")
        if any(n in params and product[n] != params[n] for n in wanted):
            return False
        return ids is None or product["id"] in ids

    return reading.page(box, "product", params, "/v1/products", keep)


def update_product(box: Sandbox, params: Obj, id: str) -> Obj:
    product = reading.find(box, "product", id)
    given = {k: v for k, v in params.items() if k in product and k != "metadata"}
    before = {k: product[k] for k in given}
    product |= given
    amounts.merge_metadata(product, params)
    product["updated"] = int(box.now())
    box.store.put(product)
    box.emit("product.updated", product, before)
    return product


def delete_product(box: Sandbox, params: Obj, id: str) -> Obj:
    product = reading.find(box, "product", id)
    if any(price["product"] == id for price in box.store.objects["price"].values()):
        raise ApiError(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    box.store.drop(product)
    box.emit("product.deleted", product)
    return {"id": id, "object": "product", "deleted": True}


def create_price(box: Sandbox, params: Obj) -> Obj:
    return price_from(box, params)


def retrieve_price(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "price", id)


def list_prices(box: Sandbox, params: Obj) -> Obj:
    keys = params.get("lookup_keys")

    def keep(price: Obj) -> bool:
        if any(
            n in params and price[n] != params[n] for n in ("active", "currency", "type", "product")
        ):
            return False
        return keys is None or price["lookup_key"] in keys

    return reading.page(box, "price", params, "/v1/prices", keep)


def update_price(box: Sandbox, params: Obj, id: str) -> Obj:
    price = reading.find(box, "price", id)
    given = {k: v for k, v in params.items() if k in EDITABLE_PRICE}
    before = {k: price[k] for k in given}
    price |= given
    amounts.merge_metadata(price, params)
    box.store.put(price)
    box.emit("price.updated", price, before)
    return price


def create_shipping_rate(box: Sandbox, params: Obj) -> Obj:
    return shipping_rate_from(box, params)


def retrieve_shipping_rate(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, "shipping_rate", id)


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/products": create_product,
    "GET /v1/products": list_products,
    "GET /v1/products/{id}": retrieve_product,
    "POST /v1/products/{id}": update_product,
    "DELETE /v1/products/{id}": delete_product,
    "POST /v1/prices": create_price,
    "GET /v1/prices": list_prices,
    "GET /v1/prices/{id}": retrieve_price,
    "POST /v1/prices/{id}": update_price,
    "POST /v1/shipping_rates": create_shipping_rate,
    "GET /v1/shipping_rates/{id}": retrieve_shipping_rate,
}
