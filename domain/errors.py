"""What can go wrong in a shop, named for what happened and written for the shopper.

``code`` is the stable name a program may test for, ``http_status`` what a page or the API answers.
"""

from __future__ import annotations


class ShopError(Exception):
    """An expected failure: the message says what happened and what to do about it."""

    code = "shop_error"
    http_status = 400
    headline = "That did not work"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EmptyCart(ShopError):
    code = "cart_empty"
    http_status = 409
    headline = "Your basket is empty"

    def __init__(self) -> None:
        super().__init__("There is nothing to pay for yet. Put something in your basket first.")


class UnknownProduct(ShopError):
    code = "product_unknown"
    http_status = 422
    headline = "We don't have that"

    def __init__(self, sku: str) -> None:
        super().__init__(f"There is no product “{sku[:40]}” in this shop.")


class ProductUnavailable(ShopError):
    code = "product_unavailable"
    http_status = 409
    headline = "No longer for sale"

    def __init__(self, title: str, currency: str | None = None) -> None:
        """With a ``currency``: it is for sale, but has no price in that one."""
        if currency is None:
            super().__init__(f"{title} is no longer for sale. Remove it from your basket to go on.")
            return
        self.headline = "Not sold in this currency"
        super().__init__(
            f"{title} is not sold in {currency.upper()}. Choose another currency to buy it."
        )


class BadQuantity(ShopError):
    code = "quantity_invalid"
    http_status = 422
    headline = "Check the quantity"

    def __init__(self, most: int) -> None:
        super().__init__(f"The quantity must be a whole number from 1 to {most}.")


class OutOfStock(ShopError):
    code = "out_of_stock"
    http_status = 409
    headline = "Not enough left"

    def __init__(self, sku: str, title: str, left: int) -> None:
        self.sku, self.left = sku, left
        super().__init__(
            f"Only {left} of {title} left. Change the quantity to go on."
            if left > 0
            else f"{title} is sold out. Remove it from your basket to go on."
        )


class PriceChanged(ShopError):
    code = "price_changed"
    http_status = 409
    headline = "A price has changed"

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            f"The price of {', '.join(titles)} has changed since you put it in your basket. "
            "Nothing was charged. Look at the new total and accept it to go on."
        )


class PlansDoNotMix(ShopError):
    """Stripe's payment page carries one rhythm and one trial; the ``titles`` have several."""

    code = "plans_do_not_mix"
    http_status = 409
    headline = "These subscriptions need separate checkouts"

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            f"{', '.join(titles[:-1])} and {titles[-1]} are not charged on the same days, so one "
            "checkout cannot start them together. Leave those of one rhythm in your basket and "
            "check out, then order the others."
        )


class CodeRefused(ShopError):
    """A discount code that cannot be used; the message says why."""

    code = "discount_code_refused"
    http_status = 422
    headline = "This code cannot be used"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} Nothing was charged. Take it out, or try another.")


class NoTaxOnPlans(ShopError):
    """Taxes are found out for what is bought once; ``titles`` recur."""

    code = "no_tax_on_plans"
    http_status = 409
    headline = "Subscriptions cannot be bought here yet"

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            f"This shop cannot work out the tax on a subscription yet: {', '.join(titles)}. "
            "Remove it from your basket to go on."
        )


class TaxPlaceUnknown(ShopError):
    """Stripe cannot tell from the address which taxes hold there."""

    code = "tax_place_unknown"
    http_status = 422
    headline = "Check the address"

    def __init__(self) -> None:
        super().__init__(
            "We cannot work out the tax for this address. Check the postal code, the state and "
            "the country. Nothing was charged."
        )


class BillDiffers(ShopError):
    """Stripe's total is not ours: nobody is sent to pay it."""

    code = "bill_differs"
    http_status = 502
    headline = "We could not agree on the total"

    def __init__(self) -> None:
        super().__init__(
            "The payment service adds this order up differently than we do, so we stopped before "
            "you could pay it. Nothing was charged, and your basket is kept. Try it without the "
            "discount code, or write to us: we have been told."
        )


class TotalTooLarge(ShopError):
    code = "total_too_large"
    http_status = 422
    headline = "This basket is too large"

    def __init__(self) -> None:
        super().__init__("The total is more than one payment can carry. Order in two parts.")


class NotFound(ShopError):
    code = "not_found"
    http_status = 404
    headline = "We can't find that"


class LostReference(NotFound):
    """Back from paying, without saying from which payment."""

    code = "reference_lost"

    def __init__(self) -> None:
        super().__init__(
            "The payment page sent you back without a reference. Your order is safe: "
            "find it under “My orders”, or by e-mail."
        )


class OrderReferenceMissing(NotFound):
    """A payment page of Stripe's that names none of our checkouts."""

    code = "order_reference_missing"
    headline = "Order data reference not found"

    def __init__(self) -> None:
        super().__init__(
            "The payment page that sent you here belongs to no checkout of this shop. If you paid, "
            "write to us: your payment is not lost."
        )


class OrderDataMissing(NotFound):
    """A payment whose checkout is gone here, and cannot be made anew."""

    code = "order_data_missing"
    headline = "Order data not found or expired"

    def __init__(self) -> None:
        super().__init__(
            "What you ordered is no longer stored here. If you paid, your payment is not lost: we "
            "see it and will write to you, so please don’t pay again. Otherwise start your "
            "checkout again."
        )


class Conflict(ShopError):
    code = "conflict"
    http_status = 409
    headline = "That is no longer possible"


class ChangesTooFast(Conflict):
    """Others settled the same order again and again while we looked at Stripe: no failure of
    anybody, and whoever brought the news tries again."""

    code = "changes_too_fast"

    def __init__(self) -> None:
        super().__init__("This order changes too fast to settle now; it will be looked at again.")


class Forbidden(ShopError):
    code = "forbidden"
    http_status = 403
    headline = "Not for this account"


class UnverifiedEvent(ShopError):
    """A webhook body that Stripe did not sign, or not for us, or not now."""

    code = "signature_invalid"
    http_status = 400
    headline = "Signature refused"

    def __init__(self, message: str, *, about: str | None = None) -> None:
        """``about`` names what of the shop may be wrong: its ``secret`` or its ``clock``."""
        super().__init__(message)
        self.about = about


class CannotStore(ShopError):
    """The database did not take a verified event: Stripe has to send it again."""

    code = "cannot_store"
    http_status = 503
    headline = "Try again later"


class StripeError(ShopError):
    """Something went wrong between us and Stripe."""

    code = "stripe_error"
    http_status = 502
    headline = "The payment service did not answer"


class StripeUnavailable(StripeError):
    """Timeout, connection error or 5xx: **unknown outcome**, the work may have been done."""

    code = "stripe_unavailable"


class StripeReplayedFailure(StripeUnavailable):
    """A 500 that Stripe stored under our idempotency key: the key will never say more."""

    code = "stripe_replayed_failure"


class StripeBusy(StripeError):
    """401, 409, 429: Stripe did nothing; the same request may be sent again later."""

    code = "stripe_busy"


class StripeRefused(StripeError):
    """A definite no: nothing was done and the same request would be refused again."""

    code = "stripe_refused"


class StripeMissing(StripeRefused):
    """Stripe has no such object (404)."""

    code = "stripe_missing"
