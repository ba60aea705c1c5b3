"""Sentences for people, which somebody else says in their language."""

from __future__ import annotations

from typing import Any


class Words(str):
    """An English sentence that remembers what it was made of: for logs and programs it is that
    sentence, and a page finds its translation by ``pattern`` and fills in ``values`` again."""

    pattern: str
    values: dict[str, Any]

    def __new__(cls, pattern: str, /, **values: Any) -> Words:
        said = super().__new__(cls, pattern % values if values else pattern)
        said.pattern, said.values = pattern, values
        return said
