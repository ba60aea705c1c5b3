"""Subscriptions, their items, and the invoices they send."""

from __future__ import annotations

from . import Shape

NO_OPTIONS = {"payment_method_options": None, "payment_method_types": None}


def subscription(id: str, *, created: int, currency: str, params: Shape) -> Shape:
    """A subscription that was just asked for; periods, status and invoice follow."""
    get = params.get
    settings = get("payment_settings") or {}
    mode = get("billing_mode") or {"type": "flexible"}
    itemized = {"proration_discounts": "included", **(mode.get("flexible") or {})}
    trial_end = (get("trial_settings") or {}).get("end_behavior") or {}
    return {
        "id": id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": bool((get("automatic_tax") or {}).get("enabled")),
            "liability": {"type": "self"} if (get("automatic_tax") or {}).get("enabled") else None,
        },
        "billing_cycle_anchor": created,
        "billing_cycle_anchor_config": None,
        "billing_mode": {
            "flexible": itemized if mode["type"] == "flexible" else None,
            "type": mode["type"],
        },
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {
            "comment": None,
            "feedback": None,
            "feedback_option": None,
            "reason": None,
        },
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "customer": params["customer"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": get("default_payment_method"),
        "default_source": None,
        "default_tax_rates": [],
        "description": get("description"),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "items": {
            "object": "list",
            "data": [],
            "has_more": False,
            "url": f"/v1/subscription_items?subscription={id}",
        },
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": get("metadata") or {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            **NO_OPTIONS,
            "payment_method_types": settings.get("payment_method_types"),
            "save_default_payment_method": settings.get("save_default_payment_method", "off"),
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": created,
        "status": "incomplete",
        "test_clock": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None,
                "missing_payment_method": trial_end.get("missing_payment_method", "create_invoice"),
            }
        },
        "trial_start": None,
    }


def subscription_item(
    id: str, *, created: int, subscription: str, price: Shape, quantity: int, metadata: Shape
) -> Shape:
    return {
        "id": id,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": created,
        "current_period_end": created,
        "current_period_start": created,
        "current_trial": None,
        "discounts": [],
        "metadata": metadata,
        "plan": plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    }


def plan(price: Shape) -> Shape:
    """A recurring price as it was shown before there were prices."""
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": price["recurring"]["trial_period_days"],
        "usage_type": price["recurring"]["usage_type"],
    }


def invoice(
    id: str, *, created: int, subscription: Shape, customer: Shape, reason: str, lines: list[Shape]
) -> Shape:
    """A draft of what the subscription asks for in one period; ``lines`` are already priced."""
    total = sum(line["amount"] for line in lines)
    tax = subscription["automatic_tax"]["enabled"]
    return {
        "id": id,
        "object": "invoice",
        "account_country": "IE",
        "account_name": "Sandbox",
        "account_tax_ids": None,
        "amount_due": total,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": total,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": tax,
            "liability": {"type": "self"} if tax else None,
            "provider": "stripe" if tax else None,
            "status": "complete" if tax else None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": {
            "object": "list",
            "data": lines,
            "has_more": False,
            "url": f"/v1/invoices/{id}/lines",
        },
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                # As it is now; what is said about the subscription later does not change it.
                "metadata": dict(subscription["metadata"]),
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        },
        "payment_settings": {
            **NO_OPTIONS,
            "default_mandate": None,
            "payment_method_types": subscription["payment_settings"]["payment_method_types"],
        },
        "period_end": created,
        "period_start": created,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": None,
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def line(
    id: str,
    *,
    invoice: str | None,
    price: Shape,
    quantity: int,
    amount: int,
    description: str,
    period: tuple[int, int],
    subscription: Shape,
    item: str | None,
    metadata: Shape,
) -> Shape:
    """A line for a subscription's ``item``, or without one for something that is bought once."""
    of_item = item and {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": subscription["id"],
        "subscription_item": item,
    }
    of_invoice = (
        None
        if item
        else {
            "invoice_item": f"ii_1{id[-24:]}",
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": subscription["id"],
        }
    )
    return {
        "id": id,
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice,
        "livemode": False,
        "metadata": metadata,
        "parent": {
            "invoice_item_details": of_invoice,
            "subscription_item_details": of_item,
            "type": "subscription_item_details" if item else "invoice_item_details",
        },
        "period": {"end": period[1], "start": period[0]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": str(amount // quantity if quantity else 0),
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subscription": subscription["id"],
        "subtotal": amount,
        "taxes": [],
    }


def invoice_payment(id: str, *, created: int, invoice: Shape, intent: str) -> Shape:
    """The link between an invoice and the intent that is to pay it."""
    return {
        "id": id,
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": invoice["amount_remaining"],
        "created": created,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent, "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
