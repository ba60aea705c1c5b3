"""Who this shop is, for pages and mails; a shop edits this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    tagline: str
    help_email: str
    number_prefix: str


IDENTITY = Identity(
    name="Northlight Supply",
    tagline="Plain things, made to be used for years.",
    help_email="help@northlight.example",
    number_prefix="NL",
)
