"""What can go wrong in a shop, named for what happened and written for the shopper.

``code`` is the stable name a program may test for, ``http_status`` what a page or the API answers.
"""

from __future__ import annotations

from domain.words import Words


class ShopError(Exception):
    """An expected failure: the message says what happened and what to do about it."""

    code = "shop_error"
    http_status = 400
    headline: str = Words("That did not work")

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EmptyCart(ShopError):
    code = "cart_empty"
    http_status = 409
    headline: str = Words("Your basket is empty")

    def __init__(self) -> None:
        super().__init__(
            Words("There is nothing to pay for yet. Put something in your basket first.")
        )


class UnknownProduct(ShopError):
    code = "product_unknown"
    http_status = 422
    headline: str = Words("We don't have that")

    def __init__(self, sku: str) -> None:
        super().__init__(Words("There is no product “%(sku)s” in this shop.", sku=sku[:40]))


class ProductUnavailable(ShopError):
    code = "product_unavailable"
    http_status = 409
    headline: str = Words("No longer for sale")

    def __init__(self, title: str, currency: str | None = None) -> None:
        """With a ``currency``: it is for sale, but has no price in that one."""
        if currency is None:
            super().__init__(
                Words(
                    "%(title)s is no longer for sale. Remove it from your basket to go on.",
                    title=title,
                )
            )
            return
        self.headline = Words("Not sold in this currency")
        super().__init__(
            Words(
                "%(title)s is not sold in %(currency)s. Choose another currency to buy it.",
                title=title,
                currency=currency.upper(),
            )
        )


class BadQuantity(ShopError):
    code = "quantity_invalid"
    http_status = 422
    headline: str = Words("Check the quantity")

    def __init__(self, most: int) -> None:
        super().__init__(
            Words("The quantity must be a whole number from 1 to %(most)s.", most=most)
        )


class OutOfStock(ShopError):
    code = "out_of_stock"
    http_status = 409
    headline: str = Words("Not enough left")

    def __init__(self, sku: str, title: str, left: int) -> None:
        self.sku, self.left = sku, left
        super().__init__(
            Words(
                "Only %(left)s of %(title)s left. Change the quantity to go on.",
                left=left,
                title=title,
            )
            if left > 0
            else Words(
                "%(title)s is sold out. Remove it from your basket to go on.",
                title=title,
            )
        )


class PriceChanged(ShopError):
    code = "price_changed"
    http_status = 409
    headline: str = Words("A price has changed")

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            Words(
                "The price of %(titles)s has changed since you put it in your basket. Nothing was "
                "charged. Look at the new total and accept it to go on.",
                titles=", ".join(titles),
            )
        )


class PlansDoNotMix(ShopError):
    """Stripe's payment page carries one rhythm and one trial; the ``titles`` have several."""

    code = "plans_do_not_mix"
    http_status = 409
    headline: str = Words("These subscriptions need separate checkouts")

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            Words(
                "%(titles)s and %(last)s are not charged on the same days, so one checkout cannot "
                "start them together. Leave those of one rhythm in your basket and check out, then "
                "order the others.",
                titles=", ".join(titles[:-1]),
                last=titles[-1],
            )
        )


class CodeRefused(ShopError):
    """A discount code that cannot be used; the message says why."""

    code = "discount_code_refused"
    http_status = 422
    headline: str = Words("This code cannot be used")

    def __init__(self, why: str) -> None:
        super().__init__(
            Words("%(why)s Nothing was charged. Take it out, or try another.", why=why)
        )


class NoTaxOnPlans(ShopError):
    """Taxes are found out for what is bought once; ``titles`` recur."""

    code = "no_tax_on_plans"
    http_status = 409
    headline: str = Words("Subscriptions cannot be bought here yet")

    def __init__(self, titles: list[str]) -> None:
        super().__init__(
            Words(
                "This shop cannot work out the tax on a subscription yet: %(titles)s. Remove it "
                "from your basket to go on.",
                titles=", ".join(titles),
            )
        )


class TaxPlaceUnknown(ShopError):
    """Stripe cannot tell from the address which taxes hold there."""

    code = "tax_place_unknown"
    http_status = 422
    headline: str = Words("Check the address")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "We cannot work out the tax for this address. Check the postal code, the state and "
                "the country. Nothing was charged."
            )
        )


class BillDiffers(ShopError):
    """Stripe's total is not ours: nobody is sent to pay it."""

    code = "bill_differs"
    http_status = 502
    headline: str = Words("We could not agree on the total")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "The payment service adds this order up differently than we do, so we stopped "
                "before you could pay it. Nothing was charged, and your basket is kept. Try it "
                "without the discount code, or write to us: we have been told."
            )
        )


class TotalTooLarge(ShopError):
    code = "total_too_large"
    http_status = 422
    headline: str = Words("This basket is too large")

    def __init__(self) -> None:
        super().__init__(Words("The total is more than one payment can carry. Order in two parts."))


class NotFound(ShopError):
    code = "not_found"
    http_status = 404
    headline: str = Words("We can't find that")


class LostReference(NotFound):
    """Back from paying, without saying from which payment."""

    code = "reference_lost"

    def __init__(self) -> None:
        super().__init__(
            Words(
                "The payment page sent you back without a reference. Your order is safe: "
                "find it under “My orders”, or by e-mail."
            )
        )


class OrderReferenceMissing(NotFound):
    """A payment page of Stripe's that names none of our checkouts."""

    code = "order_reference_missing"
    headline: str = Words("Order data reference not found")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "The payment page that sent you here belongs to no checkout of this shop. If you "
                "paid, write to us: your payment is not lost."
            )
        )


class OrderDataMissing(NotFound):
    """A payment whose checkout is gone here, and cannot be made anew."""

    code = "order_data_missing"
    headline: str = Words("Order data not found or expired")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "What you ordered is no longer stored here. If you paid, your payment is not lost: "
                "we see it and will write to you, so please don’t pay again. Otherwise start your "
                "checkout again."
            )
        )


class Conflict(ShopError):
    code = "conflict"
    http_status = 409
    headline: str = Words("That is no longer possible")


class ChangesTooFast(Conflict):
    """Others settled the same order again and again while we looked at Stripe: no failure of
    anybody, and whoever brought the news tries again."""

    code = "changes_too_fast"

    def __init__(self) -> None:
        super().__init__(
            Words("This order changes too fast to settle now; it will be looked at again.")
        )


class Forbidden(ShopError):
    code = "forbidden"
    http_status = 403
    headline: str = Words("Not for this account")


class UnverifiedEvent(ShopError):
    """A webhook body that Stripe did not sign, or not for us, or not now."""

    code = "signature_invalid"
    http_status = 400
    headline: str = Words("Signature refused")

    def __init__(self, message: str, *, about: str | None = None) -> None:
        """``about`` names what of the shop may be wrong: its ``secret`` or its ``clock``."""
        super().__init__(message)
        self.about = about


class CannotStore(ShopError):
    """The database did not take a verified event: Stripe has to send it again."""

    code = "cannot_store"
    http_status = 503
    headline: str = Words("Try again later")


class StripeError(ShopError):
    """Something went wrong between us and Stripe."""

    code = "stripe_error"
    http_status = 502
    headline: str = Words("The payment service did not answer")


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
