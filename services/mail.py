"""Handing a message to the mail server. Built and repeated by the outbox."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

from flask import current_app

from services.outbox import Result, Unreachable

TIMEOUT_S = 15


def send(message: EmailMessage) -> Result:
    """Deliver one message; at least once, with a Message-ID that never changes.

    A crash between the server's yes and our commit sends the same message again: the same
    Message-ID lets a mailbox show it once, but nobody can promise more over SMTP.
    Raises Unreachable while the server is down. In embedded mode the message is kept in the
    outbox for ``/dev/mailbox`` and goes nowhere.
    """
    settings = current_app.extensions["settings"]
    result: Result = {
        "message_id": message["Message-ID"],
        "to": message["To"],
        "subject": message["Subject"],
    }
    if settings.smtp_url is None:
        return result | {"source": message.as_string()}
    try:
        with _connect(settings.smtp_url) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        if _is_refusal(error):
            raise
        raise Unreachable(f"mail server: {error}") from error
    return result


def _is_refusal(error: Exception) -> bool:
    """A 5xx is the server's last word; anything else may pass (and is an OSError to smtplib)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500


def _connect(url: str) -> smtplib.SMTP:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if parts.scheme == "smtps":
        server = smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(host, port or 25, timeout=TIMEOUT_S)
        if parse_qs(parts.query).get("tls") == ["starttls"]:
            server.starttls(context=context)
    if parts.username:
        server.login(unquote(parts.username), unquote(parts.password or ""))
    return server
