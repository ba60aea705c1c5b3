"""PaymentIntents, payment methods, charges, refunds, disputes and the balance they move."""

from __future__ import annotations

from . import Shape, address, shipping

CARD_FACTS = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
ACCOUNT_FACTS = (
    "account_holder_type",
    "account_type",
    "bank_name",
    "fingerprint",
    "last4",
    "routing_number",
)
DEBIT_FACTS = ("bank_code", "branch_code", "country", "fingerprint", "last4")


def payment_intent(id: str, secret: str, *, created: int, params: Shape) -> Shape:
    """An intent that waits for a way to pay; ``params`` as the API takes them."""
    get = params.get
    automatic = get("automatic_payment_methods", {"enabled": True})
    return {
        "id": id,
        "object": "payment_intent",
        "allowed_payment_method_types": get("allowed_payment_method_types"),
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", **automatic},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": get("capture_method", "automatic_async"),
        "client_secret": f"{id}_secret_{secret}",
        "confirmation_method": get("confirmation_method", "automatic"),
        "created": created,
        "currency": params["currency"],
        "customer": get("customer"),
        "customer_account": None,
        "description": get("description"),
        "excluded_payment_method_types": get("excluded_payment_method_types"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": get("metadata") or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
        "payment_record": None,
        "processing": None,
        "receipt_email": get("receipt_email"),
        "review": None,
        "setup_future_usage": get("setup_future_usage"),
        "shipping": shipping(get("shipping")),
        "source": None,
        "statement_descriptor": get("statement_descriptor"),
        "statement_descriptor_suffix": get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": get("transfer_group"),
    }


def billing(buyer: Shape | None) -> Shape:
    who = buyer or {}
    blank = {"city": None, "country": None, "line1": None}
    return {
        "address": address(who.get("address") or blank),
        "email": who.get("email"),
        "name": who.get("name"),
        "phone": who.get("phone"),
        "tax_id": None,
    }


def payment_method(
    id: str, *, created: int, type: str, number: str, brand: str, who: Shape
) -> Shape:
    born: Shape = {
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": who,
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": type,
    }
    if type == "card":
        born["card"] = {
            **_card(number, brand),
            "checks": _checks(),
            "display_brand": brand,
            "generated_from": None,
            "networks": {"available": [brand], "preferred": None},
            "three_d_secure_usage": {"supported": True},
        }
    elif type == "sepa_debit":
        born["sepa_debit"] = {**_iban(number), "generated_from": None}
    elif type == "us_bank_account":
        born["us_bank_account"] = {
            **_bank_account(number),
            "financial_connections_account": None,
            "networks": {"preferred": "ach", "supported": ["ach"]},
            "status_details": {},
        }
    else:
        born[type] = {"last4": number[-4:]}
    return born


def _card(number: str, brand: str) -> Shape:
    return {
        "brand": brand,
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"fp{number}"[:16],
        "funding": "credit",
        "last4": number[-4:],
        "regulated_status": "unregulated",
        "wallet": None,
    }


def _checks() -> Shape:
    return {
        "address_line1_check": None,
        "address_postal_code_check": None,
        "cvc_check": "pass",
    }


def _iban(number: str) -> Shape:
    return {
        "bank_code": "37040044",
        "branch_code": "",
        "country": "DE",
        "fingerprint": f"fp{number}"[:16],
        "last4": number[-4:],
    }


def _bank_account(number: str) -> Shape:
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "fingerprint": f"fp{number}"[:16],
        "last4": number[-4:],
        "routing_number": "110000000",
    }


def charge(id: str, *, created: int, intent: Shape, method: Shape, amount: int) -> Shape:
    """A try to take ``amount``; its outcome is written by whoever made the try."""
    return {
        "id": id,
        "object": "charge",
        "amount": amount,
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "SANDBOX",
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),  # copied once, at this moment
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _paid_with(method, amount),
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
    }


def _paid_with(method: Shape, amount: int) -> Shape:
    kind = method["type"]
    if kind == "card":
        details = {
            **{k: method["card"][k] for k in CARD_FACTS},
            "amount_authorized": amount,
            "authorization_code": None,
            "checks": _checks(),
            "electronic_commerce_indicator": None,
            "installments": None,
            "mandate": None,
            "network": method["card"]["brand"],
            "network_token": {"used": False},
            "network_transaction_id": None,
            "regulated_status": "unregulated",
            "three_d_secure": None,
            "transaction_link_id": None,
            "wallet": None,
        }
    elif kind == "sepa_debit":
        details = {**{k: method["sepa_debit"][k] for k in DEBIT_FACTS}, "mandate": None}
    elif kind == "us_bank_account":
        known = {k: method[kind][k] for k in ACCOUNT_FACTS}
        details = {**known, "payment_reference": None}
    else:
        details = dict(method[kind])
    return {kind: details, "type": kind}


def three_d_secure() -> Shape:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }


def outcome(type: str, *, reason: str | None = None, message: str = "Payment complete.") -> Shape:
    declined = type != "authorized"
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if declined else "approved_by_network",
        "reason": reason,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": message,
        "type": type,
    }


def refund(id: str, *, created: int, charge: Shape, amount: int, params: Shape) -> Shape:
    kind = charge["payment_method_details"]["type"]
    card: Shape = {"reference_status": "pending", "reference_type": "acquirer_reference_number"}
    return {
        "id": id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": None,
        "destination_details": {
            kind: {**card, "type": "refund"} if kind == "card" else {},
            "type": kind,
        },
        "metadata": params.get("metadata") or {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def dispute(id: str, *, created: int, charge: Shape, evidence: list[str], due_by: int) -> Shape:
    return {
        "id": id,
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(evidence), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": due_by,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "intended_submission_method": "manual",
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": "visa",
                "case_type": "chargeback",
                "network": "visa",
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "needs_response",
    }


def balance_transaction(
    id: str, *, created: int, source: Shape, amount: int, fee: int, type: str
) -> Shape:
    fees = [
        {
            "amount": fee,
            "application": None,
            "currency": source["currency"],
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return {
        "id": id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": created + 2 * 86_400,
        "balance_type": "payments",
        "created": created,
        "currency": source["currency"],
        "description": source.get("description"),
        "exchange_rate": None,
        "fee": fee,
        "fee_details": fees if fee else [],
        "net": amount - fee,
        "reporting_category": "charge" if type == "payment" else type,
        "source": source["id"],
        "status": "pending",
        "type": type,
    }
