"""The scripts and styles of what stands in a frame of the shop's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response

from .pages import HERE, render

if TYPE_CHECKING:
    from .box import Sandbox

FILES = {"checkout-frame.js": "text/javascript", "element.css": "text/css"}


def serve(box: Sandbox, environ: dict[str, Any]) -> Response:
    name = Request(environ).path.removeprefix("/js/")
    if name not in FILES:
        return render("gone.html", status=404)
    text = (HERE / "static" / name).read_bytes()
    headers = {"Cache-Control": "max-age=60", "X-Content-Type-Options": "nosniff"}
    return Response(text, mimetype=FILES[name], headers=headers)
