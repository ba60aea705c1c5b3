"""Serves a WSGI app in background threads, and can really go away."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from .box import Sandbox

NOTICE_STOP_S = 0.02


class Server:
    """One running server. ``stop`` also ends connections that are kept alive."""

    def __init__(self, box: Sandbox, host: str, port: int) -> None:
        self._open: set[socket.socket] = set()
        handler = type("Handler", (_Handler,), {"open_connections": self._open})
        self._http = make_server(
            host, port, lambda *call: box.wsgi(*call), threaded=True, request_handler=handler
        )
        self.port = self._http.server_port
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"  # noqa: S104
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            kwargs={"poll_interval": NOTICE_STOP_S},
            name="sandbox-http",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    open_connections: set[socket.socket]
    disable_nagle_algorithm = True  # headers and body are two writes; a reader would wait 40 ms

    def setup(self) -> None:
        super().setup()
        self.open_connections.add(self.connection)

    def finish(self) -> None:
        self.open_connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """A cut line: nothing was written yet, and nothing more is to be read."""
        self.close_connection = True

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: the sandbox keeps its own list of requests."""
