"""What a shopper types at checkout, and what we make of it."""

from __future__ import annotations

import unicodedata
from typing import Any

from flask_wtf import FlaskForm
from wtforms import RadioField, SelectField, StringField, ValidationError
from wtforms.validators import AnyOf, DataRequired, Length

from domain.delivery import DEFAULT, DELIVERIES
from services.addresses import mail_address
from services.checkout import Address, Contact

COUNTRIES = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "CA": "Canada",
    "CH": "Switzerland", "CZ": "Czechia", "DE": "Germany", "DK": "Denmark",
    "ES": "Spain", "FI": "Finland", "FR": "France", "GB": "United Kingdom",
    "GR": "Greece", "IE": "Ireland", "IT": "Italy", "JP": "Japan",
    "LU": "Luxembourg", "NL": "Netherlands", "NO": "Norway", "NZ": "New Zealand",
    "PL": "Poland", "PT": "Portugal", "SE": "Sweden", "US": "United States",
}  # fmt: skip

_NO_TEXT = frozenset(("Cc", "Cs", "Co"))  # control characters, lone surrogates, private ones
# Characters that turn the direction of what follows: a name could read as another one.
_TURNS_TEXT = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def tidy(value: str | None) -> str | None:
    """One form of each character, no control characters, no space around."""
    if value is None:
        return None
    normal = unicodedata.normalize("NFC", value)
    kept = "".join(" " if c in "\t\r\n" else c for c in normal if c in "\t\r\n" or _visible(c))
    return " ".join(kept.split())


def _visible(character: str) -> bool:
    return unicodedata.category(character) not in _NO_TEXT and character not in _TURNS_TEXT


def _text(label: str, most: int, missing: str | None) -> StringField:
    checks: list[Any] = [Length(max=most, message=f"At most {most} characters, please.")]
    if missing:
        checks.insert(0, DataRequired(missing))
    return StringField(label, checks, filters=[tidy])


class CheckoutForm(FlaskForm):
    """Contact, address, delivery, a discount code; ``contact()``, ``address()`` once validated."""

    email = _text("E-mail", 254, "Enter your e-mail address, so that we can send the receipt.")
    phone = _text("Phone", 40, None)
    name = _text("Full name", 120, "Enter your full name.")
    line1 = _text("Street and number", 200, "Enter the street and number.")
    line2 = _text("Flat, company or floor", 200, None)
    postal_code = _text("Postal code", 20, "Enter the postal code.")
    city = _text("City", 120, "Enter the city.")
    state = _text("State or region", 120, None)
    country = SelectField("Country", choices=COUNTRIES, default="DE")
    code = StringField("Discount code", filters=[tidy])
    delivery = RadioField(
        "Delivery",
        choices={code: delivery.label for code, delivery in DELIVERIES.items()},
        default=DEFAULT,
        validators=[AnyOf(list(DELIVERIES), message="Choose how it gets to you.")],
    )

    def validate_email(self, field: StringField) -> None:
        address = mail_address(field.data or "")
        if address is None:
            raise ValidationError("Enter an e-mail address like name@example.com.")
        field.data = address

    def contact(self) -> Contact:
        return Contact(self.name.data, self.email.data, self.phone.data or None)

    def address(self) -> Address:
        return Address(
            line1=self.line1.data,
            line2=self.line2.data or None,
            city=self.city.data,
            postal_code=self.postal_code.data,
            state=self.state.data or None,
            country=self.country.data,
        )

    def problems(self) -> list[tuple[str, str]]:
        """(id of the field, message) for the summary on top of the page."""
        return [
            (f"{name}-{DEFAULT}" if name == "delivery" else name, str(messages[0]))
            for name, messages in self.errors.items()
            if name
        ]
