"""How one signs in at the counter, and the page of one's own account; a part of the counter."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import g, redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.admin import bp
from domain.errors import ShopError
from extensions import limiter
from services import auth, passwords, staff, totp
from services.auth import LinkSpent, SignInFailed, Visit
from services.shop import IDENTITY
from services.staff import NotTaken

__all__ = ["bp"]  # the counter's, with the door and the account in it

Page = Response | str | tuple[str, int]

# Tries that fail: for each account ten in a quarter of an hour, whether or not it exists.
MISSES_PER_ACCOUNT = "10 per 15 minutes"
TRIES_PER_ADDRESS = "10 per minute; 100 per hour"

BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"),
            ("Safari", "Safari"))  # fmt: skip
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"),
           ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip


def _account_tried() -> str:
    """One count per account or link, under a name that tells neither."""
    tried = request.form.get("token") or request.form.get("email", "").strip().lower()
    return "door:" + hashlib.sha256(tried.encode(errors="replace")).hexdigest()


def _own_account() -> str:
    return f"account:{g.admin.id}"


def _missed(response: Response) -> bool:
    return response.status_code in (403, 422)


@bp.get("/login")
def login() -> str:
    return _door(token=request.args.get("token", "")[:100])


@bp.post("/login")
@limiter.limit(TRIES_PER_ADDRESS)
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_account_tried, deduct_when=_missed)
def sign_in() -> Page:
    form = request.form
    try:
        if "email" in form:
            secret = form.get("password", "")
            seat = auth.enter(form["email"][:254], secret, form.get("code", ""), _visit())
        else:
            seat = auth.enter_by_link(form.get("token", ""), form.get("code", ""), _visit())
    except LinkSpent as error:
        return _door(problem=error.message), error.http_status
    except SignInFailed as error:
        page = _door(problem=error.message, token=form.get("token", "")[:100])
        return page, error.http_status
    _start_session(seat)
    return redirect(url_for(".orders"), code=303)


@bp.post("/logout")
def logout() -> Response:
    auth.leave(session.pop(web.SEAT, None))
    return redirect(url_for(".login"), code=303)


@bp.get("/account")
def account() -> Page:
    return _account(said=session.pop("account_said", None))


@bp.post("/account/password")
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_own_account, deduct_when=_missed)
def set_password() -> Page:
    new = request.form.get("new", "")
    try:
        staff.set_password(g.admin, g.admin_session, present=_present(), new=new)
    except NotTaken as error:
        return _account(problem=error, about="password"), error.http_status
    return _done("Your password is set. Other places where you were signed in are signed out.")


@bp.post("/account/second-factor")
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_own_account, deduct_when=_missed)
def begin_second_factor() -> Page:
    try:
        staff.begin_second_factor(g.admin, g.admin_session, present=_present())
    except ShopError as error:
        return _account(problem=error, about="factor"), error.http_status
    return redirect(url_for(".account", _anchor="factor"), code=303)


@bp.post("/account/second-factor/codes")
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_own_account, deduct_when=_missed)
def finish_second_factor() -> Page:
    """The recovery codes are on the answer itself: they are shown once, and kept nowhere."""
    try:
        code = request.form.get("code", "")
        codes = staff.finish_second_factor(g.admin, g.admin_session, code)
    except ShopError as error:
        return _account(problem=error, about="factor"), error.http_status
    return _account(
        said="The second factor is set. From now on signing in takes a code.", codes=codes
    )


@bp.post("/account/second-factor/removal")
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_own_account, deduct_when=_missed)
def remove_second_factor() -> Page:
    try:
        staff.remove_second_factor(g.admin, g.admin_session, present=_present())
    except ShopError as error:
        return _account(problem=error, about="factor"), error.http_status
    return _done("There is no second factor now. The password alone signs you in.")


@bp.post("/account/recovery-codes")
@limiter.limit(MISSES_PER_ACCOUNT, key_func=_own_account, deduct_when=_missed)
def renew_recovery_codes() -> Page:
    try:
        codes = staff.renew_recovery_codes(g.admin, g.admin_session, present=_present())
    except ShopError as error:
        return _account(problem=error, about="factor"), error.http_status
    return _account(said="Ten new recovery codes. The old ones open nothing any more.", codes=codes)


@bp.post("/account/signouts")
def sign_out() -> Page:
    """One of one's own sessions, or without a name all of them."""
    only = request.form.get("session", "")[:64] or None
    staff.sign_out(g.admin, only=only)
    if only in (None, g.admin_session.id):
        session.pop(web.SEAT, None)
        return redirect(url_for(".login"), code=303)
    return _done("Signed out there.")


def _start_session(seat: str) -> None:
    """A new session, so that none that was planted before can be used; the basket stays."""
    auth.leave(session.get(web.SEAT))
    shopper = session.get("shopper")
    session.clear()
    if shopper:
        session["shopper"] = shopper
    session[web.SEAT], session["just_in"] = seat, True


def _visit() -> Visit:
    return Visit(_browser(request.user_agent.string), request.remote_addr or "")


def _browser(agent: str) -> str:
    """A user agent in three words."""
    browser = next((name for mark, name in BROWSERS if mark in agent), "Another program")
    system = next((name for mark, name in SYSTEMS if mark in agent), None)
    return f"{browser} on {system}" if system else browser


def _present() -> str:
    return request.form.get("present", "")


def _done(said: str) -> Response:
    session["account_said"] = said
    return redirect(url_for(".account"), code=303)


def _door(*, token: str = "", problem: str | None = None) -> str:
    return render_template(
        "admin/login.html",
        token=token,
        wants_code=bool(token) and auth.wants_code(token),
        problem=problem,
        email=request.form.get("email", "")[:254],
    )


def _account(
    *,
    said: str | None = None,
    problem: ShopError | None = None,
    about: str = "",
    codes: list[str] | None = None,
) -> str:
    user, seat = g.admin, g.admin_session
    pending = user.totp_pending if user.totp_secret is None else None
    address = totp.otpauth(pending, user.email, IDENTITY.name) if pending else None
    return render_template(
        "admin/account.html",
        needs_password=staff.needs_password(user, seat),
        shortest=passwords.SHORTEST,
        longest=passwords.LONGEST,
        secret=totp.grouped(pending) if pending else None,
        otpauth=address,
        picture=Markup(totp.picture(address)) if address else None,  # noqa: S704 - squares only
        codes=codes,
        codes_left=len(user.recovery_codes),
        sessions=[_seat(one, seat.id) for one in staff.sessions_of(user.id)],
        problem=problem,
        field=getattr(problem, "field", None),
        about=about,
        said=said,
    )


def _seat(one: Any, mine: str) -> dict[str, Any]:
    return {
        "id": one.id,
        "agent": one.agent or "Unknown browser",
        "way": one.way,
        "since": one.created_at,
        "seen": one.seen_at,
        "is_this": one.id == mine,
    }
