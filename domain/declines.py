"""Why a payment did not go through, in words that help the shopper.

The table groups Stripe's decline codes (docs.stripe.com/declines/codes) and the codes of its errors
by what a shopper can do about them. Whatever is not here reads as a plain decline, and what says
something about the person does so on purpose: lost, stolen and suspected fraud are nobody's
business but the card owner's, and telling a thief helps a thief.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.words import Words


@dataclass(frozen=True, slots=True)
class Decline:
    """``what`` happened, and what to ``do`` now."""

    what: Words
    do: Words


_ANOTHER = Words("Another card or another method usually works straight away.")
_CHECK = Words("Please check what you entered and try again.")

PLAIN = Decline(Words("Your bank declined the payment."), _ANOTHER)
_NO_MONEY = Decline(
    Words("There was not enough money on the card."),
    Words("Please use another card, or try again once there is."),
)
_LIMIT = Decline(
    Words("The card has reached its limit."),
    Words("Please use another card, or ask your bank to raise the limit."),
)
_EXPIRED = Decline(Words("The card has expired."), Words("Please use another card."))
_CODE = Decline(Words("The security code was not right."), _CHECK)
_NUMBER = Decline(Words("The card number was not right."), _CHECK)
_DATE = Decline(Words("The expiry date was not right."), _CHECK)
_ADDRESS = Decline(Words("The address does not match the one that your bank knows."), _CHECK)
_PIN = Decline(Words("The PIN was not right."), Words("Please try again, or use another card."))
_WHO = Decline(
    Words("Your bank could not confirm that it was you."),
    Words("Please try again and confirm the payment with your bank, or use another card."),
)
_LATER = Decline(
    Words("The bank had a technical problem."),
    Words("Please try again in a few minutes, or use another card."),
)
_UNSUITABLE = Decline(
    Words("This card cannot be used for this kind of payment."),
    Words("Please use another card or another method."),
)
_ASK_BANK = Decline(
    Words("Your bank did not allow the payment and gave no reason."),
    Words("Please use another card, or ask your bank."),
)
_ACCOUNT = Decline(
    Words("The bank account could not be charged."),
    Words("Please use another account or another method."),
)
_TWICE = Decline(
    Words("Your bank took this for a payment that you have just made."),
    Words("Please look at your orders first. If it is not there, use another card."),
)

DECLINES = {
    "insufficient_funds": _NO_MONEY,
    "card_velocity_exceeded": _LIMIT,
    "withdrawal_count_limit_exceeded": _LIMIT,
    "amount_too_large": _LIMIT,
    "expired_card": _EXPIRED,
    "incorrect_cvc": _CODE,
    "invalid_cvc": _CODE,
    "incorrect_number": _NUMBER,
    "invalid_number": _NUMBER,
    "invalid_expiry_month": _DATE,
    "invalid_expiry_year": _DATE,
    "incorrect_address": _ADDRESS,
    "incorrect_zip": _ADDRESS,
    "incorrect_pin": _PIN,
    "invalid_pin": _PIN,
    "offline_pin_required": _PIN,
    "online_or_offline_pin_required": _PIN,
    "pin_try_exceeded": _PIN,
    "authentication_required": _WHO,
    "authentication_not_handled": _WHO,
    "mobile_device_authentication_required": _WHO,
    "payment_intent_authentication_failure": _WHO,
    "setup_intent_authentication_failure": _WHO,
    "approve_with_id": _LATER,
    "issuer_not_available": _LATER,
    "no_action_taken": _LATER,
    "processing_error": _LATER,
    "reenter_transaction": _LATER,
    "try_again_later": _LATER,
    "card_not_supported": _UNSUITABLE,
    "currency_not_supported": _UNSUITABLE,
    "invalid_amount": _UNSUITABLE,
    "not_permitted": _UNSUITABLE,
    "service_not_allowed": _UNSUITABLE,
    "transaction_not_allowed": _UNSUITABLE,
    "call_issuer": _ASK_BANK,
    "do_not_honor": _ASK_BANK,
    "do_not_try_again": _ASK_BANK,
    "invalid_account": _ASK_BANK,
    "new_account_information_available": _ASK_BANK,
    "revocation_of_all_authorizations": _ASK_BANK,
    "revocation_of_authorization": _ASK_BANK,
    "stop_payment_order": _ASK_BANK,
    "account_closed": _ACCOUNT,
    "bank_account_restricted": _ACCOUNT,
    "debit_not_authorized": _ACCOUNT,
    "no_account": _ACCOUNT,
    "duplicate_transaction": _TWICE,
}


def of(code: str | None) -> Decline:
    """What to tell the shopper of a decline code of Stripe's."""
    return DECLINES.get(code or "", PLAIN)
