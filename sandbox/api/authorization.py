"""Who may call: anybody with a key of test mode; a publishable one opens little."""

from __future__ import annotations

import base64
import binascii

from ..errors import ApiError


def authorize(header: str) -> bool:
    """Whether the key is a publishable one, from Bearer or from Basic's user.

    Raises ApiError 401 unless ``header`` carries a test key.
    """
    scheme, _, value = header.partition(" ")
    key = value.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
    elif scheme.lower() != "bearer":
        key = ""
    if not key:
        raise _refused(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if not key.startswith(("sk_test_", "rk_test_", "pk_test_")):
        raise _refused(f"Invalid API Key provided: {'*' * 8}{key[8:][-4:]}")
    return key.startswith("pk_")


def _refused(message: str) -> ApiError:
    return ApiError(message, status=401, begun=False)
