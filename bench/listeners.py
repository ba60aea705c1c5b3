"""Streams of waiting orders, kept open while something else is measured."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

from itsdangerous import URLSafeSerializer

from bench.events import Purchase

SENT_AWAY_WITHIN_S = 0.5  # a stream too many ends at once
ENDS_WITHIN_S = 10.0  # once its order is decided
END = b"\r\n0\r\n\r\n"  # of a chunked answer


class Listener:
    """Somebody who waits for one order; the signed link of an order opens its stream."""

    def __init__(self, port: int, purchase: Purchase, key: str) -> None:
        self.purchase = purchase
        self._heard = b""
        self._sock = socket.create_connection(("127.0.0.1", port))
        token = URLSafeSerializer(key, salt="order-link").dumps([purchase.attempt_id, 1])
        self._sock.sendall(
            f"GET /api/orders/{purchase.attempt_id}/sync-status HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )

    @property
    def was_rung(self) -> bool:
        return b"\nevent: changed\n" in self._heard.replace(b"\r\n", b"\n")

    def ends(self, within_s: float) -> bool:
        """Listen for so long; whether the stream has ended."""
        self._sock.settimeout(within_s)
        with suppress(TimeoutError):
            while not self._heard.endswith(END):
                part = self._sock.recv(4096)
                if not part:
                    return True
                self._heard += part
        return self._heard.endswith(END)

    def close(self) -> None:
        self._sock.close()


def settle_down(port: int, waiting: Iterable[Purchase], key: str) -> list[Listener]:
    """Open a stream for each, and keep those that the server lets stay."""
    arrived = [Listener(port, purchase, key) for purchase in waiting]
    staying = [one for one in arrived if not one.ends(SENT_AWAY_WITHIN_S)]
    for one in arrived:
        if one not in staying:
            one.close()
    return [one for one in staying if one.was_rung]
