"""What all pages share: who is asking, in which currency, filters, headers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from flask import (
    Flask,
    Response,
    current_app,
    g,
    has_request_context,
    redirect,
    request,
    session,
    url_for,
)
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from domain.clock import now
from domain.errors import Forbidden, NotFound, StripeError
from domain.words import Words
from extensions import babel
from models import Order, User
from services import auth, cart, language, links, orders, sign_in
from services.catalogue import CURRENCIES
from services.checkout import PayPage
from services.shop import IDENTITY

SEAT = "admin_session"  # of the cookie: what says who is signed in at the counter
SIGNED_IN = "signed_in"  # of the cookie: what says whose orders a shopper sees
LINKS_REMEMBERED = 10  # they live in the cookie, and browsers drop one of more than 4 KB


def shopper() -> str:
    """The id of whoever is asking; a new one is put into the signed cookie."""
    if "shopper" not in session:
        session["shopper"] = str(uuid.uuid4())
        session.permanent = True
    return str(session["shopper"])


def known_shopper() -> str | None:
    """The id if there is one; looking around needs no cookie."""
    value = session.get("shopper")
    return str(value) if value else None


def signed_in_as() -> str | None:
    """The e-mail address that this shopper has confirmed, in lower case, or None."""
    return sign_in.whose(session.get(SIGNED_IN))


def admin() -> User | None:
    """Whoever of the shop is signed in and asking, or None; what they may do says their role."""
    found = auth.whose(session.get(SEAT))
    if found is None:
        return None
    user, g.admin_session = found
    return user


def currency() -> str:
    """The currency this visitor sees prices in."""
    chosen = session.get("currency")
    return chosen if chosen in CURRENCIES else CURRENCIES[0]


def spoken() -> str:
    """The locale of this request: what the visitor has chosen, else what their browser asks for.
    At the counter and in the workshop English is spoken."""
    if not has_request_context() or request.path.startswith(("/admin", "/dev/")):
        return language.locale_of(language.ENGLISH)
    chosen = session.get("language") or request.accept_languages.best_match(language.LANGUAGES)
    return language.locale_of(chosen)


def owned(order_id: str | None) -> orders.Dossier:
    """A checkout for its owner. Raises NotFound, for a stranger's just as for one that is not; who
    holds a link of ours is told why it opens nothing."""
    case = orders.dossier(order_id)
    if case and may_see(case):
        return case
    token = _token(order_id) if order_id else None
    raise links.why_not(token, str(order_id)) if token else missing()


def may_see(case: orders.Dossier) -> bool:
    """Whether the visitor owns this checkout: by session, by its e-mail address if they have
    confirmed it, or by a signed link.

    A link that was opened once is remembered in the session, so that the page's own requests need
    not carry it; revoking it (raising ``link_version``) ends that too.
    """
    if known_shopper() == case.attempt.shopper_id:
        return True
    if case.email and signed_in_as() == case.email.lower():
        return True
    token = _token(case.attempt.id)
    if case.order is None or not links.opens(token, case.order):
        return False
    opened = session.get("links", {})
    if not bearer() and opened.get(case.order.id) != token:
        newest = [*opened.items(), (case.order.id, token)][-LINKS_REMEMBERED:]
        session["links"] = dict(newest)
    return True


def _token(order_id: str) -> str | None:
    """What the visitor shows for this order: in the address, in the header, or opened before."""
    shown = request.args.get("token") or bearer() or session.get("links", {}).get(order_id)
    return str(shown) if shown else None


def bearer() -> str | None:
    """The order token that came in the header, whether or not it opens anything."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value or None if scheme == "Bearer" else None


def is_fragment() -> bool:
    """Whether htmx asks for a part of the page."""
    return bool(request.htmx)  # type: ignore[attr-defined]


def to_payment(page: PayPage) -> WerkzeugResponse:
    """Send the browser to where it can pay: Stripe's page, or ours with Stripe's fields in it."""
    if page.url:
        return redirect(_pay_url(page.url), code=303)
    return redirect(url_for("checkout.pay", attempt_id=page.attempt_id), code=303)


def own_pay_url(page: PayPage) -> str:
    """The whole address of our own page, for a program."""
    origin: str = current_app.extensions["settings"].public_origin
    return origin + url_for("checkout.pay", attempt_id=page.attempt_id)


def _pay_url(url: str) -> str:
    """The payment page's address, if it is Stripe's (or the configured stand-in's)."""
    if urlsplit(url)._replace(path="", query="", fragment="").geturl() in _pay_origins():
        return url
    raise StripeError(
        Words("The payment page has an unexpected address, so we did not send you there.")
    )


def _pay_origins() -> list[str]:
    base = current_app.extensions["settings"].stripe_api_base
    return [base.rstrip("/")] if base else ["https://checkout.stripe.com"]


def dress(app: Flask) -> None:
    """Filters, what every template may use, and the headers of every answer."""
    settings = app.extensions["settings"]
    babel.domain_instance = language.Catalogues()
    babel.init_app(app, locale_selector=spoken)
    app.jinja_env.filters.update(
        money=language.money,
        clock=language.clock,
        day=language.day,
        when=language.when,
        iso=lambda moment: moment.isoformat(timespec="seconds"),
        every=language.every,
        free_time=language.free_time,
        said=language.said,
        kept=language.kept,
    )
    app.jinja_env.globals.update(
        shop=IDENTITY,
        currencies=CURRENCIES,
        languages=language.LANGUAGES,
        spoken=language.spoken,
        env_badge=None if settings.livemode else "Sandbox",
        is_fragment=is_fragment,
        here=here,
    )

    @app.context_processor
    def _visitor() -> dict[str, Any]:
        if not has_request_context():  # a mail is written by a worker
            return {}
        return {"basket_count": _basket_count(), "currency": currency()}

    with app.app_context():
        csp = policy()

    @app.before_request
    def _fit_to_be_read() -> None:
        """Unsafe requests come from our own pages, and nothing holds NUL: PostgreSQL knows no such
        text. Webhooks are signed; they may come from anywhere, and their bytes stay as they are."""
        if request.blueprint == "webhooks":
            return
        if any("\0" in text for text in (request.path, *request.values.values())):
            raise BadRequest
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        origin = request.headers.get("Origin", "null")
        if origin != "null" and origin.partition("://")[2] != request.host:
            raise Forbidden(Words("This form was sent from another site, so nothing was done."))

    @app.before_request
    def _asked_for_in_a_language() -> None:
        """The addresses that search engines know name their language; it is kept from then on."""
        if request.args.get("lang") in language.LANGUAGES and request.blueprint == "storefront":
            session["language"] = request.args["lang"]

    @app.after_request
    def _headers(response: Response) -> Response:
        headers = response.headers
        if request.endpoint == "static":
            return response
        headers.setdefault("Content-Security-Policy", csp)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Referrer-Policy", "strict-origin-when-cross-origin")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if settings.public_origin.startswith("https://"):
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        response.vary.update(("Cookie", "HX-Request", "Accept-Language"))
        is_shelf = request.blueprint == "storefront"
        headers.setdefault("Cache-Control", "private, no-cache" if is_shelf else "no-store")
        if not is_shelf and request.blueprint != "cart":  # their addresses may open an order
            headers["Referrer-Policy"] = "no-referrer"
        return response


def policy(*, fields: bool = False) -> str:
    """The content security policy of a page; ``fields`` adds what Stripe's own script needs
    (docs.stripe.com/security/guide, "Content Security Policy"), for the page that loads it."""
    theirs = " ".join(("", *_field_origins())) if fields else ""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self'{theirs}",
            f"frame-src{theirs}" if fields else "frame-src 'none'",
            "style-src 'self'",
            f"img-src 'self' data:{theirs}",
            f"connect-src 'self'{theirs}",
            "font-src 'self'",
            # A form that ends at the payment page is redirected there: both must be allowed.
            f"form-action 'self' {' '.join(_pay_origins())}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _field_origins() -> tuple[str, ...]:
    base = current_app.extensions["settings"].stripe_api_base
    if base:
        return (base.rstrip("/"),)
    return (
        "https://js.stripe.com",
        "https://*.js.stripe.com",
        "https://hooks.stripe.com",
        "https://api.stripe.com",
    )


def fields_script() -> str:
    """Where the script with Stripe's fields comes from: always Stripe itself, or its stand-in."""
    base = current_app.extensions["settings"].stripe_api_base
    return (
        f"{base.rstrip('/')}/js/elements.js" if base else "https://js.stripe.com/endive/stripe.js"
    )


def here(code: str | None) -> str:
    """The whole address of this page in a language; None for whichever the visitor prefers."""
    origin: str = current_app.extensions["settings"].public_origin
    kept = {name: request.args[name] for name in ("category",) if request.args.get(name)}
    parts: dict[str, Any] = {
        **(request.view_args or {}),
        **kept,
        **({"lang": code} if code else {}),
    }
    return origin + url_for(request.endpoint or "storefront.catalogue", **parts)


def _basket_count() -> int:
    if "basket_count" not in g:
        try:
            g.basket_count = cart.count(known_shopper())
        except SQLAlchemyError:  # an error page must not need what is down
            g.basket_count = 0
    return int(g.basket_count)


def instant(text: str | None) -> tuple[datetime, str] | None:
    """A keyset cursor ``<seconds since 1970>_<id>`` from a link, or None if it is malformed."""
    if not text:
        return None
    stamp, _, last_id = text.partition("_")
    try:
        return datetime.fromtimestamp(float(stamp), UTC), last_id
    except (ValueError, OverflowError, OSError):
        return None


def waiting_since() -> datetime | None:
    """When the page that asks was opened, if it says so; a page with a live line does."""
    text = request.args.get("since", "")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return None
    return min(now(), datetime.fromtimestamp(int(text), UTC))


def cursor(order: Order) -> str:
    """The keyset cursor that continues after ``order``."""
    return f"{order.created_at.timestamp():.6f}_{order.id}"


def missing(what: str = "order") -> NotFound:
    """The answer for what is not there and for what is somebody else's: the same."""
    if what == "order":
        return NotFound(
            Words("There is no such order. Check the link, or find your order by e-mail.")
        )
    return NotFound(f"There is no such {what}. Check the link, or find your order by e-mail.")
