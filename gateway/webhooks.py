"""What Stripe sends: verified over the raw bytes, before anything is believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import stripe

from domain.clock import now
from domain.errors import UnverifiedEvent

TOLERANCE_S = 300  # Stripe's own default for the age of a signature


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """An event that Stripe signed. ``ignored`` says why it is none of our business."""

    id: str
    type: str
    object_id: str | None
    api_version: str | None
    livemode: bool
    payload: str
    ignored: str | None = None


def verify(
    body: bytes, signature: str, *, secrets: tuple[str, ...], livemode: bool
) -> VerifiedEvent:
    """Check the signature over the raw bytes, then read the envelope.

    Accepts any of ``secrets`` (rotation), signatures up to 300 s old, and none from more than
    300 s ahead, which the SDK itself would let pass. Raises UnverifiedEvent.
    """
    try:
        text = body.decode()
        _check_signature(text, signature, secrets)
        event = json.loads(text)
        return envelope(event, text, livemode=livemode)
    except UnverifiedEvent:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise UnverifiedEvent(f"This is no event: {type(error).__name__}.") from error


def _check_signature(text: str, signature: str, secrets: tuple[str, ...]) -> None:
    if not signature.isascii():
        raise UnverifiedEvent("The signature header is malformed.")
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(text, signature, secret, tolerance=None)
            break
        except stripe.SignatureVerificationError:
            continue
    else:
        raise UnverifiedEvent("The signature does not match any of our secrets.", about="secret")
    stamp = next(part[2:] for part in signature.split(",") if part.startswith("t="))
    if abs(now().timestamp() - int(stamp)) > TOLERANCE_S:
        why = f"The signature's time is more than {TOLERANCE_S} seconds off our clock."
        raise UnverifiedEvent(why, about="clock")


def envelope(event: Any, text: str, *, livemode: bool) -> VerifiedEvent:
    """Of an event that Stripe vouches for; ``livemode`` is that of our key."""
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        raise UnverifiedEvent("This is no event: it has no id.")
    body = (event.get("data") or {}).get("object") or {}
    is_live = bool(event.get("livemode"))
    reason = None
    if event.get("object") != "event":
        reason = "a thin event carries no object"
    elif is_live != livemode:
        reason = f"a {'live' if is_live else 'test'} event, but this shop runs on other keys"
    elif event.get("account"):
        reason = "it belongs to a connected account"
    return VerifiedEvent(
        id=_said(event["id"], 255),
        type=_said(event["type"], 80),
        object_id=_said(body["id"], 255) if body.get("id") is not None else None,
        api_version=_said(event["api_version"], 40) if event.get("api_version") else None,
        livemode=is_live,
        payload=text,
        ignored=reason,
    )


def _said(value: Any, most: int) -> str:
    """Text that a database takes. Raises UnverifiedEvent for anything else: answered with 503 it
    would come again for three days."""
    if not isinstance(value, str) or not value.isprintable():
        raise UnverifiedEvent("This is no event: its names are no text.")
    return value[:most]
