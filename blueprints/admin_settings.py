"""The page of what an admin can change at run time; a part of the counter, under its rules."""

from __future__ import annotations

from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.admin import bp
from blueprints.admin_health import percent, seconds
from blueprints.forms import tidy
from domain.errors import ShopError
from domain.strategies import STRATEGIES
from services import alerts, diagnosis, settings, strategy_figures
from services.addresses import mail_address
from services.settings import Choices, NotAChoice, Overtaken
from services.strategy_figures import Side

__all__ = ["bp"]  # the counter's, with the settings in it

Page = Response | str | tuple[str, int]

ON_OFF = {"on": True, "off": False}
NOBODY = ""  # of the form, where the rollout goes to no strategy

FLAGS = {
    "background_sync": (
        "Background sync",
        "Off: the clock no longer fetches missed events nor looks at open orders. For a diagnosis "
        "only; an alert stands meanwhile, and syncing by hand still works.",
    ),
    "landing_lookup": (
        "Landing-page lookup",
        "Off: Stripe is not asked when a shopper comes back from paying, so that the page waits "
        "for the webhook or the next sync.",
    ),
}
LIVE_UPDATES = {
    "poll": ("Poll", "The page that waits for a payment asks again by itself, ever more rarely."),
    "sse": ("Stream", "The server tells a waiting page at once; one without a stream polls."),
}
NAMES = {
    "order_strategy": "Strategy",
    "rollout_strategy": "Rollout to",
    "rollout_percent": "Rollout",
    "live_updates": "Live updates",
    **{flag: label for flag, (label, _) in FLAGS.items()},
}


@bp.get("/settings", endpoint="settings")
def settings_page() -> Page:
    text = request.args.get("email")
    if text is None:
        return _render(said=session.pop("settings_said", None))
    shopper = _shopper(text)
    status = 422 if "problem" in shopper else 200
    if web.is_fragment():
        return render_template("admin/_shopper.html", shopper=shopper), status
    return _render(shopper=shopper), status


@bp.post("/settings")
def change_settings() -> Page:
    """Change what the form names; a choice that it leaves out stays as it is."""
    try:
        settings.change(g.admin.email, _reason(), seen=_seen(), **_wishes())
    except NotAChoice as error:
        return _render(typed=request.form.to_dict(), problems=error.problems), error.http_status
    except Overtaken as error:
        reason = {"reason": request.form.get("reason", "")}
        return _render(typed=reason, conflict=error), error.http_status
    return _done("Saved. It counts from the next checkout on.")


@bp.post("/settings/undos")
def undo_change() -> Page:
    change_id = _whole(request.form.get("change", ""))
    if not isinstance(change_id, int):
        raise web.missing("change")
    try:
        settings.undo(g.admin.email, change_id, seen=_seen())
    except (NotAChoice, Overtaken) as error:
        return _render(conflict=error), error.http_status
    return _done("Undone. It counts from the next checkout on.")


@bp.post("/key-tests")
def test_key() -> Response:
    """One call to Stripe that changes nothing, to see whether it takes our key."""
    session["key_test"] = dict(diagnosis.stripe_answers())
    return redirect(url_for(".settings", _anchor="keys"), code=303)


def _done(said: str) -> Response:
    session["settings_said"] = said
    return redirect(url_for(".settings"), code=303)


def _wishes() -> dict[str, Any]:
    """What the form names, as values; what cannot be read stays text, and is refused as such."""
    form = request.form
    read: dict[str, Any] = {
        "order_strategy": str,
        "rollout_strategy": lambda text: None if text == NOBODY else text,
        "rollout_percent": _whole,
        **{flag: lambda text: ON_OFF.get(text, text) for flag in settings.FLAGS},
        "live_updates": str,
    }
    return {name: value(form[name].strip()) for name, value in read.items() if name in form}


def _whole(text: str) -> int | str:
    """A whole number in the digits that this page writes, or the text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else text


def _reason() -> str:
    return tidy(request.form.get("reason")) or ""


def _seen() -> int | None:
    """The last change that the page knew of when it was opened."""
    seen = _whole(request.form.get("seen", ""))
    return seen if isinstance(seen, int) else None


def _shopper(text: str) -> dict[str, str]:
    address = mail_address(text.strip())
    if address is None:
        return {"typed": text[:254], "problem": "Enter an e-mail address like name@example.com."}
    strategy, why = settings.strategy_for(address)
    return {"typed": text, "email": address, "strategy": strategy.name, "why": why}


def _render(
    *,
    typed: dict[str, str] | None = None,
    problems: dict[str, str] | None = None,
    conflict: ShopError | None = None,
    shopper: dict[str, str] | None = None,
    said: str | None = None,
) -> str:
    # Read before the choices, so that a change in between is noticed on saving. After a mistake
    # in the form, what was seen stays what was seen: the choices on it are those of then.
    seen = _seen() if problems else settings.last_change()
    choices = settings.current()
    return render_template(
        "admin/settings.html",
        seen=seen,
        now=choices,
        shown={**_as_typed(choices), **(typed or {})},
        strategies=list(STRATEGIES.values()),
        flags=FLAGS,
        live_updates=LIVE_UPDATES,
        longest_reason=settings.LONGEST_REASON,
        changes=[_change(change, choices) for change in settings.changes()],
        notes=alerts.notes(),
        sides=[_side(side) for side in strategy_figures.side_by_side()],
        keys=current_app.extensions["settings"].keys,
        key_test=session.pop("key_test", None),
        problems=problems or {},
        conflict=conflict,
        shopper=shopper or {},
        said=said,
    )


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "begun": side.begun,
        "paid": side.paid,
        "share": percent(side.paid_share),
        "failing": side.failing,
        "p50": seconds(side.p50_s),
        "p95": seconds(side.p95_s),
    }


def _as_typed(choices: Choices) -> dict[str, str]:
    """The choices as the form would send them."""
    return {
        "order_strategy": choices.order_strategy,
        "rollout_strategy": choices.rollout_strategy or NOBODY,
        "rollout_percent": str(choices.rollout_percent),
        **{flag: "on" if getattr(choices, flag) else "off" for flag in settings.FLAGS},
        "live_updates": choices.live_updates,
        "reason": "",
    }


def _change(change: settings.Change, choices: Choices) -> dict[str, Any]:
    return {
        "id": change.id,
        "at": change.at,
        "actor": change.actor,
        "initials": change.actor[:2].upper(),
        "reason": change.reason,
        "steps": [
            (NAMES.get(name, name), _in_words(name, old), _in_words(name, new))
            for name, (old, new) in change.steps.items()
        ],
        "can_be_undone": change.can_be_undone(choices),
    }


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "nobody"
    return f"{value} %" if name == "rollout_percent" else str(value).replace("_", "-")
