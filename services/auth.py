"""Who comes in at the counter: by a one-time link, or by password and code. No default password."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from domain.clock import now
from domain.errors import Forbidden, ShopError
from domain.roles import ADMIN, NOBODY, ROLES
from extensions import atomic, reading
from models import AdminSession, AuditEntry, Setting, User
from services import passwords, totp

log = structlog.get_logger()

LINK_LIVES = timedelta(hours=24)
IDLE = timedelta(hours=12)  # a working day; who is away for longer signs in again
LONGEST = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=5)  # so that looking at a page writes to the database rarely
KEPT = timedelta(days=30)  # sessions that are over
MOST_MISSES = 10  # wrong codes in a row, each with the right password or link: somebody guesses
_PREFIX = "admin-link:"


class SignInFailed(ShopError):
    """One message for every reason, so that nobody learns which addresses are known."""

    code = "sign_in_failed"
    http_status = 403
    headline = "That did not match"

    def __init__(self) -> None:
        super().__init__("That did not match. Check the address, the password and the code.")


class LinkSpent(Forbidden):
    code = "link_spent"

    def __init__(self) -> None:
        super().__init__(
            "This link has been used or is too old. Print a new one: flask admin create EMAIL"
        )


@dataclass(frozen=True, slots=True)
class Visit:
    """Where somebody signs in from: the browser in a few words, and its network address."""

    agent: str = ""
    address: str = ""


def create_link(email: str, role: str | None = None, *, reset_totp: bool = False) -> str:
    """Let ``email`` in, as an admin unless it has or is given another role; returns a path that
    signs it in once, within a day.

    Only a hash is kept. The path asks for a click, so that a mail scanner does not use it up. Who
    has a second factor needs it here too, unless it is reset.
    """
    with atomic() as session:
        user = session.scalar(select(User).where(User.email == email).with_for_update())
        if user is None:
            user = User(email=email, role=NOBODY)
            session.add(user)
        before = user.role
        user.role = role or (before if before in ROLES else ADMIN)
        if user.role != before:
            was = before if before in ROLES else "no access"
            note_in(session, "command line", "changed a role", email, f"{was} → {user.role}")
        if reset_totp and user.totp_secret:
            forget_second_factor(user)
            note_in(session, "command line", "reset the second factor", email)
        return add_link(session, email)


def add_link(session: Session, email: str) -> str:
    """A fresh link for somebody, in the open transaction; links that are too old go."""
    old = Setting.name.startswith(_PREFIX) & (Setting.until < now())
    session.execute(delete(Setting).where(old))
    token = secrets.token_urlsafe(24)
    session.add(Setting(name=_name(token), value=email, until=now() + LINK_LIVES))
    return f"/admin/login?token={token}"


def wants_code(token: str) -> bool:
    """Whether whoever this link lets in has a second factor to show."""
    with reading() as session:
        link = session.get(Setting, _name(token))
        user = session.scalar(select(User).where(User.email == link.value)) if link else None
        return user is not None and user.totp_secret is not None


def enter_by_link(token: str, code: str, visit: Visit) -> str:
    """Sign in with a link, once; returns what the browser has to keep. Raises LinkSpent,
    SignInFailed for a code that does not fit, which leaves the link as it is."""
    with atomic() as session:
        link = session.scalar(select(Setting).where(Setting.name == _name(token)).with_for_update())
        if link is None or link.until is None or link.until < now():
            raise LinkSpent
        user = session.scalars(select(User).where(User.email == link.value).with_for_update()).one()
        if user.role not in ROLES:
            raise LinkSpent
        if _shows_second_factor(user, code):
            session.delete(link)
            return _open(session, user, "link", visit)
        _note_failure(session, user, "link, wrong code", visit)
    raise SignInFailed


def enter(email: str, password: str, code: str, visit: Visit) -> str:
    """Sign in with password and, where there is one, second factor; returns what the browser has to
    keep. Raises SignInFailed, after the same work for an address that nobody has."""
    with reading() as session:
        user = session.scalar(select(User).where(User.email == email.strip().lower()))
    kept = user.password_hash if user and user.role in ROLES else None
    fits = passwords.matches(password, kept)
    with atomic() as session:
        # Read anew under the lock: the password may have changed since, the code count elsewhere.
        known = session.get(User, user.id, with_for_update=True) if user else None
        if known is None or known.role not in ROLES:
            _note_failure(session, None, "unknown account", visit)
        elif not fits or known.password_hash != kept:
            _note_failure(session, known, "wrong password", visit)
        elif not _shows_second_factor(known, code):
            _note_failure(session, known, "wrong code", visit)
        else:
            return _open(session, known, "password", visit)
    raise SignInFailed


def whose(token: object) -> tuple[User, AdminSession] | None:
    """Whoever a browser is signed in as, unless the session is over or they lost their role."""
    if not isinstance(token, str) or not token:
        return None
    with reading() as session:
        found = session.get(AdminSession, _hash(token))
        user = session.get(User, found.user_id) if found else None
    if found is None or user is None or user.role not in ROLES or not is_live(found):
        return None
    if now() - found.seen_at >= SEEN_EVERY:
        with atomic() as session:
            session.execute(
                update(AdminSession)
                .where(AdminSession.id == found.id, AdminSession.ended_at.is_(None))
                .values(seen_at=now())
            )
    return user, found


def is_live(seat: AdminSession) -> bool:
    """Whether a session still lets somebody in."""
    moment = now()
    return (
        seat.ended_at is None
        and moment - seat.seen_at < IDLE
        and moment - seat.created_at < LONGEST
    )


def leave(token: object) -> None:
    """Sign this browser out; its cookie opens nothing any more, wherever a copy of it is."""
    found = whose(token)
    if found is None:
        return
    user, seat = found
    with atomic() as session:
        end_sessions(session, user.id, only=seat.id)
        note_in(session, user.email, "signed out", user.email)


def end_sessions(
    session: Session, user_id: int, *, only: str | None = None, but: str | None = None
) -> int:
    """End a person's live sessions in the open transaction: all, one, or all but one; how many."""
    mine = [AdminSession.user_id == user_id, AdminSession.ended_at.is_(None)]
    mine += [AdminSession.id == only] if only else []
    mine += [AdminSession.id != but] if but else []
    ended = session.execute(
        update(AdminSession).where(*mine).values(ended_at=now()).returning(AdminSession.id)
    )
    return len(ended.all())


def note(actor: str, action: str, subject: str = "", detail: str = "") -> None:
    """Write an admin's act into the audit log."""
    with atomic() as session:
        note_in(session, actor, action, subject, detail)


def note_in(session: Session, actor: str, action: str, subject: str = "", detail: str = "") -> None:
    """The same, in the open transaction of the act itself."""
    session.add(AuditEntry(actor=actor, action=action, subject=subject, detail=detail))


def forget_second_factor(user: User) -> None:
    """As if there had never been one."""
    user.totp_secret = user.totp_pending = user.totp_at = None
    user.totp_misses, user.recovery_codes = 0, []


def _shows_second_factor(user: User, code: str) -> bool:
    """Whether ``code`` is this person's, now; it counts once. Nothing is needed where none is set.

    After too many misses only a recovery code helps, which nobody can guess.
    """
    if user.totp_secret is None:
        return True
    if not totp.tidy(code):
        return False
    recovery = totp.recovery_hash(code)
    if recovery in user.recovery_codes:
        user.recovery_codes = [kept for kept in user.recovery_codes if kept != recovery]
        user.totp_misses = 0
        return True
    step = None
    if user.totp_misses < MOST_MISSES:
        step = totp.accepted_step(user.totp_secret, code, now(), after=user.totp_step)
    if step is None:
        user.totp_misses += 1
        return False
    user.totp_step, user.totp_misses = step, 0
    return True


def _open(session: Session, user: User, way: str, visit: Visit) -> str:
    """A new session with an id that no browser has ever seen."""
    forgotten = AdminSession.created_at < now() - KEPT
    session.execute(delete(AdminSession).where(AdminSession.user_id == user.id, forgotten))
    token = secrets.token_urlsafe(32)
    session.add(AdminSession(id=_hash(token), user_id=user.id, way=way, agent=visit.agent[:80]))
    note_in(session, user.email, "signed in", user.email, _from(f"by {way}", visit))
    return token


def _note_failure(session: Session, user: User | None, why: str, visit: Visit) -> None:
    """What was typed is not kept: people type passwords into the wrong field."""
    email = user.email if user else ""
    note_in(session, email or "unknown", "sign-in failed", email, _from(why, visit))
    log.warning("sign_in.failed", why=why, address=visit.address)


def _from(what: str, visit: Visit) -> str:
    where = " from ".join(part for part in (visit.agent, visit.address) if part)
    return f"{what}, {where}" if where else what


def _name(token: str) -> str:
    return _PREFIX + _hash(token)[:40]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
