"""Admins: a one-time link signs one in; there is no default password, and no password yet."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import select

from domain.clock import now
from domain.errors import Forbidden
from extensions import atomic, reading
from models import AuditEntry, Setting, User

LINK_LIVES = timedelta(hours=24)
_PREFIX = "admin-link:"


def create_link(email: str) -> str:
    """Make ``email`` an admin if needed; returns a path that signs it in once, within a day.

    Only a hash is kept. The path asks for a click, so that a mail scanner does not use it up.
    """
    token = secrets.token_urlsafe(24)
    with atomic() as session:
        user = session.scalar(select(User).where(User.email == email))
        if user is None:
            user = User(email=email)
            session.add(user)
        user.role = "admin"
        session.add(Setting(name=_name(token), value=email, until=now() + LINK_LIVES))
    return f"/admin/login?token={token}"


def use_link(token: str) -> User:
    """Sign in with a link, once. Raises Forbidden."""
    with atomic() as session:
        link = session.scalar(select(Setting).where(Setting.name == _name(token)).with_for_update())
        if link is None or link.until is None or link.until < now():
            raise Forbidden(
                "This link has been used or is too old. Print a new one: flask admin create EMAIL"
            )
        user = session.scalars(select(User).where(User.email == link.value)).one()
        session.delete(link)
        session.add(AuditEntry(actor=user.email, action="signed in"))
        return user


def admin(user_id: object, session_version: object) -> User | None:
    """The signed-in admin, unless signed out everywhere since."""
    with reading() as session:
        user = session.get(User, user_id) if isinstance(user_id, int) else None
    if user and user.role == "admin" and user.session_version == session_version:
        return user
    return None


def note(actor: str, action: str, subject: str = "", detail: str = "") -> None:
    """Write an admin's act into the audit log."""
    with atomic() as session:
        session.add(AuditEntry(actor=actor, action=action, subject=subject, detail=detail))


def _name(token: str) -> str:
    return _PREFIX + hashlib.sha256(token.encode()).hexdigest()[:40]
