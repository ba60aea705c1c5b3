"""The switchboard under /_sandbox: a page for people, the same as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response
from werkzeug.utils import redirect

from . import pages
from .chaos import API_FAULTS, Chaos

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

RECENT = 25

PERCENTAGES = {
    "drop_pct": "Webhooks are lost. Nobody tries them again; the event list still has them.",
    "wrong_secret_pct": "Webhooks are signed with a secret that is not the shop’s.",
    "stale_signature_pct": "Webhooks carry a signature that is an hour old.",
}
SECONDS = {"delay_s": "Webhooks set out this many seconds late."}
COUNTS = {"duplicate": "Each webhook is sent this many extra times."}
TICKS = {
    "reorder": "Webhooks that are due together go out in another order.",
    "old_api_version": "Events say that they were rendered in an API version of 2024.",
    "intent_born_late": "A session names its payment only once it is complete.",
    "events_before_answer": "Webhooks arrive before the call that caused them is answered.",
}
FAULTS = {
    "error_500": "Calls fail with 500 before anything is done; trying again works.",
    "stored_500": "Calls fail with 500, and the same key gets the same 500 for a day.",
    "effect_then_cut": "Calls do their work, then the connection dies without an answer.",
    "rate_429": "Calls are turned away: too many at once.",
    "conflict_409": "Calls are turned away: somebody else holds the object.",
    "hang": "Calls do their work, then say nothing for the seconds below.",
}
FILES = {"pay.css": "text/css", "panel.js": "text/javascript"}
AFTER_RETRIES = {"cancel": "it is canceled", "unpaid": "it is unpaid", "past_due": "it stays"}


def serve(box: Sandbox, environ: dict[str, Any]) -> Response:
    request = Request(environ)
    name = request.path.removeprefix("/_sandbox").strip("/")
    if not request.path.startswith("/_sandbox"):
        return redirect("/_sandbox/", 303) if request.path == "/" else _missing()
    if name == "":
        return _page(box)
    if name in FILES:
        content = (pages.HERE / "static" / name).read_bytes()
        return Response(content, mimetype=FILES[name], headers={"Cache-Control": "max-age=60"})
    action = ACTIONS.get((request.method, name))
    if action is None:
        return _missing()
    by_form = request.mimetype == "application/x-www-form-urlencoded"
    try:
        asked = _read_form(name, request.form) if by_form else request.get_json(silent=True) or {}
        told = action(box, asked)
    except (KeyError, TypeError, ValueError) as error:
        return _json({"error": str(error)}, 400)
    return redirect("/_sandbox/", 303) if by_form else _json(told)


def _json(told: Any, status: int = 200) -> Response:
    return Response(json.dumps(told, indent=1, default=str), status, mimetype="application/json")


def _missing() -> Response:
    return _json({"error": "There is nothing at this address."}, 404)


def _read_form(name: str, form: Any) -> Obj:
    """The page sends every switch; a tick that is not there is off."""
    if name != "chaos":
        return dict(form)
    if "clear" in form:  # beside all the switches, as they stand in their form
        return {"clear": True}
    asked: Obj = {tick: tick in form for tick in TICKS}
    for key, value in form.items():
        fault, _, part = key.partition(".")
        if fault in API_FAULTS:
            number = float(value or 0) if part == "pct" else int(value or 0)
            asked.setdefault(fault, {})[part] = number
        else:
            asked[key] = value
    return asked


def _set_chaos(box: Sandbox, asked: Obj) -> Obj:
    with box.lock:
        if asked.pop("clear", False):
            box.chaos.clear()
        box.chaos.update(asked)
        return box.chaos.as_dict()


def _clock(box: Sandbox, asked: Obj) -> Obj:
    box.advance(float(asked.get("advance_s", 0)))
    return {"now": box.now(), "ahead_s": box.now() - box.clock()}


def _pay(box: Sandbox, asked: Obj) -> Obj:
    card = asked.get("card", "4242424242424242")
    about = asked.get("session") or asked["invoice"]
    told = box.pay(about, card, webhooks=asked.get("webhooks", ""))
    box.deliver_before_answer()
    return told


def _confirm(box: Sandbox, asked: Obj) -> Obj:
    card = asked.get("card", "4242424242424242")
    told = box.confirm(asked["intent"], card, webhooks=asked.get("webhooks", ""))
    box.deliver_before_answer()
    return told


def _authenticate(box: Sandbox, asked: Obj) -> Obj:
    about = asked.get("session") or asked.get("invoice") or asked["intent"]
    told = box.authenticate(about, ok=bool(asked.get("ok", True)))
    box.deliver_before_answer()
    return told


def _reset(box: Sandbox, asked: Obj) -> Obj:
    box.reset()
    return {}


def _deliveries(box: Sandbox, asked: Obj | None = None) -> list[Obj]:
    objects = box.store.objects
    with box.lock:
        return [
            {
                **{k: d[k] for k in ("id", "event", "endpoint", "at", "state", "tries", "status")},
                "type": objects["event"][d["event"]]["type"],
            }
            for d in objects["delivery"].values()
        ]


def _chaos(box: Sandbox, asked: Obj) -> Obj:
    return box.chaos.as_dict()


ACTIONS: dict[tuple[str, str], Callable[[Sandbox, Obj], Any]] = {
    ("GET", "chaos"): _chaos,
    ("POST", "chaos"): _set_chaos,
    ("GET", "requests"): lambda box, asked: list(box.requests),
    ("GET", "ledger"): lambda box, asked: box.ledger(),
    ("GET", "clock"): _clock,
    ("POST", "clock"): _clock,
    ("POST", "pay"): _pay,
    ("POST", "confirm"): _confirm,
    ("POST", "authenticate"): _authenticate,
    ("GET", "deliveries"): _deliveries,
    ("POST", "flush"): lambda box, asked: {"tried": box.flush()},
    ("POST", "reset"): _reset,
}


def ahead(chaos: Chaos) -> list[str]:
    """What is about to happen, a sentence for each switch that is on."""
    said = [
        *(
            (pct, f"{says}: {_of_them(pct)}.")
            for pct, says in (
                (chaos.drop_pct, "Webhooks are lost on the way, and the shop has to ask"),
                (chaos.wrong_secret_pct, "Webhooks are forged"),
                (chaos.stale_signature_pct, "Webhooks are an hour stale"),
            )
        ),
        (chaos.delay_s, f"Each webhook sets out {chaos.delay_s:g} s late."),
        (chaos.duplicate, f"Each webhook arrives {chaos.duplicate + 1} times."),
        (chaos.reorder, "Webhooks that are due together arrive in another order."),
        (chaos.old_api_version, "Events come in the shapes of an old API version."),
        (chaos.intent_born_late, "A session names its payment only once it is complete."),
        (chaos.events_before_answer, "Webhooks overtake the answers to the calls they are about."),
        (chaos.outage == "503", "Every API call is answered 503."),
        (chaos.outage == "refused", "Nobody answers an API call: the line is dead."),
        (chaos.decline_renewals, f"The bank declines {chaos.decline_renewals} renewals to come."),
    ]
    for name in API_FAULTS:
        fault = getattr(chaos, name)
        which = fault.only or chaos.only
        does = FAULTS[name].removeprefix("Calls ").rstrip(".")
        does = does.replace("the seconds below", f"{chaos.hang_s:g} s")
        calls = f"Calls like {which} {does}" if which else f"API calls {does}"
        said += [
            (fault.next, f"{calls}: the next {fault.next}."),
            (fault.pct, f"{calls}: {_of_them(fault.pct)}."),
        ]
    return [sentence for is_on, sentence in said if is_on]


def _of_them(pct: float) -> str:
    return "every one" if pct >= 100 else f"{pct:g} % of them"


def _page(box: Sandbox) -> Response:
    now = box.now()
    with box.lock:
        tried: dict[str, list[str]] = {}
        for delivery in reversed(box.store.objects["delivery"].values()):
            tried.setdefault(delivery["event"], []).insert(0, _told_by(delivery, now))
            if len(tried) > RECENT * 2:
                break
        events = [
            {
                "type": event["type"],
                "about": short(event["about"]),
                "at": _hour(event["created"]),
                "deliveries": tried.get(event["id"], ["nobody listens"]),
            }
            for _, event in zip(
                range(RECENT), reversed(box.store.objects["event"].values()), strict=False
            )
        ]
        requests = [
            {**r, "at": _hour(r["at"]), "path": "/".join(map(short, r["path"].split("/")))}
            for r in list(box.requests)[: -RECENT - 1 : -1]
        ]
    return pages.render(
        "panel.html",
        chaos=box.chaos,
        percentages=PERCENTAGES,
        seconds=SECONDS,
        counts=COUNTS,
        ticks=TICKS,
        faults=FAULTS,
        after_retries=AFTER_RETRIES,
        retry_days=" + ".join(map(str, box.retry_days)),
        events=events,
        requests=requests,
        clock=datetime.fromtimestamp(now, UTC).strftime("%-d %B %Y, %H:%M:%S UTC"),
        ahead=ahead(box.chaos),
        scripts=True,
    )


def short(id: str) -> str:
    """An id as people compare them, by its first and last characters."""
    return f"{id[:12]}…{id[-4:]}" if len(id) > 20 else id


def _hour(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _told_by(delivery: Obj, now: float) -> str:
    tries = f"{delivery['tries']} {'try' if delivery['tries'] == 1 else 'tries'}"
    answer = delivery["status"] or "no answer"
    state = delivery["state"]
    if state == "delivered":
        return f"{answer}, {tries}"
    if state == "dropped":
        return "lost on the way"
    if state == "given_up":
        return f"{answer}, given up after {tries}"
    wait = max(0, round(delivery["at"] - now))
    before = f"{answer} after {tries}, " if delivery["tries"] else ""
    return f"{before}next in {wait} s" if wait else f"{before}due now"
