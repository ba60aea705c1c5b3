"""What a shopper knows: the answers that came, and what was put into the basket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.errors import ShopError

Key = tuple[str, str]  # shopper, sku


@dataclass
class Answer:
    """What came back from the shop: a value, a refusal in words, an error page, or nothing."""

    value: Any = None
    refusal: ShopError | None = None
    broke: bool = False
    came: bool = False

    @property
    def is_lost(self) -> bool:
        return not self.came


class Books:
    """What each shopper put in the basket, as the shopper knows it.

    A request that was never answered may or may not have counted: ``maybe`` says how much.
    """

    def __init__(self) -> None:
        self.sure: dict[Key, int] = {}
        self.maybe: dict[Key, int] = {}
        self.unknown: set[Key] = set()

    def added(self, key: Key, units: int, answer: Answer) -> None:
        book = self.maybe if answer.is_lost else self.sure
        if answer.is_lost or not (answer.refusal or answer.broke):
            book[key] = book.get(key, 0) + units

    def removed(self, key: Key, answer: Answer, on_a_page: int) -> None:
        """``on_a_page`` units of it can be paid all the same: where lines stay in the basket until
        their payment, taking them out does not take them off the payment page."""
        if answer.is_lost:
            self.unknown.add(key)
        elif answer.value:
            self.sure[key] = self.sure.get(key, 0) - answer.value[1]
            self.bought_past_the_basket(key, min(on_a_page, answer.value[1]))

    def bought_past_the_basket(self, key: Key, units: int) -> None:
        """These may be bought without being in the basket."""
        self.maybe[key] = self.maybe.get(key, 0) + units
