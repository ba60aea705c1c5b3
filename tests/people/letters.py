"""What the shop has written to somebody, as their mail program reads it."""

from __future__ import annotations

import email
import re
from email import policy
from email.message import EmailMessage

from models import OutboxMessage
from tests.shop import ORIGIN, Shop


def letters(shop: Shop, *kinds: str) -> list[EmailMessage]:
    """Those that were sent, oldest first."""
    rows = shop.rows(OutboxMessage, OutboxMessage.kind.in_(kinds))
    sources = [row.result["source"] for row in rows if "source" in (row.result or {})]
    return [email.message_from_string(source, policy=policy.default) for source in sources]


def read(mail: EmailMessage, form: str = "plain") -> str:
    body = mail.get_body((form,))
    assert body
    return str(body.get_content())


def leads_to(mail: EmailMessage) -> str:
    """The first address in a letter, without the shop's own."""
    found = re.search(rf"{ORIGIN}(/\S+)", read(mail))
    assert found
    return found[1]
