"""The front door: what comes in by HTTP goes to the API, the pay pages or the panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import api, pages, panel

if TYPE_CHECKING:
    from .box import Sandbox

StartResponse = Callable[..., Any]


class Gate:
    """A WSGI app. Raises ``Cut`` when the line is to go dead without an answer."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "/")
        if path.startswith("/v1/"):
            return api.serve(self._box, environ, start_response)
        if path.startswith("/c/"):
            return pages.serve(self._box, environ)(environ, start_response)
        return panel.serve(self._box, environ)(environ, start_response)


def after_paying(session: dict[str, Any]) -> str | None:
    """Where the browser goes once the session is complete, its id filled in."""
    url = session["success_url"] or session.get("return_url")
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"]) if url else None


def origin(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
