"""SetupIntents: a card or an account is saved, and nothing is charged."""

from __future__ import annotations

from . import Shape


def setup_intent(id: str, secret: str, *, created: int, params: Shape) -> Shape:
    """An intent that waits for something to save; ``params`` as the API takes them."""
    get = params.get
    automatic = get("automatic_payment_methods", {"enabled": True})
    return {
        "id": id,
        "object": "setup_intent",
        "allowed_payment_method_types": get("allowed_payment_method_types"),
        "application": None,
        "automatic_payment_methods": {"allow_redirects": "always", **automatic},
        "cancellation_reason": None,
        "client_secret": f"{id}_secret_{secret}",
        "created": created,
        "customer": get("customer"),
        "customer_account": None,
        "description": get("description"),
        "excluded_payment_method_types": get("excluded_payment_method_types"),
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "managed_payments": None,
        "mandate": None,
        "metadata": get("metadata") or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": get("usage", "off_session"),
    }
