"""A letter to a shopper: written once, as text; its HTML says the same and needs no pictures."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, render_template

from models import OutboxMessage
from services import shop

WEB = ("https://", "http://")


def letter(
    message: OutboxMessage, email: str, subject: str, template: str, **about: Any
) -> EmailMessage:
    """``email/<template>.txt`` to somebody, with its HTML beside it."""
    text = render_template(f"email/{template}.txt", shop=shop.IDENTITY, **about)
    mail = addressed(message, email, subject)
    mail.set_content(text)
    dressed = render_template(
        "email/letter.html", subject=subject, parts=parts(text), shop=shop.IDENTITY
    )
    mail.add_alternative(dressed, subtype="html")
    return mail


def addressed(message: OutboxMessage, email: str, subject: str) -> EmailMessage:
    """An empty message to somebody, with a Message-ID that never changes."""
    settings = current_app.extensions["settings"]
    host = urlsplit(settings.public_origin).hostname
    mail = EmailMessage()
    mail["Subject"] = subject
    mail["From"] = settings.mail_from
    mail["To"] = email
    mail["Date"] = format_datetime(message.created_at)
    mail["Message-ID"] = f"<{message.kind}.{message.key.replace(':', '.')}@{host}>"
    return mail


def origin() -> str:
    """Where the addresses in a letter lead."""
    return str(current_app.extensions["settings"].public_origin)


def parts(text: str) -> list[tuple[list[str], str | None]]:
    """A letter's paragraphs as (lines, address): a paragraph whose last line is an address is a
    link to it, and what stands before it is what the link is called."""
    found: list[tuple[list[str], str | None]] = []
    for paragraph in text.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
        while lines:
            at = next((n for n, line in enumerate(lines) if line.startswith(WEB)), None)
            if at is None:
                found.append((lines, None))
                break
            found.append(([line.rstrip(":：") for line in lines[:at]], lines[at]))
            lines = lines[at + 1 :]
    return found
