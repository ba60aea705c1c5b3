"""Checkout Sessions, their line items and shipping rates."""

from __future__ import annotations

from . import Shape, address


def session(
    id: str, *, created: int, expires_at: int, currency: str | None, params: Shape
) -> Shape:
    """A session that was just opened; amounts are set by whoever totals its lines."""
    get = params.get
    ui_mode = get("ui_mode", "hosted_page")
    hosted = ui_mode == "hosted_page"
    mode = get("mode", "payment")
    born: Shape = {
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": get("allow_promotion_codes"),
        "allowed_payment_method_types": get("allowed_payment_method_types"),
        "amount_subtotal": 0,
        "amount_total": 0,
        "automatic_tax": _automatic_tax(get("automatic_tax")),
        "billing_address_collection": get("billing_address_collection"),
        "cancel_url": get("cancel_url"),
        "client_reference_id": get("client_reference_id"),
        "client_secret": None,
        "collected_information": {
            "business_name": None,
            "individual_name": None,
            "shipping_details": None,
        },
        "consent": None,
        "consent_collection": None,
        "created": created,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": get("customer"),
        "customer_account": None,
        "customer_creation": None
        if "customer" in params
        else get("customer_creation", "always" if mode == "subscription" else "if_required"),
        "customer_details": None,
        "customer_email": get("customer_email"),
        "discounts": [],
        "expires_at": expires_at,
        "integration_identifier": get("integration_identifier"),
        "invoice": None,
        "invoice_creation": _no_invoice() if mode == "payment" else None,
        "livemode": False,
        "locale": get("locale"),
        "managed_payments": {"enabled": False},
        "metadata": get("metadata") or {},
        "mode": mode,
        "origin_context": get("origin_context"),
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": get(
            "payment_method_collection", "if_required" if mode == "payment" else "always"
        ),
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": get("phone_number_collection", {"enabled": False}),
        "recovered_from": None,
        "saved_payment_method_options": None
        if mode != "subscription"
        else {
            "allow_redisplay_filters": ["always"],
            "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        "setup_intent": None,
        "shipping_address_collection": get("shipping_address_collection"),
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": get("submit_type"),
        "subscription": None,
        "success_url": get("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": ui_mode,
        "url": None,
        "wallet_options": None,
    }
    if not hosted:
        born["redirect_on_completion"] = get("redirect_on_completion", "always")
        if "return_url" in params:
            born["return_url"] = params["return_url"]
    if "customer_email" in params:
        born["customer_details"] = buyer(params["customer_email"])
    return born


def _no_invoice() -> Shape:
    return {
        "enabled": False,
        "invoice_data": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": None,
            "metadata": {},
            "rendering_options": None,
        },
    }


def buyer(email: str | None, name: str | None = None, home: Shape | None = None) -> Shape:
    """What the pay page collected about the person who pays."""
    return {
        "address": address(home),
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": None,
    }


def line_item(
    id: str, price: Shape, quantity: int, description: str, metadata: Shape, *, free: bool = False
) -> Shape:
    """``free``: nothing of it is due now, because a trial comes first."""
    amount = 0 if free else price["unit_amount"] * quantity
    return {
        "id": id,
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": description,
        "metadata": metadata,
        "price": price,
        "quantity": quantity,
    }


def shipping_rate(id: str, *, created: int, params: Shape) -> Shape:
    estimate = params.get("delivery_estimate")
    return {
        "id": id,
        "object": "shipping_rate",
        "active": True,
        "created": created,
        "delivery_estimate": estimate
        and {"maximum": estimate.get("maximum"), "minimum": estimate.get("minimum")},
        "display_name": params["display_name"],
        "fixed_amount": {
            "amount": params["fixed_amount"]["amount"],
            "currency": params["fixed_amount"]["currency"],
        },
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tax_code": params.get("tax_code"),
        "type": "fixed_amount",
    }


def _automatic_tax(given: Shape | None) -> Shape:
    enabled = bool(given and given.get("enabled"))
    return {
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": "requires_location_inputs" if enabled else None,
    }
