"""A mail address in the one form in which the shop keeps it, hashes it and writes to it."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email


def mail_address(text: str) -> str | None:
    """The address as mail servers and Stripe take it, or None if it is none.

    Names of other scripts in front of the @ have no such form: few mail servers, and not Stripe,
    know them. A domain of another script has one.
    """
    try:
        return validate_email(text, check_deliverability=False).ascii_email
    except EmailNotValidError:
        return None
