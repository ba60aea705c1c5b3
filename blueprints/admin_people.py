"""Who of the shop may what; a part of the counter, for admins."""

from __future__ import annotations

from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import roles
from blueprints.admin import bp
from domain.errors import ShopError
from domain.roles import NOBODY, ROLES
from models import AuditEntry
from services import staff
from services.staff import NotTaken

__all__ = ["bp"]  # the counter's, with the people in it

Page = Response | str | tuple[str, int]


@bp.get("/people")
def people() -> Page:
    return _render(said=session.pop("people_said", None))


@bp.post("/people")
def invite() -> Page:
    """The link is on the answer itself: it is shown once, and only its hash is kept."""
    email, role = request.form.get("email", "")[:254], request.form.get("role", "")
    try:
        link = staff.invite(g.admin, email, role)
    except NotTaken as error:
        return _render(problem=error), error.http_status
    return _render(link=_whole(link), invited=email.strip().lower())


@bp.post("/people/links")
def new_link() -> Page:
    try:
        email, link = staff.new_link(g.admin, _person())
    except ShopError as error:
        return _render(problem=error), error.http_status
    return _render(link=_whole(link), invited=email)


@bp.post("/people/roles")
def change_role() -> Page:
    try:
        user = staff.change_role(g.admin, _person(), request.form.get("role", ""))
    except ShopError as error:
        return _render(problem=error), error.http_status
    if user.id == g.admin.id and not roles.may(user.role, "admin.people"):
        return redirect(url_for(".start"), code=303)  # this page is closed to oneself from now on
    gone = user.role == NOBODY
    return _done(
        f"{user.email} has no access any more." if gone else f"{user.email} is {user.role} now."
    )


@bp.post("/people/signouts")
def end_sessions() -> Page:
    try:
        ended = staff.end_sessions_of(g.admin, _person())
    except ShopError as error:
        return _render(problem=error), error.http_status
    return _done("Signed out of one place." if ended == 1 else f"Signed out of {ended} places.")


def _done(said: str) -> Response:
    session["people_said"] = said
    return redirect(url_for(".people"), code=303)


def _person() -> int:
    text = request.form.get("person", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0


def _whole(path: str) -> str:
    origin: str = current_app.extensions["settings"].public_origin
    return origin + path


def _render(
    *,
    said: str | None = None,
    problem: ShopError | None = None,
    link: str | None = None,
    invited: str = "",
) -> str:
    asked = request.form if isinstance(problem, NotTaken) else {}
    return render_template(
        "admin/people.html",
        people=staff.colleagues(),
        roles=ROLES,  # name: what it may
        nobody=NOBODY,
        acts=[_act(entry) for entry in staff.newest_acts()],
        said=said,
        problem=problem,
        field=getattr(problem, "field", None),
        typed={"email": asked.get("email", "")[:254], "role": asked.get("role", "")},
        link=link,
        invited=invited,
    )


def _act(entry: AuditEntry) -> dict[str, Any]:
    about = entry.subject if entry.subject != entry.actor else ""
    return {
        "at": entry.at,
        "initials": entry.actor[:2].upper(),
        "actor": entry.actor,
        "what": entry.action.capitalize() + (f": {about}" if about else ""),
        "detail": entry.detail,
        "is_failure": entry.action == "sign-in failed",
    }
