"""Who this shop is, for pages and mails; its settings say so."""

from __future__ import annotations

from typing import cast

from flask import current_app, has_app_context
from werkzeug.local import LocalProxy

from domain.look import Identity


def _identity() -> Identity:
    if not has_app_context():
        return Identity()
    found: Identity = current_app.extensions["settings"].identity
    return found


IDENTITY = cast(Identity, LocalProxy(_identity))
