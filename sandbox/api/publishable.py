"""What a browser may do with a publishable key: read and confirm the intent whose secret it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ApiError, bad_parameter, missing

if TYPE_CHECKING:
    from ..box import Sandbox
    from . import Call
    from .routes import Route

Obj = dict[str, Any]

# Which kind of intent each of these calls is about.
OPEN_TO_ALL = {
    "POST /v1/payment_methods": "",
    "GET /v1/payment_intents/{id}": "payment_intent",
    "POST /v1/payment_intents/{id}/confirm": "payment_intent",
    "GET /v1/setup_intents/{id}": "setup_intent",
    "POST /v1/setup_intents/{id}/confirm": "setup_intent",
}
NAMES = {"payment_intent": "PaymentIntent", "setup_intent": "SetupIntent"}
# What only the shop may say when an intent is confirmed.
FOR_THE_SHOP = ("off_session", "capture_method", "amount_to_confirm", "amount_details", "hooks")
HEADERS = (
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Allow-Methods", "GET, HEAD, PUT, PATCH, POST, DELETE"),
    ("Access-Control-Expose-Headers", "Request-Id, Stripe-Should-Retry"),
    ("Access-Control-Max-Age", "300"),
)
SHOWN = {
    "payment_intent": frozenset(
        "id object amount amount_details automatic_payment_methods canceled_at cancellation_reason "
        "capture_method client_secret confirmation_method created currency description "
        "last_payment_error livemode next_action payment_method "
        "payment_method_configuration_details payment_method_types processing receipt_email "
        "setup_future_usage shipping source status".split()
    ),
    "setup_intent": frozenset(
        "id object automatic_payment_methods cancellation_reason client_secret created description "
        "last_setup_error livemode next_action payment_method "
        "payment_method_configuration_details payment_method_types status usage".split()
    ),
}


def admit(call: Call, route: Route) -> None:
    """Raises ApiError for a call that needs a secret key; takes the client secret aside."""
    kind = OPEN_TO_ALL.get(route.endpoint)
    if kind is None:
        raise ApiError(
            "This API call cannot be made with a publishable API key. Please use a secret API key. "
            "You can find a list of your API keys at https://dashboard.stripe.com/account/apikeys.",
            status=403,
            code="secret_key_required",
            begun=False,
        )
    call.client_secret = call.tree.pop("client_secret", None)
    if kind and not call.client_secret:
        raise missing("client_secret")
    for name in FOR_THE_SHOP:
        if name in call.tree:
            raise bad_parameter(
                f"You cannot pass `{name}` with a publishable API key.", name, "parameter_unknown"
            )
    if set(call.tree.get("expand", {}).values()) - {"payment_method"}:
        raise bad_parameter(
            "You can only expand `payment_method` with a publishable API key.", "expand"
        )


def check_secret(box: Sandbox, call: Call, route: Route) -> None:
    """Raises ApiError unless the secret is that of the intent which the call is about."""
    kind = OPEN_TO_ALL[route.endpoint]
    if not kind:
        return
    intent = box.store.objects[kind].get(route.ids[0])
    if intent is None or intent["client_secret"] != call.client_secret:
        raise ApiError(
            "The client_secret provided does not match the client_secret associated with the "
            f"{NAMES[kind]}.",
            param="client_secret",
            begun=False,
        )


def mood_of(box: Sandbox, call: Call) -> str:
    """What befalls the webhooks of this payment, as chosen where its method was made."""
    beside = box.store.aside.get(call.params.get("payment_method") or "", {})
    mood: str = beside.get("mood", "")
    return mood


def view(obj: Obj) -> Obj:
    """As much of an intent as a browser is shown; what is not an intent is shown as it is."""
    shown = SHOWN.get(obj.get("object", ""))
    return obj if shown is None else {k: v for k, v in obj.items() if k in shown}


def view_error(body: Obj) -> Obj:
    return {k: view(v) if isinstance(v, dict) else v for k, v in body.items()}
