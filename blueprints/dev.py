"""The mailbox of the embedded shop, where no mail leaves the machine."""

from __future__ import annotations

import email
from email import policy

from flask import Blueprint, render_template

from domain.errors import NotFound
from models import OutboxMessage
from services import outbox

bp = Blueprint("dev", __name__, url_prefix="/dev")


@bp.get("/mailbox")
def mailbox() -> str:
    return render_template("dev/mailbox.html", messages=[_shown(mail) for mail in outbox.mails()])


@bp.get("/mailbox/<int:message_id>")
def mail(message_id: int) -> str:
    found = next((mail for mail in outbox.mails() if mail.id == message_id), None)
    if found is None:
        raise NotFound("There is no such message.")
    return render_template("dev/mail.html", message=_shown(found))


def _shown(message: OutboxMessage) -> dict[str, object]:
    result = message.result or {}
    parsed = email.message_from_string(result.get("source", ""), policy=policy.default)
    body = parsed.get_body(("plain",))
    return {
        "id": message.id,
        "to": result.get("to", ""),
        "subject": result.get("subject", ""),
        "kind": message.kind,
        "sent_at": message.done_at,
        "text": body.get_content() if body else "",
    }
