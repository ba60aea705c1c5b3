"""The door of the admin's side: by link, then by password and code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
PASSWORD = "unkempt otters sail at noon"


def code_of(key: str, ahead: int = 0) -> str:
    """What an authenticator app shows for this key (RFC 6238)."""
    step = int(time.time()) // 30 + ahead
    secret = base64.b32decode(key.replace(" ", ""))
    mac = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    part = mac[mac[-1] & 15 :][:4]
    return f"{(int.from_bytes(part, 'big') & 0x7FFFFFFF) % 10**6:06}"


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_from_the_link_to_a_second_factor_and_in_again(shop: DemoShop, visit: Visit, scripts: bool):
    email = f"ada.{scripts}@example.com".lower()
    ada = visit(shop, java_script_enabled=scripts)
    ada.expected += ["403 (", "422 ("]
    ada.opens(shop.flask("admin", "create", email).stdout.strip())
    ada.presses("Sign in")
    ada.sees("Set a password, so that you come in again without a link.")
    ada.follows("To your account")

    ada.page.get_by_role("textbox", name="Password").fill("password1234")
    ada.presses("Set password")
    ada.sees("everybody tries first")
    ada.page.get_by_role("textbox", name="Password").fill(PASSWORD)
    ada.presses("Set password")
    ada.sees("Your password is set.")

    ada.presses("Begin")
    key = ada.page.get_by_label("Key for the app").inner_text()
    ada.page.get_by_label("The code that it shows").fill(code_of(key))
    ada.presses("Set second factor")
    ada.sees("they are shown only now")
    assert len(ada.page.get_by_label("Recovery codes", exact=True).inner_text().split("\n")) == 10
    ada.presses("Sign out")
    ada.page.wait_for_url("**/admin/login")

    def comes(code: str) -> None:
        ada.page.get_by_label("E-mail").fill(email)
        ada.page.get_by_role("textbox", name="Password").fill(PASSWORD)
        ada.page.get_by_label("Code, if you have a second factor").fill(code)
        ada.presses("Sign in")

    comes("")
    ada.sees("That did not match.")
    assert ada.page.get_by_label("E-mail").input_value() == email
    comes(code_of(key, ahead=1))  # the one before has set the factor up, and counts no more
    ada.page.wait_for_url("**/admin/orders")
    assert ada.headline == "Orders"


def test_a_colleague_is_invited_sees_what_they_may_and_is_let_go(shop: DemoShop, visit: Visit):
    boss, pat = visit(shop), visit(shop)
    pat.expected.append("403 (")
    boss.opens(shop.flask("admin", "create", "boss@example.com").stdout.strip())
    boss.presses("Sign in")
    boss.follows("People")
    boss.page.get_by_label("Their e-mail address").fill("pat@example.com")
    boss.page.get_by_role("radio", name="Packer.").check()
    boss.presses("Make a link")
    pat.opens(boss.page.get_by_label("Sign-in link").inner_text())
    pat.presses("Sign in")
    pat.page.wait_for_url("**/admin/orders")

    expect(pat.page.get_by_role("button", name="Sync with Stripe")).to_have_count(0)
    navigation = pat.page.get_by_role("navigation", name="Admin")
    links = [text.split("\n")[0] for text in navigation.get_by_role("link").all_inner_texts()]
    assert links[1:] == ["Orders", "Exceptions", "Products", "Webhooks", "Health"]
    pat.opens("/admin/settings")
    pat.sees("Your role here is packer")

    boss.opens("/admin/people")
    boss.page.get_by_label("Role of pat@example.com").select_option("No access")
    boss.presses("Change the role of pat@example.com")
    boss.sees("pat@example.com has no access any more.")
    pat.opens("/admin/orders")
    assert pat.page.url.endswith("/admin/login")
