"""Ways to pay and how each of them turns out: Stripe's test cards, and bank debits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """``then`` is what the bank says: pays, declines, asks (the bank wants to see the buyer),
    settles or bounces (both only after some time).

    ``can_be_saved`` although it declines when it is charged. ``always_asks``, even when the buyer
    is not there and said yes before. ``later`` happens to money that was taken: disputed,
    refund_fails, refund_waits. ``short_by`` takes that many minor units less than was due.
    """

    number: str
    then: str = "pays"
    brand: str = "visa"
    code: str = ""
    reason: str = ""
    message: str = ""
    can_be_saved: bool = False
    always_asks: bool = False
    later: str = ""
    short_by: int = 0

    @property
    def is_debit(self) -> bool:
        return self.then in ("settles", "bounces")

    def asks(self, *, attended: bool, set_up: bool) -> bool:
        """Whether the bank wants to see the buyer, who is there (``attended``) or said yes before
        to being charged while away (``set_up``)."""
        return self.then == "asks" and (attended or self.always_asks or not set_up)

    @property
    def cannot_be_saved(self) -> bool:
        return self.then == "declines" and not self.can_be_saved


def _declined(
    number: str, code: str, reason: str, message: str, *, can_be_saved: bool = False
) -> Way:
    return Way(
        number,
        then="declines",
        code=code,
        reason=reason,
        message=message,
        can_be_saved=can_be_saved,
    )


GENERIC = "Your card was declined."
WAYS: dict[str, Way] = {
    way.number: way
    for way in (
        Way("4242424242424242"),
        Way("5555555555554444", brand="mastercard"),
        Way("378282246310005", brand="amex"),
        _declined("4000000000000002", "card_declined", "generic_decline", GENERIC),
        _declined(
            "4000000000009995",
            "card_declined",
            "insufficient_funds",
            "Your card has insufficient funds.",
        ),
        _declined("4000000000000069", "expired_card", "expired_card", "Your card has expired."),
        _declined(
            "4000000000000127",
            "incorrect_cvc",
            "incorrect_cvc",
            "Your card's security code is incorrect.",
        ),
        _declined(
            "4000000000000119",
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
        _declined(
            "4000000000000341", "card_declined", "generic_decline", GENERIC, can_be_saved=True
        ),
        Way("4000002500003155", then="asks"),
        Way("4000002760003184", then="asks", always_asks=True),
        Way("4000000000000259", later="disputed"),
        Way("4000000000005126", later="refund_fails"),
        Way("4000000000007726", later="refund_waits"),
    )
}
WAYS["bank_debit"] = Way("DE89370400440532013000", then="settles", brand="", later="refund_waits")
WAYS["bank_debit_fails"] = Way(
    "DE62370400440532013001",
    then="bounces",
    brand="",
    code="payment_intent_payment_attempt_failed",
    reason="insufficient_funds",
    message="The payment failed because the account has insufficient funds.",
)
WAYS["wrong_amount"] = Way("4242424242424242", short_by=100)

NOT_A_TEST_CARD = _declined(
    "",
    "card_declined",
    "test_mode_live_card",
    "Your card was declined. Your request was in test mode, but used a non test card.",
)

# Payment methods that exist in every test account, by the card behind them.
TOKENS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_refundFail": "4000000000005126",
    "pm_card_pendingRefund": "4000000000007726",
}


def way(name: str) -> Way:
    """Find a way by card number (spaces allowed) or by name."""
    return WAYS.get(name.replace(" ", "").replace("-", ""), NOT_A_TEST_CARD)


def is_card_number(text: str) -> bool:
    """Whether the digits could be a card at all: 12 to 19 of them, with a right check digit."""
    digits = text.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit() and 12 <= len(digits) <= 19):
        return False
    doubled = [int(d) * (2 if place % 2 else 1) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
