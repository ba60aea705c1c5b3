"""The front door: what comes in by HTTP goes to the API, the pay pages or the panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import api, elements, panel, tills

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
            return tills.serve(self._box, environ)(environ, start_response)
        if path.startswith("/js/"):
            return elements.serve(self._box, environ)(environ, start_response)
        return panel.serve(self._box, environ)(environ, start_response)
