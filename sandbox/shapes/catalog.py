"""Customers, products, prices and webhook endpoints."""

from __future__ import annotations

from ..contract import API_VERSION
from . import Shape, address, shipping


def customer(id: str, *, created: int, params: Shape) -> Shape:
    get = params.get
    return {
        "id": id,
        "object": "customer",
        "address": address(get("address")),
        "balance": get("balance", 0),
        "created": created,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": get("description"),
        "discount": None,
        "email": get("email"),
        "invoice_prefix": id[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": get("metadata") or {},
        "name": get("name"),
        "next_invoice_sequence": 1,
        "phone": get("phone"),
        "preferred_locales": get("preferred_locales", []),
        "shipping": shipping(get("shipping")),
        "tax_exempt": get("tax_exempt") or "none",
        "test_clock": None,
    }


def product(id: str, *, created: int, params: Shape) -> Shape:
    get = params.get
    return {
        "id": id,
        "object": "product",
        "active": get("active", True),
        "created": created,
        "default_price": None,
        "description": get("description"),
        "images": get("images", []),
        "livemode": False,
        "marketing_features": get("marketing_features", []),
        "metadata": get("metadata") or {},
        "name": params["name"],
        "package_dimensions": get("package_dimensions"),
        "shippable": get("shippable"),
        "statement_descriptor": get("statement_descriptor"),
        "tax_code": get("tax_code"),
        "tax_details": None,
        "type": get("type", "service"),
        "unit_label": get("unit_label"),
        "updated": created,
        "url": get("url"),
    }


def price(id: str, *, created: int, product: str, params: Shape) -> Shape:
    get = params.get
    recurring = get("recurring")
    return {
        "id": id,
        "object": "price",
        "active": get("active", True),
        "billing_scheme": "per_unit",
        "created": created,
        "currency": params["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": get("lookup_key"),
        "metadata": get("metadata") or {},
        "nickname": get("nickname"),
        "product": product,
        "recurring": recurring
        and {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": None,
            "trial_period_days": recurring.get("trial_period_days"),
            "usage_type": recurring.get("usage_type", "licensed"),
        },
        "tax_behavior": get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": params["unit_amount"],
        "unit_amount_decimal": str(params["unit_amount"]),
    }


def webhook_endpoint(id: str, *, created: int, params: Shape) -> Shape:
    return {
        "id": id,
        "object": "webhook_endpoint",
        "api_version": params.get("api_version", API_VERSION),
        "application": None,
        "created": created,
        "description": params.get("description"),
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "status": "enabled",
        "url": params["url"],
    }
