"""Serves a WSGI app in background threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

NOTICE_STOP_S = 0.02


class Server:
    """One running server. It closes each connection after its answer, so none outlives it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app: Callable[..., Iterable[bytes]] | None = None
        self._http = make_server(host, port, self._answer, threaded=True, request_handler=_Handler)
        self.port = self._http.server_port
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"  # noqa: S104
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            kwargs={"poll_interval": NOTICE_STOP_S},
            name="sandbox-http",
            daemon=True,
        )
        self._thread.start()

    def serve(self, app: Callable[..., Iterable[bytes]]) -> None:
        """Answer with this app from now on."""
        self._app = app

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert self._app is not None
        return self._app(environ, start_response)

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    disable_nagle_algorithm = True  # headers and body are two writes; a reader would wait 40 ms

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """A cut line: nothing was written yet, and nothing more is to be read."""
        self.close_connection = True

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: the sandbox keeps its own list of requests."""
