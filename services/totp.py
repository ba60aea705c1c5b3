"""Codes from an authenticator app (RFC 6238: SHA-1, six digits, 30 s), and those for a lost phone.

SHA-1, six digits and 30 s are what every such app knows; other choices some of them ignore.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime
from urllib.parse import quote

import segno

PERIOD_S, DIGITS = 30, 6
DRIFT = 1  # steps that a phone's clock may be off, either way
RECOVERY_CODES = 10
_RECOVERY_BYTES = 10  # 80 bits: too many to guess, so that a plain hash of one is enough


def new_secret() -> str:
    """160 random bits, as the text that one types into an app."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def step_at(moment: datetime) -> int:
    """The number of the 30 s that ``moment`` is in."""
    return int(moment.timestamp()) // PERIOD_S


def code_of(secret: str, step: int) -> str:
    """What the app shows in that step."""
    mac = hmac.digest(base64.b32decode(secret), step.to_bytes(8, "big"), hashlib.sha1)
    offset = mac[-1] & 0xF
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def accepted_step(secret: str, code: str, moment: datetime, *, after: int) -> int | None:
    """The step whose code this is, if it may count now: near ``moment``, and later than ``after``,
    the step of the last code that counted. So each counts once."""
    typed, present, found = tidy(code), step_at(moment), None
    for step in range(present - DRIFT, present + DRIFT + 1):
        if hmac.compare_digest(code_of(secret, step).encode(), typed.encode()) and step > after:
            found = step
    return found


def otpauth(secret: str, email: str, issuer: str) -> str:
    """The address that an app on the same device opens."""
    label = f"{quote(issuer)}:{quote(email)}"
    return (
        f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer)}"
        f"&algorithm=SHA1&digits={DIGITS}&period={PERIOD_S}"
    )


def picture(address: str) -> str:
    """What the app's camera reads: an SVG of squares, dark on light by day and by night, because
    not every app reads the inverse."""
    code = segno.make(address, error="m", micro=False)
    return code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr")


def new_recovery_codes() -> list[str]:
    """Ten codes, each of which stands for the app once."""
    raw = (secrets.token_bytes(_RECOVERY_BYTES) for _ in range(RECOVERY_CODES))
    return [grouped(base64.b32encode(part).decode().lower()) for part in raw]


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code, however it was typed."""
    return hashlib.sha256(tidy(code).lower().encode()).hexdigest()


def grouped(text: str) -> str:
    """In fours, so that it can be read and typed."""
    return " ".join(re.findall(".{1,4}", text))


def tidy(code: str) -> str:
    """Without the spaces and dashes that people put between the digits; ASCII only."""
    return re.sub(r"[^0-9A-Za-z]", "", code)[:40]
