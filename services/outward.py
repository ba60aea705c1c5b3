"""One POST to an address that somebody else chose, without being led to where they should not.

The address that is connected to is looked up once, looked at, and then used: a name that answers
differently the second time gains nothing. Nothing private, no redirect, no proxy, ten seconds in
all, and of the answer its number only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S = 10

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Counted as public by the address registries, and yet a way into somebody's own network.
_INWARD = (
    ipaddress.ip_network("168.63.129.16/32"),  # what Azure's machines ask about themselves
    ipaddress.ip_network("64:ff9b::/96"),  # these three carry another address within them
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
)


class Unreached(Exception):
    """No answer, or none that counts; says why in words without the address's path."""


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The number of the answer. ``https`` reaches public addresses only, ``http`` only this
    machine; which of them a setting may name is decided where settings are read. Raises
    Unreached."""
    parts = urlsplit(url)
    host, is_plain = parts.hostname or "", parts.scheme == "http"
    port = parts.port or (80 if is_plain else 443)
    give_up_at = time.monotonic() + TIMEOUT_S
    try:
        with _connected(host, port, give_up_at, is_plain=is_plain) as sock:
            held = [sock]
            # A timeout of the socket begins anew with every byte; this one does not.
            hang_up = threading.Timer(max(give_up_at - time.monotonic(), 0), _hang_up, [held])
            hang_up.daemon = True
            hang_up.start()
            try:
                if not is_plain:
                    held.append(_wrapped(sock, host))
                    held[-1].do_handshake()  # type: ignore[attr-defined]
                return _ask(held[-1], parts, body, headers)
            finally:
                hang_up.cancel()
                held[-1].close()
    except (OSError, HTTPException) as error:
        if time.monotonic() >= give_up_at:
            raise Unreached(f"{host} did not answer within {TIMEOUT_S} s") from error
        raise Unreached(f"{host}: {type(error).__name__}: {error}"[:300]) from error


def _wrapped(sock: socket.socket, host: str) -> ssl.SSLSocket:
    """Its certificate must be of the name that was asked for, whichever address it has."""
    context = ssl.create_default_context()
    return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)


def _ask(sock: socket.socket, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> int:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPConnection(parts.hostname or "")
    connection.sock = sock
    whole = {"Host": parts.netloc, "Connection": "close", **headers}
    connection.request("POST", path, body, whole)
    return connection.getresponse().status


def _connected(host: str, port: int, give_up_at: float, *, is_plain: bool) -> socket.socket:
    """A connection to the first address of the host that may be reached and answers."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [
        where[:2] for *_, where in found if _may_be_reached(str(where[0]), is_plain=is_plain)
    ]
    if not allowed:
        raise Unreached(f"{host} leads to no address that may be reached")
    last: OSError | None = None
    for where in allowed:
        try:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            return socket.create_connection((str(where[0]), int(where[1])), timeout=left_s)
        except OSError as error:
            last = error
    raise last or TimeoutError("no time left")


def _may_be_reached(text: str, *, is_plain: bool) -> bool:
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if is_plain:
        return address.is_loopback
    return is_public(address)


def is_public(address: Address) -> bool:
    """Whether it is somewhere in the open internet: not private, link-local, multicast or a
    cloud's own."""
    inward = any(address in network for network in _INWARD)
    return address.is_global and not address.is_multicast and not inward


def _hang_up(held: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # it was closed already
        socket.socket.shutdown(held[-1], socket.SHUT_RDWR)
