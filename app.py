"""The factory: settings in, wired app out."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from typing import Any

import click
import structlog
from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import blueprints
import commands
import logs
from config import Problem, Settings, SettingsError
from domain.errors import ShopError, UnverifiedEvent
from domain.words import Words
from extensions import (
    csrf,
    db,
    doorbell,
    htmx,
    in_transaction,
    limiter,
    migrate,
    tune_sqlite,
)
from gateway import StripeGateway

log = structlog.get_logger()

LARGEST_BODY = 512 * 1024  # bytes; the largest event of Stripe's that we know is under 100 KB


def create_app(settings: Settings | None = None, *, transport: Any = None) -> Flask:
    """Wire an app for ``settings``, or for the environment's.

    ``transport`` replaces the Stripe SDK's HTTP client. Settings that are missing or wrong are all
    named at once; nothing starts with them, nor with code of the adopter's that cannot be imported.
    """
    from_env = settings is None
    try:
        settings = settings or Settings.from_env(os.environ)
        catalogue = _plug_in(settings)
    except SettingsError as error:
        if not from_env:
            raise
        return _refused(error)
    app = Flask("app", root_path=os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    app.config.update(_flask_config(settings))
    app.extensions["settings"] = settings
    app.extensions["catalogue"] = catalogue
    logs.set_up(human=settings.embedded)
    _wire(app, settings, transport)
    blueprints.register(app)
    commands.register(app)
    _answer_errors(app)
    if settings.proxy_hops:
        hops = settings.proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _plug_in(settings: Settings) -> Any:
    """Import the adopter's listeners, and make their catalogue, if there is one. Raises
    SettingsError."""
    for module in settings.listeners:
        _named("LISTENERS", module)
    if settings.catalogue is None:
        return None
    module, _, name = settings.catalogue.partition(":")
    return _named("CATALOGUE", module, name)


def _named(setting: str, module: str, name: str | None = None) -> Any:
    try:
        found = importlib.import_module(module)
        return getattr(found, name)() if name else found
    except Exception as error:
        raise SettingsError(
            [
                Problem(
                    setting,
                    f"{module} cannot be used: {type(error).__name__}: {error}.",
                    "A shop that starts without it would sell or tell something else.",
                    "Mend it, see that it can be imported from where the shop starts, or leave "
                    "the setting out.",
                )
            ]
        ) from error


def _flask_config(settings: Settings) -> dict[str, Any]:
    secure = settings.public_origin.startswith("https://")
    return {
        "SECRET_KEY": settings.secret_keys[0],
        "SECRET_KEY_FALLBACKS": list(settings.secret_keys[1:]),
        "SQLALCHEMY_DATABASE_URI": settings.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": _engine_options(settings),
        "MAX_CONTENT_LENGTH": LARGEST_BODY,
        "SESSION_COOKIE_NAME": "__Host-shop" if secure else "shop",
        "SESSION_COOKIE_SECURE": secure,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "PERMANENT_SESSION_LIFETIME": timedelta(days=30),
        "TRUSTED_HOSTS": list(settings.trusted_hosts) or None,
        # Flask-WTF would want a Referer, which our own policy keeps back; web.py checks the Origin.
        "WTF_CSRF_SSL_STRICT": False,
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session, so that a form left open still works
        # Flask-WTF knows no older keys, but signs with the last of several and takes any of them.
        "WTF_CSRF_SECRET_KEY": list(reversed(settings.secret_keys)),
        "RATELIMIT_STORAGE_URI": settings.redis_url,
        "RATELIMIT_HEADERS_ENABLED": True,
        "SEND_FILE_MAX_AGE_DEFAULT": 3600,
    }


def _engine_options(settings: Settings) -> dict[str, Any]:
    if settings.database_url.startswith("sqlite"):
        return {}
    # Small database plans allow 20 connections: two web processes and a worker fit.
    # No overflow: those connections would be opened and closed with every burst of requests.
    size = settings.web_threads
    return {"pool_pre_ping": True, "pool_size": size, "max_overflow": 0, "pool_recycle": 1800}


def _wire(app: Flask, settings: Settings, transport: Any) -> None:
    db.init_app(app)
    migrate.init_app(app, db)
    csrf.init_app(app)
    htmx.init_app(app)
    limiter.init_app(app)
    doorbell.init_app(app, url=settings.redis_url, flag_ttl_s=settings.sweep_seconds)
    app.extensions["stripe_gateway"] = StripeGateway(
        secret_key=settings.stripe_secret_key,
        webhook_secrets=settings.stripe_webhook_secrets,
        api_base=settings.stripe_api_base,
        in_transaction=in_transaction,
        transport=transport,
    )
    if settings.database_url.startswith("sqlite"):
        with app.app_context():
            tune_sqlite(db.engine)


def _answer_errors(app: Flask) -> None:
    """One place where failures become pages or problem+json; no traceback ever leaves it."""

    @app.errorhandler(ShopError)
    def _shop_error(error: ShopError) -> Response:
        if isinstance(error, UnverifiedEvent):
            log.warning("webhook.refused", why=error.message)
        return _later(_answer(error.http_status, error.headline, error.message, error.code))

    @app.errorhandler(CSRFError)
    def _csrf(error: CSRFError) -> Response | tuple[str, int]:
        why = Words(
            "This page was open too long or came from elsewhere. Go back, reload it, try again."
        )
        return _answer(400, Words("This form has gone stale"), why, "csrf")

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        code = error.code or 500
        headline, what = _WORDS.get(code, (error.name, Words("Go back and try again.")))
        answer = make_response(_answer(code, headline, what, error.name.lower().replace(" ", "_")))
        allowed = getattr(error, "valid_methods", None)
        if code == 405 and allowed:
            answer.headers["Allow"] = ", ".join(sorted(allowed))
        return answer

    @app.errorhandler(OperationalError)
    @app.errorhandler(PoolTimeout)
    def _database_down(error: Exception) -> Response:
        log.error("database.unreachable", path=request.path, error=type(error).__name__)
        return _later(_answer(503, *_WORDS[503], "unavailable"))

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response | tuple[str, int]:
        log.exception("request.failed", path=request.path, method=request.method)
        return _answer(500, *_WORDS[500], "internal_error")


_WORDS = {
    400: (
        Words("We couldn't read that"),
        Words("Something about the request was not right. Go back and retry."),
    ),
    403: (
        Words("Not for this account"),
        Words("Sign in with an account that may do this."),
    ),
    404: (
        Words("We can't find that page"),
        Words("The address may be old or mistyped."),
    ),
    405: (
        Words("Not that way"),
        Words("This address does not take that kind of request."),
    ),
    413: (
        Words("That is too large"),
        Words("Send less at once."),
    ),
    415: (
        Words("We couldn't read that"),
        Words("Send JSON with the header Content-Type: application/json."),
    ),
    429: (
        Words("A little slower, please"),
        Words("Too many requests in a short time. Wait a minute."),
    ),
    500: (
        Words("Something broke on our side"),
        Words("It was noted. Nothing was charged by this page."),
    ),
    503: (
        Words("Back in a moment"),
        Words("We can't reach our database right now. Please try again."),
    ),
}


def _answer(status: int, headline: str, message: str, code: str) -> Any:
    if _asked_by_a_program():
        problem = jsonify(
            type="about:blank", title=headline, status=status, detail=message, code=code
        )
        problem.status_code = status
        problem.content_type = "application/problem+json"
        return problem
    return (
        render_template(
            "errors/error.html", code=status, problem=code, headline=headline, what=message
        ),
        status,
    )


def _later(answer: Any) -> Response:
    """The answer, which says when to come again if it is that we cannot now."""
    response = make_response(answer)
    if response.status_code == 503:
        response.headers["Retry-After"] = "5"
    return response


def _asked_by_a_program() -> bool:
    """By what was reached; by its address, where that leads nowhere."""
    if request.blueprint:
        return request.blueprint in ("api", "live", "webhooks")
    return request.path.startswith("/api/")


def _refused(error: SettingsError) -> Flask:
    """Outside the command line, stop with the whole list. On it, offer the commands that need no
    settings (`flask demo`, `--help`); any other says what is missing."""
    if click.get_current_context(silent=True) is None:
        raise SystemExit(str(error))
    app = Flask("app")
    app.extensions = _Missing(error)
    commands.register(app)
    return app


class _Missing(dict[str, Any]):
    """The extensions of an app without settings: reaching for one says what is missing."""

    def __init__(self, error: SettingsError) -> None:
        super().__init__()
        self._error = error

    def __missing__(self, name: str) -> Any:
        click.echo(str(self._error), err=True)
        raise SystemExit(2)
