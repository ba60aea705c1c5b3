"""What the shop accepts as settings, what it refuses, and what it says then."""

from __future__ import annotations

import ast
import json
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import config
from config import Settings, SettingsError, demo_environment, demo_settings

ROOT = Path(config.__file__).parent
PUBLIC_SURFACE = [
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "PUBLIC_ORIGIN",
    "STRIPE_SECRET_KEY",
    "STRIPE_PUBLISHABLE_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_API_BASE",
    "ORDER_STRATEGY",
    "STRATEGY_ROLLOUT",
    "PAYMENT_UI",
    "LIVE_UPDATES",
    "CHECKOUT_TTL_MINUTES",
    "LATE_PAYMENT",
    "RECONCILE_SECONDS",
    "SWEEP_SECONDS",
    "SMTP_URL",
    "MAIL_FROM",
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
]
PLATFORM = {"DYNO", "FLASK_DEBUG"}  # read to refuse, not set by a shop
NEEDED = {
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "PUBLIC_ORIGIN",
    "STRIPE_SECRET_KEY",
    "STRIPE_PUBLISHABLE_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "SMTP_URL",
    "MAIL_FROM",
}
OLD_KEY, NEW_KEY = "o" * 32, "n" * 48
SIGNS = f"signcanary-{'s' * 32}"


def sends(targets: str, secret: str | None = SIGNS) -> dict[str, str | None]:
    return {"WEBHOOK_TARGETS": targets, "WEBHOOK_SIGNING_SECRET": secret}


def production(**changes: str | None) -> dict[str, str]:
    """A complete production environment, with changes; None takes a setting out."""
    env: dict[str, str | None] = {
        "DATABASE_URL": "postgres://shop:db-canary@db.example.com:5432/shop",
        "REDIS_URL": "rediss://:redis-canary@redis.example.com:6380/1",
        "SECRET_KEY": f"{NEW_KEY},{OLD_KEY}",
        "PUBLIC_ORIGIN": "https://shop.example.com",
        "STRIPE_SECRET_KEY": "sk_live_keycanary",
        "STRIPE_PUBLISHABLE_KEY": "pk_live_public",
        "STRIPE_WEBHOOK_SECRET": "whsec_newcanary,whsec_oldcanary",
        "SMTP_URL": "smtps://shop:smtp-canary@mail.example.com:465",
        "MAIL_FROM": "Shop <orders@example.com>",
    }
    return {name: value for name, value in (env | changes).items() if value is not None}


def on_test_keys(**changes: str | None) -> dict[str, str]:
    keys = {"STRIPE_SECRET_KEY": "sk_test_a", "STRIPE_PUBLISHABLE_KEY": "pk_test_a"}
    return production(**(keys | changes))


def refused(env: Mapping[str, str]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(env)
    return caught.value


def names(error: SettingsError) -> list[str]:
    return [problem.name for problem in error.problems]


def test_a_complete_environment_is_read_into_typed_values():
    settings = Settings.from_env(
        production(
            STRATEGY_ROLLOUT="dual_track:25",
            TRUSTED_HOSTS="shop.example.com, .example.org",
            PORT=" 5000 ",
        )
    )

    assert settings.secret_keys == (NEW_KEY, OLD_KEY)
    assert settings.stripe_webhook_secrets == ("whsec_newcanary", "whsec_oldcanary")
    assert settings.strategy_rollout == ("dual_track", 25)
    assert settings.trusted_hosts == ("shop.example.com", ".example.org")
    assert settings.port == 5000
    assert settings.livemode
    assert not settings.embedded


def test_what_is_optional_has_the_documented_default():
    settings = Settings.from_env(production())

    assert (settings.order_strategy, settings.strategy_rollout) == ("order_first", None)
    assert (settings.payment_ui, settings.live_updates) == ("hosted", "poll")
    assert (settings.checkout_ttl_minutes, settings.late_payment) == (60, "hold")
    assert (settings.reconcile_seconds, settings.sweep_seconds) == (120, 30)
    assert (settings.stripe_api_base, settings.trusted_hosts) == (None, ())
    assert (settings.port, settings.web_concurrency, settings.proxy_hops) == (8000, 1, 0)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "POSTGRES"])
def test_every_spelling_of_a_postgresql_address_reaches_psycopg(scheme):
    settings = Settings.from_env(
        production(DATABASE_URL=f"{scheme}://u:p@h:5432/d?sslmode=require")
    )

    assert settings.database_url == "postgresql+psycopg://u:p@h:5432/d?sslmode=require"


def test_sqlite_serves_one_web_process_off_a_dyno():
    settings = Settings.from_env(production(DATABASE_URL="sqlite:////srv/shop/shop.db"))

    assert settings.database_url == "sqlite:////srv/shop/shop.db"


@pytest.mark.accept("V18")
@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://shop.example.com", "https://shop.example.com"),
        ("https://shop.example.com/", "https://shop.example.com"),
        ("https://Shop.Example.com:443", "https://shop.example.com"),
        ("https://shop.example.com:8443", "https://shop.example.com:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("http://shop.internal", "http://shop.internal"),
    ],
)
def test_the_public_origin_is_a_setting_written_as_browsers_write_it(given, origin):
    assert Settings.from_env(on_test_keys(PUBLIC_ORIGIN=given)).public_origin == origin


def test_an_empty_environment_names_every_missing_setting_at_once():
    error = refused({})

    assert set(names(error)) == NEEDED
    assert len(error.problems) == len(NEEDED)


@pytest.mark.accept("V4")
@pytest.mark.parametrize("secret", [None, "", "   ", "whsec_", ",", "whsec_a,", "hunter2"])
def test_production_does_not_start_without_a_webhook_secret_that_verifies(secret):
    error = refused(production(STRIPE_WEBHOOK_SECRET=secret))

    assert set(names(error)) == {"STRIPE_WEBHOOK_SECRET"}
    assert error.problems[0].why


WRONG = [
    ({"DATABASE_URL": "mysql://u:p@h/d"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://u:p@h:notaport/d"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://u:p@h:99999/d"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://u:p@h:5432"}, "DATABASE_URL"),
    ({"DATABASE_URL": "shop.db"}, "DATABASE_URL"),
    ({"DATABASE_URL": "sqlite://server/shop.db"}, "DATABASE_URL"),
    ({"DATABASE_URL": "sqlite:///:memory:"}, "DATABASE_URL"),
    ({"DATABASE_URL": "sqlite:///shop.db", "DYNO": "web.1"}, "DATABASE_URL"),
    ({"DATABASE_URL": "sqlite:///shop.db", "WEB_CONCURRENCY": "2"}, "DATABASE_URL"),
    ({"REDIS_URL": "memory://"}, "REDIS_URL"),
    ({"REDIS_URL": "http://redis.example.com"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://h:0/0"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://h/jobs"}, "REDIS_URL"),
    ({"SECRET_KEY": "s" * 31}, "SECRET_KEY"),
    ({"SECRET_KEY": f"{NEW_KEY},short"}, "SECRET_KEY"),
    ({"SECRET_KEY": f"{NEW_KEY},"}, "SECRET_KEY"),
    ({"PUBLIC_ORIGIN": "http://shop.example.com"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "http://localhost:8000"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "shop.example.com"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "ftp://shop.example.com"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://shop.example.com/shop"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://shop.example.com?a=b"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://user:origin-canary@shop.example.com"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://shop.example.com:0"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://"}, "PUBLIC_ORIGIN"),
    ({"PUBLIC_ORIGIN": "https://[::1"}, "PUBLIC_ORIGIN"),
    ({"STRIPE_SECRET_KEY": "pk_live_public"}, "STRIPE_SECRET_KEY"),
    ({"STRIPE_SECRET_KEY": "hunter2"}, "STRIPE_SECRET_KEY"),
    ({"STRIPE_SECRET_KEY": "sk_live_"}, "STRIPE_SECRET_KEY"),
    ({"STRIPE_PUBLISHABLE_KEY": "sk_live_keycanary"}, "STRIPE_PUBLISHABLE_KEY"),
    ({"STRIPE_PUBLISHABLE_KEY": "rk_live_keycanary"}, "STRIPE_PUBLISHABLE_KEY"),
    ({"STRIPE_PUBLISHABLE_KEY": "hunter2"}, "STRIPE_PUBLISHABLE_KEY"),
    ({"STRIPE_PUBLISHABLE_KEY": "pk_test_public"}, "STRIPE_PUBLISHABLE_KEY"),
    ({"STRIPE_SECRET_KEY": "rk_test_keycanary"}, "STRIPE_PUBLISHABLE_KEY"),
    ({"STRIPE_API_BASE": "https://api.example.com"}, "STRIPE_API_BASE"),
    ({"STRIPE_API_BASE": "localhost:12111"}, "STRIPE_API_BASE"),
    ({"ORDER_STRATEGY": "pay_later"}, "ORDER_STRATEGY"),
    ({"ORDER_STRATEGY": "Order_First"}, "ORDER_STRATEGY"),
    ({"STRATEGY_ROLLOUT": "dual_track:101"}, "STRATEGY_ROLLOUT"),
    ({"STRATEGY_ROLLOUT": "dual_track:-1"}, "STRATEGY_ROLLOUT"),
    ({"STRATEGY_ROLLOUT": "dual_track:25%"}, "STRATEGY_ROLLOUT"),
    ({"STRATEGY_ROLLOUT": "dual_track"}, "STRATEGY_ROLLOUT"),
    ({"STRATEGY_ROLLOUT": "pay_later:25"}, "STRATEGY_ROLLOUT"),
    ({"PAYMENT_UI": "popup"}, "PAYMENT_UI"),
    ({"LIVE_UPDATES": "websocket"}, "LIVE_UPDATES"),
    ({"LATE_PAYMENT": "keep"}, "LATE_PAYMENT"),
    ({"CHECKOUT_TTL_MINUTES": "30"}, "CHECKOUT_TTL_MINUTES"),
    ({"CHECKOUT_TTL_MINUTES": "1441"}, "CHECKOUT_TTL_MINUTES"),
    ({"CHECKOUT_TTL_MINUTES": "an hour"}, "CHECKOUT_TTL_MINUTES"),
    ({"CHECKOUT_TTL_MINUTES": "6_0"}, "CHECKOUT_TTL_MINUTES"),
    ({"CHECKOUT_TTL_MINUTES": "٦٠"}, "CHECKOUT_TTL_MINUTES"),
    ({"RECONCILE_SECONDS": "0"}, "RECONCILE_SECONDS"),
    ({"SWEEP_SECONDS": "-30"}, "SWEEP_SECONDS"),
    ({"SWEEP_SECONDS": "1.5"}, "SWEEP_SECONDS"),
    ({"SMTP_URL": None}, "SMTP_URL"),
    ({"SMTP_URL": "mail.example.com:587"}, "SMTP_URL"),
    ({"SMTP_URL": "smtp://"}, "SMTP_URL"),
    ({"SMTP_URL": "https://mail.example.com"}, "SMTP_URL"),
    ({"MAIL_FROM": "Shop"}, "MAIL_FROM"),
    ({"ALERT_MAIL": "oncall"}, "ALERT_MAIL"),
    ({"ALERT_MAIL": "a@example.com, b@example.com"}, "ALERT_MAIL"),
    ({"MAIL_FROM": "a@example.com\nBcc: b@example.com"}, "MAIL_FROM"),
    ({"PORT": "0"}, "PORT"),
    ({"PORT": "65536"}, "PORT"),
    ({"PORT": "http"}, "PORT"),
    ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY"),
    ({"TRUSTED_HOSTS": "https://shop.example.com"}, "TRUSTED_HOSTS"),
    ({"TRUSTED_HOSTS": "shop.example.com,"}, "TRUSTED_HOSTS"),
    ({"PROXY_HOPS": "-1"}, "PROXY_HOPS"),
    ({"CATALOGUE": "shop.goods"}, "CATALOGUE"),
    ({"CATALOGUE": "shop/goods.py:Mine"}, "CATALOGUE"),
    ({"LISTENERS": "shop.fulfilment,"}, "LISTENERS"),
    ({"LISTENERS": "../fulfilment"}, "LISTENERS"),
    (sends("https://erp.example.com/", None), "WEBHOOK_SIGNING_SECRET"),
    (sends("https://erp.example.com/", "short"), "WEBHOOK_SIGNING_SECRET"),
    (sends("https://erp.example.com/", f"{SIGNS},"), "WEBHOOK_SIGNING_SECRET"),
    (sends("erp.example.com/orders"), "WEBHOOK_TARGETS"),
    (sends("https://erp.example.com/,"), "WEBHOOK_TARGETS"),
    (sends("ftp://erp.example.com/"), "WEBHOOK_TARGETS"),
    (sends("https://user:target-canary@erp.example.com/"), "WEBHOOK_TARGETS"),
    (sends("http://erp.example.com/target-canary"), "WEBHOOK_TARGETS"),
    (sends("http://localhost:9000/target-canary"), "WEBHOOK_TARGETS"),
    (sends("https://localhost/"), "WEBHOOK_TARGETS"),
    (sends("https://10.0.0.7/target-canary"), "WEBHOOK_TARGETS"),
    (sends("https://169.254.169.254/latest"), "WEBHOOK_TARGETS"),
    (sends("https://[fd00:ec2::254]/"), "WEBHOOK_TARGETS"),
    ({"FLASK_DEBUG": "1"}, "FLASK_DEBUG"),
]


@pytest.mark.parametrize(("change", "name"), WRONG, ids=lambda part: str(part)[:60])
def test_a_wrong_setting_is_refused_with_what_why_and_fix(change, name):
    error = refused(production(**change))

    assert names(error) == [name]
    for part in error.problems[0][1:]:
        assert re.fullmatch(r"[^\n]{10,}\.", part), "one sentence, on one line"


def test_what_plugs_in_is_read_into_names_and_addresses():
    settings = Settings.from_env(
        production(
            CATALOGUE="shop.goods:MyCatalogue",
            LISTENERS="shop.fulfilment, shop.loyalty",
            WEBHOOK_TARGETS="https://a.example.com/x?y=1, https://b.example.com",
            WEBHOOK_SIGNING_SECRET=f"{SIGNS},{'t' * 32}",
        )
    )

    assert settings.catalogue == "shop.goods:MyCatalogue"
    assert settings.listeners == ("shop.fulfilment", "shop.loyalty")
    assert settings.webhook_targets == ("https://a.example.com/x?y=1", "https://b.example.com")
    assert settings.webhook_signing_secrets == (SIGNS, "t" * 32)
    assert SIGNS not in repr(settings)
    assert "a.example.com" not in repr(settings)


def test_webhooks_go_over_plain_http_only_to_this_machine_and_from_a_shop_on_http():
    env = on_test_keys(PUBLIC_ORIGIN="http://localhost:8000", **sends("http://127.0.0.1:9000/x"))

    assert Settings.from_env(env).webhook_targets == ("http://127.0.0.1:9000/x",)
    assert names(refused(env | {"WEBHOOK_TARGETS": "http://erp.internal/"})) == ["WEBHOOK_TARGETS"]


def test_a_live_key_over_plain_http_says_so():
    (problem,) = refused(production(PUBLIC_ORIGIN="http://shop.example.com")).problems

    assert problem.what == "A live key over plain http."
    assert "https://" in problem.fix


def test_plain_http_with_a_key_of_no_known_mode_is_a_problem_of_its_own_off_this_machine():
    unknown = {"STRIPE_SECRET_KEY": None, "STRIPE_PUBLISHABLE_KEY": None}
    keys = ["STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY"]

    away = refused(production(PUBLIC_ORIGIN="http://shop.example.com", **unknown))
    here = refused(production(PUBLIC_ORIGIN="http://localhost:8000", **unknown))

    assert names(away) == [*keys, "PUBLIC_ORIGIN"]
    assert names(here) == keys


def test_all_problems_are_told_in_one_message_that_reads_as_blocks():
    changes = {"ORDER_STRATEGY": "pay_later", "STRIPE_WEBHOOK_SECRET": None, "PORT": "http"}
    text = str(refused(production(**changes)))

    first, *blocks = text.split("\n\n")
    assert first == "settings refused: STRIPE_WEBHOOK_SECRET, ORDER_STRATEGY, PORT"
    assert len(blocks) == 3
    for block in blocks:
        assert re.fullmatch(r"[A-Z_]+\n  what: .+\n  why:  .+\n  fix:  .+", block)


def test_a_restricted_key_and_stripes_own_address_are_welcome():
    env = production(
        STRIPE_SECRET_KEY="rk_live_keycanary", STRIPE_API_BASE="https://api.stripe.com/"
    )

    assert Settings.from_env(env).livemode


@pytest.mark.parametrize("value", ["0", "false", "no", ""])
def test_debugging_switched_off_is_no_problem(value):
    Settings.from_env(production(FLASK_DEBUG=value))


def test_no_secret_shows_in_the_repr_of_settings():
    shown = repr(Settings.from_env(production()))

    assert "canary" not in shown
    assert NEW_KEY not in shown
    assert OLD_KEY not in shown


@pytest.mark.parametrize("change", [change for change, _ in WRONG], ids=str)
def test_no_secret_shows_in_a_refusal(change):
    error = refused(production(**change))

    for shown in (str(error), repr(error), repr(error.args)):
        assert "canary" not in shown
        assert "hunter2" not in shown
        assert NEW_KEY not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_NAME", "x" * 200),
        ("SHOP_TAGLINE", "two\nlines"),
        ("SHOP_EMAIL", "somebody"),
        ("SHOP_LOGO", "../config.py"),
        ("SHOP_LOGO", "nowhere.svg"),
        ("ORDER_PREFIX", "n l"),
        ("THEME", "../app"),
        ("THEME", "nowhere"),
        ("RECEIPT_STYLE", "loud"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("TIME_ZONE", "../../etc/passwd"),
    ],
)
def test_what_stands_on_every_page_is_checked_at_the_start(name, value):
    assert names(refused(production(**{name: value}))) == [name]


@pytest.mark.parametrize("name", PUBLIC_SURFACE)
@pytest.mark.parametrize(
    "secret", ["sk_live_strayed1234", "whsec_strayed1234", "postgres://u:strayed1234@h/d"]
)
def test_a_secret_put_into_the_wrong_setting_is_not_repeated(name, secret):
    try:
        Settings.from_env(production(**{name: secret}))
    except SettingsError as error:
        assert "strayed" not in str(error)


# The first text drawn reads a table of all characters, which takes a second on a busy machine.
@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([*PUBLIC_SURFACE, *PLATFORM]),
        st.text()
        | st.sampled_from(["http://[", "https://a:b", "sqlite:", "://", ":", "²", "dual_track:²"])
        | st.integers().map(str),
    )
)
def test_whatever_is_given_the_answer_is_settings_or_named_problems(changes):
    try:
        Settings.from_env(production() | changes)
    except SettingsError as error:
        assert set(names(error)) <= {*PUBLIC_SURFACE, *PLATFORM}
        assert str(error)


class Recorded(dict[str, str]):
    """An environment that remembers which names were asked for."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self.asked: set[str] = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("settings are asked for by name")


def test_the_example_file_lists_exactly_what_is_read_each_with_a_comment():
    env = Recorded(production())
    Settings.from_env(env)
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = {
        found[1]: above
        for above, line in zip(["", *lines], lines, strict=False)
        if (found := re.match(r"#?([A-Z_]+)=", line))
    }

    assert set(listed) == env.asked - PLATFORM
    assert sorted(listed) == sorted(PUBLIC_SURFACE)
    assert sorted(config.SETTING_NAMES) == sorted(PUBLIC_SURFACE)
    for name, comment in listed.items():
        assert re.match(r"# .+\.", comment), f"{name} has no line that explains it"


def test_the_example_file_shows_the_real_defaults():
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
    with_them = Settings.from_env(production(**shown))

    assert "STRIPE_API_BASE" in shown
    assert with_them.stripe_api_base == config.STRIPE_API
    assert with_them == Settings.from_env(production(STRIPE_API_BASE=config.STRIPE_API))


def test_an_example_file_copied_and_not_filled_in_is_refused_for_every_needed_setting():
    blank = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))

    assert set(names(refused(blank))) == NEEDED


def demo(instance: Path, **overrides: str) -> dict[str, str]:
    return demo_environment(
        instance,
        public_origin="http://127.0.0.1:8001",
        stripe_api_base="http://127.0.0.1:8002",
        overrides=overrides,
    )


def test_the_demo_needs_no_setting_at_all(tmp_path):
    settings = demo_settings(demo(tmp_path / "instance"))

    assert settings.embedded
    assert not settings.livemode
    assert settings.database_url == f"sqlite:///{tmp_path}/instance/shop.db"
    assert settings.redis_url == "memory://"
    assert settings.smtp_url is None
    assert settings.port == 8001
    assert settings.stripe_api_base == "http://127.0.0.1:8002"


def test_a_restarted_demo_keeps_its_secrets_in_a_file_of_its_owner_alone(tmp_path):
    first = demo(tmp_path)
    (tmp_path / "demo.json").chmod(0o644)
    second = demo(tmp_path)

    assert first == second
    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
    assert [kept.name for kept in tmp_path.iterdir()] == ["demo.json"]


def test_two_demos_share_no_secret(tmp_path):
    assert demo(tmp_path / "a")["SECRET_KEY"] != demo(tmp_path / "b")["SECRET_KEY"]


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"SECRET_KEY": 1}), "\udcff"])
def test_a_damaged_demo_file_is_made_anew(tmp_path, content):
    (tmp_path / "demo.json").write_bytes(content.encode(errors="surrogateescape"))

    demo_settings(demo(tmp_path))

    assert demo(tmp_path) == demo(tmp_path)


def test_what_is_set_wins_over_what_the_demo_invents(tmp_path):
    env = demo(tmp_path, DATABASE_URL="postgresql://h/d", ORDER_STRATEGY="pay_first", HOME="/x")

    assert env["DATABASE_URL"] == "postgresql://h/d"
    assert demo_settings(env).order_strategy == "pay_first"
    assert "HOME" not in env


def test_an_empty_setting_is_one_the_demo_may_invent(tmp_path):
    assert demo(tmp_path, REDIS_URL="")["REDIS_URL"] == "memory://"


def test_a_live_key_is_refused_in_the_demo(tmp_path):
    with pytest.raises(SettingsError) as caught:
        demo_settings(demo(tmp_path, STRIPE_SECRET_KEY="sk_live_keycanary"))

    assert set(names(caught.value)) == {
        "STRIPE_PUBLISHABLE_KEY",
        "PUBLIC_ORIGIN",
        "STRIPE_API_BASE",
    }


def test_settings_are_read_without_the_web_framework():
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(Path(config.__file__).read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported <= sys.stdlib_module_names | {"domain"}


def test_the_shops_legal_data_are_lines_that_can_be_printed() -> None:
    settings = Settings.from_env(
        production(LEGAL_ADDRESS=" Long Street 1 | 12047 Berlin || Germany", TAX="stripe")
    )
    assert settings.legal_address == ("Long Street 1", "12047 Berlin", "Germany")
    assert (settings.tax, settings.tax_behavior) == ("stripe", "inclusive")
    for wrong in ("x" * 301, "a\x00b", "two\nlines"):
        with pytest.raises(SettingsError) as refused:
            Settings.from_env(production(LEGAL_NAME=wrong))
        assert names(refused.value) == ["LEGAL_NAME"]
