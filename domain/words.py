"""Sentences for people, which somebody else says in their language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.money import display


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount in a sentence, in minor units; every language writes it in its own way."""

    amount: int
    currency: str

    def __str__(self) -> str:
        return display(self.amount, self.currency)


class Words(str):
    """An English sentence that remembers what it was made of: for logs and programs it is that
    sentence, and a page finds its translation by ``pattern`` and fills in ``values`` again."""

    pattern: str
    values: dict[str, Any]

    def __new__(cls, pattern: str, /, **values: Any) -> Words:
        said = super().__new__(cls, pattern % values if values else pattern)
        said.pattern, said.values = pattern, values
        return said
