"""What the shop is told from outside: read once, checked whole, frozen.

``Settings.from_env`` is production and refuses what is missing or wrong, everything at once.
``demo_environment`` invents what is missing for `flask demo`, and ``demo_settings`` reads that.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain import look
from domain.strategies import STRATEGIES

SECRET_KEY_LENGTH = 32  # 256 bits as bytes; a signature is no stronger than its key
TTL_MINUTES = (31, 1440)  # Stripe accepts 30 min to 24 h; one minute is for the way there
LONG_ENOUGH_TO_SHOW = 20  # of a secret whose last four characters tell which one it is
LONGEST_PERIOD_S = 86_400  # a longer period than a day is a unit mistaken
LONGEST_TEXT = 300  # of what is printed on an invoice
LOOPBACK = ("localhost", "127.0.0.1", "::1")
STRIPE_API = "https://api.stripe.com"
MEMORY_QUEUE = "memory://"  # Redis inside the process: embedded only
DEFAULT_PORT = 8000
LONGEST_NAME = 120  # of the shop, in characters
STATIC = Path(__file__).resolve().parent / "static"

# The part of a secret that says what it is, and nothing of what it opens.
_PUBLIC_PREFIX = re.compile(r"(?:sk|rk|pk)_(?:test|live)_|whsec_|[a-z][a-z0-9+.-]*://", re.I)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]", re.I)
_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_MAILBOX = re.compile(r"[^@\s<>,]+@[a-z0-9.-]+\.[a-z0-9-]+", re.I)


class Problem(NamedTuple):
    """One setting that cannot be used; each part is one sentence."""

    name: str
    what: str
    why: str
    fix: str


class SettingsError(Exception):
    """Every problem of the environment at once, readable as it is; holds no secret."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        names = ", ".join(dict.fromkeys(problem.name for problem in self.problems))
        blocks = (
            f"{problem.name}\n  what: {problem.what}\n  why:  {problem.why}\n  fix:  {problem.fix}"
            for problem in self.problems
        )
        return "\n\n".join((f"settings refused: {names}", *blocks))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The shop's settings. What can open something is left out of ``repr``."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)  # newest first: it signs, the others verify
    public_origin: str
    stripe_secret_key: str = field(repr=False)
    stripe_publishable_key: str
    stripe_webhook_secrets: tuple[str, ...] = field(repr=False)
    stripe_api_base: str | None
    order_strategy: str
    strategy_rollout: tuple[str, int] | None
    payment_ui: str
    live_updates: str
    checkout_ttl_minutes: int
    late_payment: str
    reconcile_seconds: int
    sweep_seconds: int
    smtp_url: str | None = field(repr=False)
    mail_from: str
    alert_mail: str | None  # who is told of alerts; None: nobody, they stand on the pages alone
    port: int
    web_concurrency: int
    trusted_hosts: tuple[str, ...]  # empty: any; our own links use public_origin anyway
    proxy_hops: int
    catalogue: str | None  # module:Class of one who lists what is for sale
    listeners: tuple[str, ...]  # modules that connect to the signals
    webhook_targets: tuple[str, ...] = field(repr=False)  # an address may hold a secret
    webhook_signing_secrets: tuple[str, ...] = field(repr=False)  # each signs, while they rotate
    tax: str  # none, or stripe: found out by Stripe Tax
    tax_behavior: str  # whether prices are inclusive or exclusive of it
    legal_name: str  # who sells, as invoices must say it
    legal_address: tuple[str, ...]  # its lines
    legal_vat_id: str
    legal_registration: str
    identity: look.Identity = field(default_factory=look.Identity)
    embedded: bool = False
    # Of one web process: enough to wait in; each may hold one connection to the database.
    web_threads: ClassVar[int] = 8

    @property
    def keys(self) -> list[tuple[str, str]]:
        """What opens something, by its name in the environment, as its owner may see it."""
        return [
            ("STRIPE_SECRET_KEY", shown(self.stripe_secret_key)),
            ("STRIPE_PUBLISHABLE_KEY", shown(self.stripe_publishable_key)),
            *(("STRIPE_WEBHOOK_SECRET", shown(one)) for one in self.stripe_webhook_secrets),
            *(("WEBHOOK_SIGNING_SECRET", shown(one)) for one in self.webhook_signing_secrets),
        ]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read production's settings; raises SettingsError naming every problem at once."""
        return _read(env, embedded=False)

    @property
    def livemode(self) -> bool:
        return _key_mode(self.stripe_secret_key) == "live"


def demo_settings(env: Mapping[str, str]) -> Settings:
    """Read the settings of the embedded shop: SQLite, in-process queue and no SMTP are welcome."""
    return _read(env, embedded=True)


def demo_environment(
    instance: Path,
    *,
    public_origin: str,
    stripe_api_base: str,
    database_url: str | None = None,
    redis_url: str | None = None,
    overrides: Mapping[str, str],
) -> dict[str, str]:
    """Complete ``overrides`` (the caller's environment) to all that the embedded shop needs.

    A setting named there wins; everything else is invented. Invented secrets are kept in
    ``instance/demo.json``, readable by its owner alone, so that a restart keeps the sessions.
    """
    invented = {
        **_demo_secrets(instance),
        "DATABASE_URL": database_url or f"sqlite:///{instance.resolve() / 'shop.db'}",
        "REDIS_URL": redis_url or MEMORY_QUEUE,
        "PUBLIC_ORIGIN": public_origin,
        "STRIPE_API_BASE": stripe_api_base,
        "MAIL_FROM": "Northlight Supply <shop@example.test>",
        "PORT": str(urlsplit(public_origin).port or DEFAULT_PORT),
    }
    given = {name: overrides[name] for name in SETTING_NAMES if overrides.get(name, "").strip()}
    return invented | given


def shown(secret: str) -> str:
    """A secret as its owner knows it again: its kind and its last four characters, if what is left
    out is long enough."""
    known = f"{mask(secret)}{secret[-4:]}" if _PUBLIC_PREFIX.match(secret) else mask(secret)
    return known if len(secret) >= LONG_ENOUGH_TO_SHOW else mask(secret)


def mask(secret: str) -> str:
    """Say which kind of secret this is, and nothing that would help to guess it."""
    prefix = _PUBLIC_PREFIX.match(secret)
    return f"{prefix[0]}…" if prefix else f"a text of {len(secret)} characters"


def _read(env: Mapping[str, str], *, embedded: bool) -> Settings:
    read = _Reader(env, embedded=embedded)
    settings = Settings(
        database_url=read.database_url(),
        redis_url=read.redis_url(),
        secret_keys=read.secret_keys(),
        public_origin=read.public_origin(),
        stripe_secret_key=read.stripe_secret_key(),
        stripe_publishable_key=read.stripe_publishable_key(),
        stripe_webhook_secrets=read.stripe_webhook_secrets(),
        stripe_api_base=read.stripe_api_base(),
        order_strategy=read.choice("ORDER_STRATEGY", tuple(STRATEGIES), "order_first"),
        strategy_rollout=read.strategy_rollout(),
        payment_ui=read.choice("PAYMENT_UI", ("hosted", "elements"), "hosted"),
        live_updates=read.choice("LIVE_UPDATES", ("poll", "sse"), "poll"),
        checkout_ttl_minutes=read.whole("CHECKOUT_TTL_MINUTES", 60, *TTL_MINUTES),
        late_payment=read.choice("LATE_PAYMENT", ("refund", "hold"), "hold"),
        reconcile_seconds=read.whole("RECONCILE_SECONDS", 120, 1, LONGEST_PERIOD_S),
        sweep_seconds=read.whole("SWEEP_SECONDS", 30, 1, LONGEST_PERIOD_S),
        smtp_url=read.smtp_url(),
        mail_from=read.mail_from(),
        alert_mail=read.alert_mail(),
        port=read.whole("PORT", DEFAULT_PORT, 1, 65_535),
        web_concurrency=read.whole("WEB_CONCURRENCY", 1, 1, 256),
        trusted_hosts=read.trusted_hosts(),
        proxy_hops=read.whole("PROXY_HOPS", 0, 0, 16),
        catalogue=read.catalogue(),
        listeners=read.listeners(),
        webhook_targets=read.webhook_targets(),
        webhook_signing_secrets=read.webhook_signing_secrets(),
        tax=read.choice("TAX", ("none", "stripe"), "none"),
        tax_behavior=read.choice("TAX_BEHAVIOR", ("inclusive", "exclusive"), "inclusive"),
        legal_name=read.one_line("LEGAL_NAME"),
        legal_address=tuple(
            line.strip() for line in read.one_line("LEGAL_ADDRESS").split("|") if line.strip()
        ),
        legal_vat_id=read.one_line("LEGAL_VAT_ID"),
        legal_registration=read.one_line("LEGAL_REGISTRATION"),
        identity=read.identity(),
        embedded=embedded,
    )
    read.compare(settings)
    if read.problems:
        raise SettingsError(read.problems)
    return settings


# Why a setting without a default is needed, and where to get it.
_NEEDED = {
    "DATABASE_URL": (
        "Orders, payments and stock live in the database.",
        "Set it to postgresql://user:password@host:5432/name.",
    ),
    "REDIS_URL": (
        "Web and workers share their jobs through Redis.",
        "Set it to redis://host:6379/0, or rediss:// for TLS.",
    ),
    "SECRET_KEY": (
        "It signs sessions and order links; a guessable one opens them all.",
        'Make one with `python -c "import secrets; print(secrets.token_urlsafe(48))"`.',
    ),
    "PUBLIC_ORIGIN": (
        "Stripe sends shoppers back to it, and links in mails start with it.",
        "Set it to the address that shoppers type, such as https://shop.example.com.",
    ),
    "STRIPE_SECRET_KEY": (
        "The shop asks Stripe with it; without it nobody can pay.",
        "Copy the secret key (sk_test_… or sk_live_…) from Stripe's dashboard, API keys.",
    ),
    "STRIPE_PUBLISHABLE_KEY": (
        "The pay form in the shopper's browser needs it.",
        "Copy the publishable key (pk_test_… or pk_live_…) from Stripe's dashboard, API keys.",
    ),
    "STRIPE_WEBHOOK_SECRET": (
        "Without it anybody could tell the shop that an order is paid.",
        "Copy the endpoint's signing secret (whsec_…) from Stripe's dashboard, Webhooks; "
        "while rotating set both, separated by a comma.",
    ),
    "SMTP_URL": (
        "Receipts go out by mail; without it no shopper would get one.",
        "Set it to smtp://user:password@host:587, or smtps:// for TLS from the start.",
    ),
    "MAIL_FROM": (
        "Mail servers refuse a message without a sender.",
        "Set it to an address of yours, such as Shop <orders@example.com>.",
    ),
}

SETTING_NAMES = (
    *_NEEDED,
    "STRIPE_API_BASE",
    "ORDER_STRATEGY",
    "STRATEGY_ROLLOUT",
    "PAYMENT_UI",
    "LIVE_UPDATES",
    "CHECKOUT_TTL_MINUTES",
    "LATE_PAYMENT",
    "RECONCILE_SECONDS",
    "SWEEP_SECONDS",
    "PORT",
    "WEB_CONCURRENCY",
    "TRUSTED_HOSTS",
    "PROXY_HOPS",
    "CATALOGUE",
    "LISTENERS",
    "WEBHOOK_TARGETS",
    "WEBHOOK_SIGNING_SECRET",
    "ALERT_MAIL",
    "TAX",
    "TAX_BEHAVIOR",
    "LEGAL_NAME",
    "LEGAL_ADDRESS",
    "LEGAL_VAT_ID",
    "LEGAL_REGISTRATION",
    "SHOP_NAME",
    "SHOP_TAGLINE",
    "SHOP_EMAIL",
    "SHOP_LOGO",
    "ORDER_PREFIX",
    "THEME",
    "RECEIPT_STYLE",
    "TIME_ZONE",
)


class _Reader:
    """Reads one environment and gathers its problems instead of stopping at the first.

    A method that finds a problem answers with something of the right type, so that the
    reading goes on; nobody sees it, because a reader with problems makes no settings.
    """

    def __init__(self, env: Mapping[str, str], *, embedded: bool) -> None:
        self.env = env
        self.embedded = embedded
        self.problems: list[Problem] = []

    def refuse(self, name: str, what: str, why: str = "", fix: str = "") -> None:
        usual_why, usual_fix = _NEEDED.get(name, ("", ""))
        self.problems.append(Problem(name, what, why or usual_why, fix or usual_fix))

    def text(self, name: str) -> str:
        """The value without surrounding blanks; '' when unset, as an empty one counts as unset."""
        return self.env.get(name, "").strip()

    def needed(self, name: str) -> str:
        value = self.text(name)
        if not value:
            self.refuse(name, "It is missing or empty.")
        return value

    def listed(self, name: str) -> tuple[str, ...]:
        value = self.needed(name)
        return tuple(part.strip() for part in value.split(",")) if value else ()

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name) or default
        if value not in allowed:
            self.refuse(
                name,
                f"{_shown(value)} is not a choice.",
                "The shop cannot guess which of its ways is meant.",
                f"Use one of {', '.join(allowed)}, or leave it out for {default}.",
            )
        return value

    def one_line(self, name: str) -> str:
        """A text for people, empty when unset; it is printed, so it must be short and visible."""
        value = self.text(name)
        if len(value) > LONGEST_TEXT or not value.isprintable():
            self.refuse(
                name,
                f"It has more than {LONGEST_TEXT} characters, or some that cannot be printed.",
                "It is printed on every invoice.",
                "Write it on one line; the lines of an address are separated by |.",
            )
            return ""
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name)
        if not value:
            return default
        # int() alone would take "1_000", "+5" and digits of other scripts.
        number = int(value) if re.fullmatch(r"-?[0-9]{1,9}", value) else None
        if number is None or not least <= number <= most:
            self.refuse(
                name,
                f"{_shown(value)} is not a whole number from {least} to {most}.",
                _WHY_BOUNDED.get(name, "Outside these bounds it is a slip, not a wish."),
                f"Use a whole number from {least} to {most}, or leave it out for {default}.",
            )
            return default
        return number

    def identity(self) -> look.Identity:
        """Who the shop is and how it looks."""
        usual = look.Identity()
        return look.Identity(
            name=self.printed("SHOP_NAME", usual.name),
            tagline=self.printed("SHOP_TAGLINE", usual.tagline),
            help_email=self._help_email(usual.help_email),
            number_prefix=self._fitting(
                "ORDER_PREFIX",
                look.PREFIX,
                usual.number_prefix,
                "Use up to eight capital letters and digits, beginning with a letter, such as NL.",
            ),
            logo=self._file("SHOP_LOGO", "", look.FILE, "", "SVG, PNG or WebP"),
            theme=self._file("THEME", "themes", look.THEME, ".css", "CSS, named without .css"),
            is_sober=self.choice("RECEIPT_STYLE", ("paper", "sober"), "paper") == "sober",
            time_zone=self._time_zone(usual.time_zone),
        )

    def printed(self, name: str, default: str) -> str:
        """A short text that stands on every page."""
        value = self.text(name) or default
        if len(value) > LONGEST_NAME or not value.isprintable():
            self.refuse(
                name,
                f"It has more than {LONGEST_NAME} characters, or some that cannot be printed.",
                "It stands on every page and in every mail.",
                "Write it in one short line.",
            )
        return value

    def _help_email(self, default: str) -> str:
        value = self.text("SHOP_EMAIL") or default
        if not _MAILBOX.fullmatch(value):
            self.refuse(
                "SHOP_EMAIL",
                f"{_shown(value)} is not an e-mail address.",
                "Shoppers who need help write to it.",
                "Use an address that somebody reads, such as help@example.com.",
            )
        return value

    def _fitting(self, name: str, form: re.Pattern[str], default: str, fix: str) -> str:
        value = self.text(name) or default
        if not form.fullmatch(value):
            self.refuse(name, f"{_shown(value)} does not fit.", "It stands in addresses.", fix)
        return value

    def _file(self, name: str, folder: str, form: re.Pattern[str], end: str, kinds: str) -> str:
        """The name of a file that pages load from ``static/``."""
        value = self.text(name)
        place = STATIC / folder
        if value and not (form.fullmatch(value) and (place / (value + end)).is_file()):
            self.refuse(
                name,
                f"{_shown(value)} is not the name of a file in static/{folder}.",
                "Every page would miss it.",
                f"Put the file there ({kinds}), or leave it out.",
            )
        return value

    def _time_zone(self, default: str) -> str:
        value = self.text("TIME_ZONE") or default
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.refuse(
                "TIME_ZONE",
                f"{_shown(value)} is not a time zone that this machine knows.",
                "Pages promise by which clock time something happens.",
                "Use a name such as Europe/Berlin, or leave it out for UTC.",
            )
        return value

    def database_url(self) -> str:
        name = "DATABASE_URL"
        value = self.needed(name)
        if not value:
            return value
        scheme, separator, rest = value.partition("://")
        if separator and scheme.lower() in ("postgres", "postgresql", "postgresql+psycopg"):
            parts = _split(value)
            if parts is None or not parts.path.strip("/"):
                self.refuse(
                    name,
                    f"{mask(value)} is not a whole address: the host, port or name is wrong.",
                    "The database cannot be found by it.",
                    "Use postgresql://user:password@host:5432/name; "
                    "write @ : / ? # in a password as %40 %3A %2F %3F %23.",
                )
            return f"postgresql+psycopg://{rest}"
        if separator and scheme.lower() == "sqlite":
            self._check_sqlite(rest)
            return f"sqlite://{rest}"
        self.refuse(
            name,
            f"{mask(value)} is no address of PostgreSQL or SQLite that the shop can use.",
            "Its promises are tested on these two, reached through psycopg and sqlite3.",
        )
        return value

    def _check_sqlite(self, path: str) -> None:
        if path and not path.startswith("/"):
            self.refuse(
                "DATABASE_URL",
                "The SQLite address names a host.",
                "SQLite is a file; what stands after two slashes would be a server.",
                "Use three slashes and a path: sqlite:////absolute/path/shop.db.",
            )
        if self.embedded:
            return
        if path.strip("/") in ("", ":memory:"):
            self.refuse(
                "DATABASE_URL",
                "It is a SQLite database in memory.",
                "Every process would have orders of its own, gone with the process.",
            )
        if self.text("DYNO"):
            self.refuse(
                "DATABASE_URL",
                "It is SQLite on a dyno.",
                "A dyno's disk is thrown away at every restart, and the orders with it.",
                "Attach a PostgreSQL database and use its address.",
            )

    def redis_url(self) -> str:
        name = "REDIS_URL"
        value = self.needed(name)
        if not value or (self.embedded and value == MEMORY_QUEUE):
            return value
        parts = _split(value)
        if value == MEMORY_QUEUE:
            self.refuse(
                name,
                "It is a queue inside the process.",
                "A worker in another process would never see a job.",
            )
        elif parts is None or not parts.hostname or not value.startswith(("redis://", "rediss://")):
            self.refuse(
                name,
                f"{mask(value)} is not a Redis address.",
                "The queue cannot be found by it.",
            )
        elif not re.fullmatch(r"/?[0-9]*", parts.path):
            self.refuse(
                name,
                "What follows the host is not the number of a database.",
                "Redis numbers its databases, it does not name them.",
            )
        return value

    def secret_keys(self) -> tuple[str, ...]:
        keys = self.listed("SECRET_KEY")
        for key in keys:
            if len(key) < SECRET_KEY_LENGTH:
                self.refuse(
                    "SECRET_KEY",
                    f"A key of {len(key)} characters is too short; {SECRET_KEY_LENGTH} are needed."
                    if key
                    else "One of the keys between the commas is empty.",
                )
        return keys

    def public_origin(self) -> str:
        name = "PUBLIC_ORIGIN"
        value = self.needed(name)
        if not value:
            return value
        origin = _origin(value)
        if origin is None:
            self.refuse(
                name,
                f"{_shown(value)} is not scheme://host or scheme://host:port, and nothing more.",
                "Every link and every address given to Stripe is this one with a path behind it.",
                "Use an address such as https://shop.example.com, without path, user or query; "
                "write names of other scripts in their xn-- form.",
            )
        return origin or ""

    def stripe_secret_key(self) -> str:
        name = "STRIPE_SECRET_KEY"
        value = self.needed(name)
        if not value:
            return value
        if value.startswith("pk_"):
            self.refuse(
                name,
                f"{mask(value)} is a publishable key.",
                "Stripe refuses every server call made with it.",
            )
        elif not re.fullmatch(r"(?:sk|rk)_(?:test|live)_[A-Za-z0-9_]+", value):
            self.refuse(
                name,
                f"{mask(value)} is not a secret key of Stripe.",
                "Stripe would refuse every call, and a shopper would be the first to see it.",
            )
        return value

    def stripe_publishable_key(self) -> str:
        name = "STRIPE_PUBLISHABLE_KEY"
        value = self.needed(name)
        if not value:
            return value
        if value.startswith(("sk_", "rk_")):
            self.refuse(
                name,
                f"{mask(value)} is a secret key.",
                "This setting is shown to every browser: the key would be public.",
                "Put the pk_… key here, and roll the secret one if it was ever served.",
            )
        elif not re.fullmatch(r"pk_(?:test|live)_[A-Za-z0-9_]+", value):
            self.refuse(name, f"{mask(value)} is not a publishable key of Stripe.")
        return value

    def stripe_webhook_secrets(self) -> tuple[str, ...]:
        found = self.listed("STRIPE_WEBHOOK_SECRET")
        for secret in found:
            if not secret:
                self.refuse(
                    "STRIPE_WEBHOOK_SECRET",
                    "One of the secrets between the commas is empty.",
                    "Anybody can sign with an empty secret.",
                )
            elif not re.fullmatch(r"whsec_[!-~]+", secret):
                self.refuse(
                    "STRIPE_WEBHOOK_SECRET",
                    f"{mask(secret)} is not a signing secret.",
                    "No event of Stripe's would pass with it.",
                )
        return found

    def stripe_api_base(self) -> str | None:
        value = self.text("STRIPE_API_BASE")
        if not value:
            return None
        base = _origin(value)
        if base is None:
            self.refuse(
                "STRIPE_API_BASE",
                f"{_shown(value)} is not scheme://host or scheme://host:port, and nothing more.",
                "The paths of Stripe's API are put right behind it.",
                "Leave it out for Stripe itself, or use an address such as http://localhost:12111.",
            )
        return base

    def strategy_rollout(self) -> tuple[str, int] | None:
        value = self.text("STRATEGY_ROLLOUT")
        if not value:
            return None
        strategy, _, percent = value.partition(":")
        if re.fullmatch(r"[0-9]{1,3}", percent) and int(percent) <= 100 and strategy in STRATEGIES:
            return strategy, int(percent)
        self.refuse(
            "STRATEGY_ROLLOUT",
            f"{_shown(value)} is not a strategy and a percentage.",
            "It sends that share of the shoppers through another strategy.",
            f"Use one of {', '.join(STRATEGIES)}, a colon and 0 to 100: dual_track:25.",
        )
        return None

    def smtp_url(self) -> str | None:
        name = "SMTP_URL"
        value = self.text(name) if self.embedded else self.needed(name)
        if not value:
            return None
        parts = _split(value)
        if parts is None or parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            self.refuse(
                name,
                f"{mask(value)} is not the address of a mail server.",
                "Receipts could not be handed over.",
            )
        return value

    def mail_from(self) -> str:
        name = "MAIL_FROM"
        value = self.needed(name)
        if not value:
            return value
        # A line break would let the rest of the value become a header of its own.
        if not value.isprintable() or not _MAILBOX.fullmatch(parseaddr(value)[1]):
            self.refuse(name, f"{_shown(value)} holds no single e-mail address.")
        return value

    def alert_mail(self) -> str | None:
        value = self.text("ALERT_MAIL")
        if value and not _MAILBOX.fullmatch(value):
            self.refuse(
                "ALERT_MAIL",
                f"{_shown(value)} is not one e-mail address.",
                "Whoever it belongs to is told when an alert begins to stand, and when it clears.",
                "Use a bare address such as oncall@example.com, a list’s if it is for several.",
            )
        return value or None

    def trusted_hosts(self) -> tuple[str, ...]:
        value = self.text("TRUSTED_HOSTS")
        hosts = tuple(part.strip().lower() for part in value.split(",")) if value else ()
        for host in hosts:
            if not _HOST.fullmatch(host.removeprefix(".")):
                self.refuse(
                    "TRUSTED_HOSTS",
                    f"{_shown(host)} is not a bare host name.",
                    "It is compared with the Host header, which has neither scheme nor path.",
                    "List names separated by commas: shop.example.com,.example.org "
                    "(a dot in front takes all below it).",
                )
        return hosts

    def catalogue(self) -> str | None:
        value = self.text("CATALOGUE")
        if value and not re.fullmatch(rf"{_MODULE}:[A-Za-z_]\w*", value, re.ASCII):
            self.refuse(
                "CATALOGUE",
                f"{_shown(value)} is not a module and a class.",
                "The shop makes one of that class, and asks it what is for sale.",
                "Use a module, a colon and a class: shop.goods:MyCatalogue.",
            )
        return value or None

    def listeners(self) -> tuple[str, ...]:
        value = self.text("LISTENERS")
        modules = tuple(part.strip() for part in value.split(",")) if value else ()
        for module in modules:
            if not re.fullmatch(_MODULE, module, re.ASCII):
                self.refuse(
                    "LISTENERS",
                    f"{_shown(module)} is not the name of a module.",
                    "Each is imported when the shop starts, to connect to its signals.",
                    "List modules separated by commas: shop.fulfilment,shop.loyalty.",
                )
        return modules

    def webhook_targets(self) -> tuple[str, ...]:
        value = self.text("WEBHOOK_TARGETS")
        targets = tuple(part.strip() for part in value.split(",")) if value else ()
        for target in targets:
            parts = _split(target)
            if parts is None or "@" in parts.netloc or "#" in target or not _names_host(parts):
                self.refuse(
                    "WEBHOOK_TARGETS",
                    f"{_without_path(target)} is not a whole address, or holds a user or a #.",
                    "Every event is sent to each of these addresses.",
                    "List addresses separated by commas, such as https://erp.example.com/orders; "
                    "write a comma within one as %2C.",
                )
        return tuple(dict.fromkeys(targets))

    def webhook_signing_secrets(self) -> tuple[str, ...]:
        name = "WEBHOOK_SIGNING_SECRET"
        value = self.text(name)
        found = tuple(part.strip() for part in value.split(",")) if value else ()
        for secret in found:
            if len(secret) < SECRET_KEY_LENGTH:
                self.refuse(
                    name,
                    f"A secret of {len(secret)} characters is too short; {SECRET_KEY_LENGTH} are "
                    "needed.",
                    "Whoever guesses it can tell your other systems that anything is paid.",
                    'Make one with `python -c "import secrets; print(secrets.token_urlsafe(48))"`.',
                )
        return found

    def compare(self, settings: Settings) -> None:
        """Look at the settings that are right alone and wrong together."""
        server_mode = _key_mode(settings.stripe_secret_key)
        browser_mode = _key_mode(settings.stripe_publishable_key)
        plain = settings.public_origin.startswith("http://")
        if server_mode and browser_mode and server_mode != browser_mode:
            self.refuse(
                "STRIPE_PUBLISHABLE_KEY",
                f"It is a {browser_mode} key, while STRIPE_SECRET_KEY is a {server_mode} key.",
                "Browser and server would talk to two different Stripes.",
                f"Use both keys of one mode: pk_{server_mode}_… belongs to this secret key.",
            )
        if plain and server_mode == "live":
            self.refuse(
                "PUBLIC_ORIGIN",
                "A live key over plain http.",
                "Addresses, sessions and order links of paying shoppers could be read on the way.",
                "Use an https:// address, or test keys.",
            )
        elif (
            plain and not server_mode and urlsplit(settings.public_origin).hostname not in LOOPBACK
        ):
            self.refuse(
                "PUBLIC_ORIGIN",
                "It is plain http, and nothing says that this is a test.",
                "Addresses, sessions and order links could be read on the way.",
                "Use an https:// address, or a test key of Stripe.",
            )
        if server_mode == "live" and settings.stripe_api_base not in (None, STRIPE_API):
            self.refuse(
                "STRIPE_API_BASE",
                "A live key would be sent to an address that is not Stripe's.",
                "Whoever answers there could spend with it.",
                "Leave it out, or use test keys.",
            )
        self._compare_webhooks(settings, plain=plain)
        if self.embedded:
            return
        if settings.database_url.startswith("sqlite:") and settings.web_concurrency > 1:
            self.refuse(
                "DATABASE_URL",
                f"It is SQLite for {settings.web_concurrency} web processes.",
                "SQLite takes one writer at a time; it is promised for one web process only.",
                "Use PostgreSQL, or WEB_CONCURRENCY=1.",
            )
        if self.text("FLASK_DEBUG").lower() not in ("", "0", "false", "no"):
            self.refuse(
                "FLASK_DEBUG",
                "Debugging is on.",
                "A debugger on an error page runs anybody's code on this machine.",
                "Leave it out; `flask demo` is the place to debug.",
            )

    def _compare_webhooks(self, settings: Settings, *, plain: bool) -> None:
        """Which addresses a target may have; what its name leads to is looked at when it is sent
        to."""
        if settings.webhook_targets and not settings.webhook_signing_secrets:
            self.refuse(
                "WEBHOOK_SIGNING_SECRET",
                "It is missing, while WEBHOOK_TARGETS names somebody.",
                "Without a signature anybody could tell them that an order is paid.",
                'Make one with `python -c "import secrets; print(secrets.token_urlsafe(48))"`.',
            )
        for target in settings.webhook_targets:
            parts = _split(target)
            if parts is None or not parts.hostname:
                continue  # it was refused already
            here = parts.hostname in LOOPBACK
            if parts.scheme == "http" and not (plain and here):
                self.refuse(
                    "WEBHOOK_TARGETS",
                    f"{_without_path(target)} is plain http.",
                    "Names and addresses of shoppers could be read on the way.",
                    "Use https; http is for localhost, while PUBLIC_ORIGIN is http too.",
                )
            elif parts.scheme == "https" and (here or _is_inward(parts.hostname)):
                self.refuse(
                    "WEBHOOK_TARGETS",
                    f"{_without_path(target)} is no public address.",
                    "The shop sends nothing into its own network, so that it cannot be led there.",
                    "Use an address that the internet can reach.",
                )


_WHY_BOUNDED = {
    "CHECKOUT_TTL_MINUTES": "Stripe keeps a pay page for 30 minutes at least, 24 hours at most.",
    "RECONCILE_SECONDS": "It is the pause between two looks at Stripe for unfinished orders.",
    "SWEEP_SECONDS": "It is the pause between two rounds over what waits in the database.",
    "PORT": "A computer has ports 1 to 65535.",
    "WEB_CONCURRENCY": "It is the number of web processes.",
    "PROXY_HOPS": "It is how many proxies in front may name the shopper's address.",
}


def _key_mode(key: str) -> str | None:
    found = re.match(r"(?:sk|rk|pk)_(test|live)_", key)
    return found[1] if found else None


def _split(url: str) -> SplitResult | None:
    """The parts of an address, or None when it is not one; a port outside its range counts."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 else parts  # reading the port is what checks it
    except ValueError:
        return None


def _names_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return parts.scheme in ("http", "https") and bool(_HOST.fullmatch(shown))


def _is_inward(host: str) -> bool:
    """Whether it is an address in figures that the open internet does not know."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _without_path(url: str) -> str:
    """An address as it may be printed: what follows its host may be a secret."""
    parts = _split(url)
    if parts is None or not _names_host(parts) or "@" in parts.netloc:
        return mask(url)
    return _shown(f"{parts.scheme}://{parts.hostname}/…" if parts.path.strip("/") else url[:60])


def _origin(value: str) -> str | None:
    """``value`` as browsers write an origin, or None when it is more or less than one."""
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https"):
        return None
    host, port = parts.hostname or "", parts.port
    shown_host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(shown_host) or "@" in parts.netloc:
        return None
    if parts.path.strip("/") or "?" in value or "#" in value:
        return None
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown_host}" + (f":{port}" if port not in (None, usual) else "")


def _shown(value: str) -> str:
    """A value as it may be printed: cut short, and masked when a secret strayed into it."""
    if re.search(r"@|(?:sk|rk)_(?:test|live)_|whsec_", value):
        return mask(value)
    return repr(value if len(value) <= 40 else f"{value[:8]}…")


def _demo_secrets(instance: Path) -> dict[str, str]:
    kept = instance / "demo.json"
    try:
        found = json.loads(kept.read_text())
        if isinstance(found, dict) and all(isinstance(found.get(n), str) for n in _INVENTED):
            kept.chmod(0o600)
            return {name: found[name] for name in _INVENTED}
    except (FileNotFoundError, ValueError):
        pass  # the first start, or a file cut short by a full disk: both begin anew
    invented = {name: invent() for name, invent in _INVENTED.items()}
    instance.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file readable by its owner alone, and the rename makes it whole or absent.
    handle, temporary = tempfile.mkstemp(dir=instance, prefix="demo.", suffix=".json")
    with os.fdopen(handle, "w") as file:
        json.dump(invented, file, indent=2)
    Path(temporary).replace(kept)
    return invented


_INVENTED = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "STRIPE_SECRET_KEY": lambda: f"sk_test_sandbox{secrets.token_hex(12)}",
    "STRIPE_PUBLISHABLE_KEY": lambda: f"pk_test_sandbox{secrets.token_hex(12)}",
    "STRIPE_WEBHOOK_SECRET": lambda: f"whsec_{secrets.token_hex(24)}",
}
