"""Somebody who is told: a real web server that answers as it is told to, and keeps what it got."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Got:
    """One request as it came."""

    path: str
    body: bytes
    headers: dict[str, str]
    status: int

    @property
    def event(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def signature(self) -> str:
        return self.headers["Quittance-Signature"]


@dataclass
class Sink:
    """``answers`` are used up one by one, then it is 200; ``meanwhile`` happens before one."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    redirect_to: str = ""
    drips: bool = False
    meanwhile: Callable[[], None] = lambda: None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [one.event for one in self.got]

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The events that it said yes to."""
        return [one.event for one in self.got if one.status == 200]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.taken]


@contextmanager
def listening() -> Iterator[Sink]:
    """A sink on a port of its own, for the length of the block."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = sink.answers.pop(0) if sink.answers else 200
            sink.got.append(Got(self.path, body, dict(self.headers), status))
            sink.meanwhile()
            if sink.drips:
                self._drip()
                return
            self.send_response(status)
            if sink.redirect_to:
                self.send_header("Location", sink.redirect_to)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"ok\n")

        do_GET = do_POST

        def _drip(self) -> None:
            """A byte of the headers now and then, for ever: no timeout of a socket ends that."""
            try:
                for letter in b"HTTP/1.1 200 OK\r\nX-" + b"y" * 1000:
                    self.wfile.write(bytes([letter]))
                    time.sleep(0.05)
            except OSError:
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sink.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
