"""What a shopper types at checkout, and what we make of it."""

from __future__ import annotations

import unicodedata
from typing import Any

from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from wtforms import RadioField, SelectField, StringField, ValidationError
from wtforms.validators import AnyOf, DataRequired, Length

from domain.delivery import DEFAULT, DELIVERIES
from services import language
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


def _text(label: Any, most: int, missing: Any) -> StringField:
    checks: list[Any] = [
        Length(max=most, message=_("At most %(most)s characters, please.", most=most))
    ]
    if missing:
        checks.insert(0, DataRequired(missing))
    return StringField(label, checks, filters=[tidy])


class CheckoutForm(FlaskForm):
    """Contact, address, delivery, a discount code; ``contact()``, ``address()`` once validated."""

    email = _text(
        _("E-mail"), 254, _("Enter your e-mail address, so that we can send the receipt.")
    )
    phone = _text(_("Phone"), 40, None)
    name = _text(_("Full name"), 120, _("Enter your full name."))
    line1 = _text(_("Street and number"), 200, _("Enter the street and number."))
    line2 = _text(_("Flat, company or floor"), 200, None)
    postal_code = _text(_("Postal code"), 20, _("Enter the postal code."))
    city = _text(_("City"), 120, _("Enter the city."))
    state = _text(_("State or region"), 120, None)
    country = SelectField(
        _("Country"),
        choices=lambda: language.countries(COUNTRIES),
        default="DE",
        validate_choice=False,
        validators=[AnyOf(list(COUNTRIES), message=_("Choose a country we deliver to."))],
    )
    code = StringField(_("Discount code"), filters=[tidy])
    delivery = RadioField(
        _("Delivery"),
        choices={code: delivery.label for code, delivery in DELIVERIES.items()},
        default=DEFAULT,
        validate_choice=False,
        validators=[AnyOf(list(DELIVERIES), message=_("Choose how it gets to you."))],
    )

    def validate_email(self, field: StringField) -> None:
        address = mail_address(field.data or "")
        if address is None:
            raise ValidationError(_("Enter an e-mail address like name@example.com."))
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
