"""The people of the shop: what each may, and what each sets for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from domain.roles import ADMIN, NOBODY, ROLES
from extensions import atomic, reading
from models import AdminSession, AuditEntry, User
from services import auth, passwords, totp
from services.addresses import mail_address

FRESH = timedelta(hours=1)  # so long after a link nobody is asked for a password they may not know
NEWEST = 12  # acts that the people page shows
ACTS = (
    "signed in", "signed out", "sign-in failed", "signed out elsewhere", "changed the password",
    "set a second factor", "removed the second factor", "reset the second factor",
    "made recovery codes", "invited", "made a link", "changed a role",
)  # fmt: skip


class NotTaken(ShopError):
    """``field`` is the one to look at again."""

    code = "not_taken"
    http_status = 422
    headline = "Please look again"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class LastAdmin(Conflict):
    code = "last_admin"
    headline = "Somebody has to be admin"

    def __init__(self) -> None:
        super().__init__(
            "This is the last admin, so the role stays. Make somebody else an admin first."
        )


@dataclass(frozen=True, slots=True)
class Colleague:
    """``seen_at`` is when one of their sessions was last used; ``live`` how many are open."""

    id: int
    email: str
    role: str
    has_password: bool
    has_second_factor: bool
    is_locked: bool
    live: int
    seen_at: datetime | None


def needs_password(user: User, seat: AdminSession) -> bool:
    """Whether this session has to show the password before it changes how its person signs in.

    Who has just come in by a link has shown more than that, and may have forgotten it.
    """
    if user.password_hash is None:
        return False
    return seat.way != "link" or now() - seat.created_at > FRESH


def set_password(user: User, seat: AdminSession, *, present: str, new: str) -> None:
    """Also ends every other session. Raises NotTaken."""
    _confirm(user, seat, present)
    wrong = passwords.problem(new, user.email)
    if wrong:
        raise NotTaken("new", wrong)
    hashed = passwords.hashed(new)
    with atomic() as session:
        mine = _locked(session, user.id)
        mine.password_hash, mine.password_at = hashed, now()
        auth.end_sessions(session, user.id, but=seat.id)
        auth.note_in(session, user.email, "changed the password", user.email)


def begin_second_factor(user: User, seat: AdminSession, *, present: str) -> None:
    """Make a secret; it counts once a code made from it was typed. Raises NotTaken, Conflict."""
    if user.password_hash is None:
        raise Conflict("Set a password first: the second factor comes on top of it.")
    _confirm(user, seat, present)
    with atomic() as session:
        mine = _locked(session, user.id)
        if mine.totp_secret:
            raise Conflict("A second factor is set already. Remove it first.")
        mine.totp_pending = totp.new_secret()


def finish_second_factor(user: User, seat: AdminSession, code: str) -> list[str]:
    """From here on signing in takes a code. Returns the recovery codes, which nobody can read
    again. Also ends every other session. Raises NotTaken, Conflict."""
    with atomic() as session:
        mine = _locked(session, user.id)
        if mine.totp_pending is None or mine.totp_secret:
            raise Conflict("There is no second factor to be set up any more. Begin anew.")
        step = totp.accepted_step(mine.totp_pending, code, now(), after=0)
        if step is None:
            raise NotTaken(
                "code", "This is not the code that your app shows now. Is the phone’s clock right?"
            )
        mine.totp_secret, mine.totp_pending = mine.totp_pending, None
        mine.totp_at, mine.totp_step, mine.totp_misses = now(), step, 0
        codes = _new_codes(mine)
        auth.end_sessions(session, user.id, but=seat.id)
        auth.note_in(session, user.email, "set a second factor", user.email)
    return codes


def remove_second_factor(user: User, seat: AdminSession, *, present: str) -> None:
    """Back to the password alone; what was being set up goes too. Raises NotTaken."""
    _confirm(user, seat, present)
    with atomic() as session:
        mine = _locked(session, user.id)
        had_one = mine.totp_secret is not None
        auth.forget_second_factor(mine)
        if had_one:
            auth.end_sessions(session, user.id, but=seat.id)
            auth.note_in(session, user.email, "removed the second factor", user.email)


def renew_recovery_codes(user: User, seat: AdminSession, *, present: str) -> list[str]:
    """Ten new codes; the old ones open nothing any more. Raises NotTaken, Conflict."""
    _confirm(user, seat, present)
    with atomic() as session:
        mine = _locked(session, user.id)
        if mine.totp_secret is None:
            raise Conflict("Recovery codes stand for a second factor, and none is set.")
        codes = _new_codes(mine)
        auth.note_in(session, user.email, "made recovery codes", user.email)
    return codes


def sessions_of(user_id: int) -> list[AdminSession]:
    """Where a person is signed in now, the one used last first."""
    with reading() as session:
        found = session.scalars(
            select(AdminSession)
            .where(AdminSession.user_id == user_id, AdminSession.ended_at.is_(None))
            .order_by(AdminSession.seen_at.desc(), AdminSession.created_at.desc())
        )
        return [seat for seat in found if auth.is_live(seat)]


def sign_out(user: User, *, only: str | None = None) -> int:
    """End one of one's own sessions, or all of them, also this one; says how many."""
    with atomic() as session:
        ended = auth.end_sessions(session, user.id, only=only)
        if ended:
            where = "one session" if only else f"everywhere, {ended} sessions"
            auth.note_in(session, user.email, "signed out elsewhere", user.email, where)
    return ended


def colleagues() -> list[Colleague]:
    """Everybody with a role, admins first."""
    with_role = select(User).where(User.role.in_(list(ROLES)))
    with reading() as session:
        found = session.scalars(with_role.order_by(User.email)).all()
    seats = {user.id: sessions_of(user.id) for user in found}
    last = _last_seen([user.id for user in found])
    listed = [
        Colleague(
            id=user.id,
            email=user.email,
            role=user.role,
            has_password=user.password_hash is not None,
            has_second_factor=user.totp_secret is not None,
            is_locked=user.totp_misses >= auth.MOST_MISSES,
            live=len(seats[user.id]),
            seen_at=last.get(user.id),
        )
        for user in found
    ]
    ladder = list(ROLES)
    return sorted(listed, key=lambda one: -ladder.index(one.role))


def newest_acts() -> list[AuditEntry]:
    """What happened at the door, newest first."""
    with reading() as session:
        entries = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.action.in_(ACTS))
            .order_by(AuditEntry.id.desc())
            .limit(NEWEST)
        )
        return list(entries)


def invite(actor: User, email: str, role: str) -> str:
    """Give somebody a role; returns the path of the link that lets them in. Raises NotTaken."""
    address = mail_address(email.strip())
    if address is None:
        raise NotTaken("email", "Enter an e-mail address like name@example.com.")
    address = address.lower()
    _known(role)
    with atomic() as session:
        user = session.scalar(select(User).where(User.email == address).with_for_update())
        if user is None:
            user = User(email=address)
            session.add(user)
        elif user.role in ROLES:
            raise NotTaken("email", f"{address} is here already, as {user.role}.")
        user.role = role
        auth.note_in(session, actor.email, "invited", address, f"as {role}")
        return auth.add_link(session, address)


def new_link(actor: User, user_id: int) -> tuple[str, str]:
    """Another link for somebody who never set a password, with their address. For everybody else
    only the command line makes one: nobody at the counter can come in as a colleague. Raises
    Conflict, NotFound."""
    with atomic() as session:
        user = _locked(session, user_id)
        if user.role not in ROLES:
            raise _gone()
        if user.password_hash is not None:
            raise Conflict(
                f"{user.email} has a password. A new link is printed on the shop’s machine: "
                f"flask admin create {user.email}"
            )
        auth.note_in(session, actor.email, "made a link", user.email)
        return user.email, auth.add_link(session, user.email)


def change_role(actor: User, user_id: int, role: str) -> User:
    """Another role, or none (``NOBODY``), which also signs them out. Raises LastAdmin, NotFound."""
    if role != NOBODY:
        _known(role)
    with atomic() as session:
        # Every admin is locked, always in this order: of two who demote each other one comes late.
        admins = session.scalars(
            select(User).where(User.role == ADMIN).order_by(User.id).with_for_update()
        ).all()
        user = _locked(session, user_id)
        before = user.role
        if before not in ROLES:
            raise _gone()
        if before == ADMIN and role != ADMIN and len(admins) == 1:
            raise LastAdmin
        if role != before:
            user.role = role
            change = f"{before} → {'no access' if role == NOBODY else role}"
            auth.note_in(session, actor.email, "changed a role", user.email, change)
        if role == NOBODY:
            user.password_hash = user.password_at = None
            auth.forget_second_factor(user)
            auth.end_sessions(session, user.id)
    return user


def end_sessions_of(actor: User, user_id: int) -> int:
    """Sign a colleague out wherever they are; says of how many places. Raises NotFound."""
    with atomic() as session:
        user = _locked(session, user_id)
        if user.role not in ROLES:
            raise _gone()
        ended = auth.end_sessions(session, user.id)
        detail = f"everywhere, {ended} sessions"
        auth.note_in(session, actor.email, "signed out elsewhere", user.email, detail)
    return ended


def _confirm(user: User, seat: AdminSession, password: str) -> None:
    """Raises NotTaken unless this session may change how its person signs in."""
    if needs_password(user, seat) and not passwords.matches(password, user.password_hash):
        auth.note(user.email, "sign-in failed", user.email, "wrong password on the account page")
        raise NotTaken("present", "This is not your password.")


def _new_codes(user: User) -> list[str]:
    codes = totp.new_recovery_codes()
    user.recovery_codes = [totp.recovery_hash(code) for code in codes]
    return codes


def _locked(session: Session, user_id: int) -> User:
    user = session.get(User, user_id, with_for_update=True)
    if user is None:
        raise _gone()
    return user


def _known(role: str) -> None:
    if role not in ROLES:
        raise NotTaken("role", "Choose one of the roles.")


def _gone() -> NotFound:
    return NotFound("This person has no access any more. Reload the page to see who has.")


def _last_seen(user_ids: list[int]) -> dict[int, datetime]:
    seen = (
        select(AdminSession.user_id, func.max(AdminSession.seen_at))
        .where(AdminSession.user_id.in_(user_ids))
        .group_by(AdminSession.user_id)
    )
    with reading() as session:
        return dict(session.execute(seen).all())
