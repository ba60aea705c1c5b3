"""Passwords: kept as scrypt hashes, long rather than complicated, and never easy to guess."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from threading import BoundedSemaphore

SHORTEST, LONGEST = 12, 128  # characters; longer ones would only cost time
# 32 MiB and about a fifth of a second: what OWASP asks of scrypt where memory is scarce.
COST, BLOCK, PARALLEL = 2**15, 8, 3
_MOST_MEMORY = 64 * 1024 * 1024
_AT_ONCE = BoundedSemaphore(2)  # in a process: a flood of sign-ins must not eat the memory

# What the passwords that everybody tries first are made of.
_COMMON = (
    "password passwort passw pass word admin administrator root user login welcome letmein open "
    "sesame secret qwerty qwertyuiop qwertz azerty asdf asdfghjkl zxcvbn abc iloveyou love monkey "
    "dragon master football baseball superman batman princess sunshine shadow trustno whatever "
    "freedom starwars pokemon computer internet changeme default test testing guest hello "
    "hallo shop store quittance stripe money summer winter spring autumn january monday"
).split()
_ONLY_COMMON = re.compile(f"(?:{'|'.join(sorted(_COMMON, key=len, reverse=True))})*")
_LOOKS_LIKE = str.maketrans("@013457$!", "aoleastsi")  # p@ssw0rd is password
_ROWS = ("01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm",
         "qwertzuiopasdfghjklyxcvbnm", "1q2w3e4r5t6z7u8i9o0p", "1q2w3e4r5t6y7u8i9o0p",
         "1qaz2wsx3edc4rfv5tgb")  # fmt: skip
_FEWEST_DIFFERENT = 5


def problem(password: str, email: str) -> str | None:
    """Why this password is not taken, in a sentence; None if it is."""
    if len(password) < SHORTEST:
        return f"Use at least {SHORTEST} characters. Four or five plain words do well."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST} characters."
    plain = _normal(password).casefold()
    name, _, host = email.casefold().partition("@")
    if {plain, plain.rstrip("0123456789!?.")} & {email.casefold(), name, host}:
        return "Your e-mail address is the first thing anybody would try."
    if _is_common(plain):
        return "This is one of the passwords that everybody tries first."
    return None


def hashed(password: str) -> str:
    """What is kept of a password; never the same twice."""
    salt = secrets.token_bytes(16)
    derived = _scrypt(password, salt, COST, BLOCK, PARALLEL)
    return f"scrypt:{COST}:{BLOCK}:{PARALLEL}:{_text(salt)}:{_text(derived)}"


def matches(password: str, kept: str | None) -> bool:
    """Whether it is the password of that hash. Without one it is not, after the same work."""
    _, cost, block, parallel, salt, derived = (kept or _NOBODYS).split(":")
    if len(password) > LONGEST:
        password = ""
    found = _scrypt(password, _bytes(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, _bytes(derived)) and kept is not None


def _is_common(plain: str) -> bool:
    if len(set(plain)) < _FEWEST_DIFFERENT or plain.isdecimal():
        return True
    for text in (plain, plain[::-1]):
        if any(text in row * 3 for row in _ROWS):
            return True
    for text in (plain, plain.rstrip("0123456789!?.").translate(_LOOKS_LIKE)):
        letters = re.sub(r"[^a-z]", "", text)
        if _ONLY_COMMON.fullmatch(letters):
            return True
    return False


def _normal(password: str) -> str:
    """One form of each character, whatever the keyboard sends."""
    return unicodedata.normalize("NFKC", password)


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    secret = _normal(password).encode(errors="surrogatepass")
    with _AT_ONCE:
        return hashlib.scrypt(
            secret, salt=salt, n=cost, r=block, p=parallel, maxmem=_MOST_MEMORY, dklen=32
        )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


# What is compared with where there is no account, so that the answer takes as long.
_NOBODYS = f"scrypt:{COST}:{BLOCK}:{PARALLEL}:{_text(b'nobody')}:{_text(bytes(32))}"
