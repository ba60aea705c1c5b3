"""A shop's own name, logo, colours and clock, by its settings alone."""

from __future__ import annotations

import re
from email import message_from_string, policy
from pathlib import Path

import pytest

from config import STATIC
from domain.look import Identity
from models import OutboxMessage
from tests.shop import TestShops

OWN = Identity(
    name="Kaffee & Söhne",
    tagline="Geröstet am Hafen.",
    help_email="moin@kaffee.example",
    number_prefix="KS",
    logo="favicon.svg",
    theme="harbour",
    is_sober=True,
    time_zone="Asia/Tokyo",
)


def test_every_page_and_mail_bears_the_shops_name_logo_and_address(sqlite_shops: TestShops):
    with sqlite_shops.opened(identity=OWN) as shop:
        maya = shop.shopper()
        checkout = maya.buy()
        checkout.pay()
        shop.deliver_and_work()
        page = maya.get(f"/orders/{checkout.order_id}").text
        (mail,) = shop.rows(OutboxMessage, OutboxMessage.kind == "receipt")

        assert "<title>Paid – order KS-" in page
        assert "Kaffee &amp; Söhne" in page
        assert 'src="/static/favicon.svg"' in page
        assert "mailto:moin@kaffee.example" in page
        assert '<link rel="stylesheet" href="/static/themes/harbour.css">' in page
        assert "Geröstet am Hafen." in maya.get("/").text
        assert mail.result["subject"].startswith("Your receipt for order KS-")
        letter = message_from_string(mail.result["source"], policy=policy.default)
        body = letter.get_body(("plain",))
        assert body
        assert "moin@kaffee.example" in body.get_content()
        assert "Northlight" not in page + maya.get("/").text + body.get_content()


def test_clocks_are_told_as_they_go_where_the_shop_is(sqlite_shops: TestShops):
    with sqlite_shops.opened(identity=OWN) as shop:
        shop.clock.moment = shop.clock.moment.replace(hour=20, minute=5)
        maya = shop.shopper()
        checkout = maya.buy()
        page = maya.get(f"/checkout/cancel?attempt={checkout.order_id}").text

        # An hour after 20:05 UTC it is the next morning in Tokyo.
        assert re.search(r'<time datetime="[^"]*T21:05:\d\d\+00:00">06:05</time>', page)


def test_a_sober_shop_has_no_stamp_and_no_torn_edge(sqlite_shops: TestShops):
    css = (STATIC / "app.css").read_text()

    with sqlite_shops.opened(identity=OWN) as shop:
        assert '<body class="shop sober">' in shop.shopper().get("/").text
    with sqlite_shops.opened() as shop:
        assert '<body class="shop">' in shop.shopper().get("/").text
    assert ".sober .stamp { display: none }" in css
    assert ".sober .receipt { mask: none }" in css


@pytest.mark.parametrize("theme", sorted((STATIC / "themes").glob("*.css")), ids=lambda t: t.stem)
def test_a_theme_is_three_variables_that_can_be_read_on(theme: Path):
    """Links on paper and on sheets, ink on paper and on the brand's colour: WCAG's 4.5 to 1."""
    ours = (STATIC / "app.css").read_text()
    of_theme = theme.read_text()
    assert set(re.findall(r"(--[\w-]+):", of_theme)) == {"--paper", "--petrol", "--gold"}

    def colour(source: str, name: str, side: int) -> str:
        value = re.search(rf"{name}: (?:light-dark\((#\w+), (#\w+)\)|(#\w+))", source)
        assert value
        return value[3] or value[side + 1]

    for side in (0, 1):
        ink, sheet = (colour(ours, name, side) for name in ("--ink", "--sheet"))
        paper, link = (colour(of_theme, name, side) for name in ("--paper", "--petrol"))
        for above, below in ((link, paper), (link, sheet), (ink, paper)):
            assert contrast(above, below) >= 4.5, (theme.stem, above, below)
    assert contrast(colour(ours, "--ink", 0), colour(of_theme, "--gold", 0)) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
