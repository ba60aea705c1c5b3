"""Same key, same answer: for a day, for the same call only."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..errors import ApiError
from ..events import compact

if TYPE_CHECKING:
    from ..box import Sandbox
    from . import Call

KEPT_S = 86_400
LONGEST_KEY = 255


def check_key(key: str | None) -> None:
    if key is not None and len(key) > LONGEST_KEY:
        raise ApiError(
            f"Idempotency keys can be at most {LONGEST_KEY} characters long.",
            type="idempotency_error",
            begun=False,
        )


def recall(box: Sandbox, key: str | None, call: Call) -> dict[str, Any] | None:
    """The answer kept under ``key``, if there is one.

    Raises ApiError when the key was used for something else, or is being used right now.
    """
    kept = box.store.objects["idempotency"].get(key) if key else None
    if kept is None:
        return None
    now = box.now()
    if kept["created"] + KEPT_S <= now:
        box.store.drop(kept)
        return None
    if kept["call"] != _fingerprint(call):
        raise ApiError(
            "Keys for idempotent requests can only be used with the same parameters they were "
            "first used with. Try using a key other than "
            f"'{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    if kept["busy_until"] > now:
        raise ApiError(
            "There is currently another in-progress request using this Idempotent Key (that "
            "probably means you submitted twice, and the other request is still going through): "
            f"{key}. Please try again later.",
            status=409,
            type="idempotency_error",
            code="idempotency_key_in_use",
            retry=True,
        )
    return kept


def keep(box: Sandbox, key: str, call: Call, status: int, body: str, busy_s: float) -> None:
    """Keep the answer; the key counts as in use for ``busy_s`` more seconds."""
    now = box.now()
    box.store.put(
        {
            "object": "idempotency",
            "id": key,
            "created": now,
            "busy_until": now + busy_s if busy_s else 0.0,
            "call": _fingerprint(call),
            "request": call.request_id,
            "status": status,
            "body": body,
        }
    )


def _fingerprint(call: Call) -> str:
    said = f"{call.method} {call.path} {compact(call.tree)}"
    return hashlib.sha256(said.encode()).hexdigest()
