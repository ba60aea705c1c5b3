"""The door of the counter: who comes in, who does not, and for how long."""

from __future__ import annotations

import base64
import re
from html import unescape

import pytest
from structlog.testing import capture_logs

from domain.clock import now
from extensions import db, limiter, reading
from models import AdminSession, AuditEntry, User
from services import auth, passwords, totp
from tests.counter.door import INSIDE, PASSWORD, Colleague, a_colleague, audit, codes_on
from tests.shop import ORIGIN, Shop, TestShops

ADDRESS = "10.0.0.7"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 2**4)


# -- the whole way


def test_from_the_link_to_password_and_second_factor_and_in_again(shop: Shop) -> None:
    ada = Colleague(shop)
    assert ada.comes_by_link().location == INSIDE
    assert "Set a password" in ada.get(INSIDE).text  # said once, and a mark on the account stays
    assert "Set a password" not in ada.get(INSIDE).text
    assert ada.sets_password().location == "/admin/account"
    assert "Add a second factor" in ada.get("/admin/account").text
    ada.sets_second_factor()
    assert "Add a second factor" not in ada.get("/admin/account").text
    ada.post("/admin/logout")
    assert not ada.is_in

    shop.clock.forward(seconds=30)
    assert ada.comes(code=ada.code()).location == INSIDE
    assert ada.is_in
    me = "ada@example.com"
    assert audit(shop) == [
        ("command line", "changed a role", me),
        (me, "signed in", me),
        (me, "changed the password", me),
        (me, "set a second factor", me),
        (me, "signed out", me),
        (me, "signed in", me),
    ]


def test_there_is_no_default_password(sqlite_shop: Shop) -> None:
    Colleague(sqlite_shop).comes_by_link()

    for email in ("ada@example.com", "admin@example.com", "admin", ""):
        for password in ("", "admin", "password", "None"):
            assert Colleague(sqlite_shop).comes(password, email=email or " ").status_code == 403


# -- the second factor


def test_the_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B, its last six digits."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    told = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924",
            2000000000: "279037", 20000000000: "353130"}  # fmt: skip

    assert {at: totp.code_of(secret, at // 30) for at in told} == told


def test_a_code_counts_once(shop: Shop) -> None:
    ada = a_colleague(shop, factor=True)
    code = ada.code()
    assert ada.comes(code=code).status_code == 303

    assert ada.elsewhere().comes(code=code).status_code == 403
    assert ada.elsewhere().comes(code=ada.code(-1)).status_code == 403  # nor one from before it
    shop.clock.forward(seconds=30)
    assert ada.elsewhere().comes(code=ada.code()).status_code == 303


@pytest.mark.parametrize(("steps", "status"), [(-2, 403), (-1, 303), (0, 303), (1, 303), (2, 403)])
def test_a_phone_may_be_one_step_off_and_no_more(
    sqlite_shop: Shop, steps: int, status: int
) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    sqlite_shop.clock.forward(minutes=5)

    assert ada.comes(code=ada.code(steps)).status_code == status


@pytest.mark.parametrize(
    "forged", ["", "000000", "12345", "1234567", "abcdef", "٠٠٠٠٠٠", "x" * 999]
)
def test_without_the_right_code_the_password_is_not_enough(sqlite_shop: Shop, forged: str) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    assert forged != ada.code()

    assert ada.comes(code=forged).status_code == 403
    assert not ada.is_in
    spaced = f"{ada.code()[:3]} {ada.code()[3:]}"  # as apps show it
    assert ada.comes(code=spaced).status_code == 303


def test_a_code_that_set_the_factor_does_not_also_sign_in(sqlite_shop: Shop) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()
    ada.sets_password()
    ada.sets_second_factor()

    assert ada.elsewhere().comes(code=ada.code()).status_code == 403


def test_a_factor_that_was_only_begun_does_not_lock_anybody_out(sqlite_shop: Shop) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()
    ada.sets_password()
    ada.post("/admin/account/second-factor")
    wrong = ada.post("/admin/account/second-factor/codes", {"code": "000000"})

    assert wrong.status_code == 422 and "not the code" in wrong.text
    assert ada.elsewhere().comes().status_code == 303


def test_a_recovery_code_stands_for_the_phone_once(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    first, second = ada.recovery_codes[:2]
    assert len(set(ada.recovery_codes)) == 10

    assert ada.comes(code=first.upper().replace(" ", "-")).status_code == 303
    assert "You have <b>9</b> recovery codes left" in ada.get("/admin/account").text
    assert ada.elsewhere().comes(code=first).status_code == 403

    renewed = ada.post("/admin/account/recovery-codes", {"present": PASSWORD})
    assert ada.elsewhere().comes(code=second).status_code == 403
    assert ada.elsewhere().comes(code=codes_on(renewed)[0]).status_code == 303


def test_ten_wrong_codes_lock_the_codes_but_not_the_recovery_codes(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    for miss in range(10):
        assert ada.comes(code=f"{(int(ada.code()) + 7 + miss) % 10**6:06}").status_code == 403

    assert ada.comes(code=ada.code()).status_code == 403
    assert ada.comes_by_link(code=ada.code()).status_code == 403
    assert ada.comes(code=ada.recovery_codes[0]).status_code == 303
    assert ada.elsewhere().comes(code=ada.code()).status_code == 303


def test_a_form_without_a_code_is_no_wrong_code(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    for _ in range(12):
        assert ada.comes().status_code == 403

    assert ada.comes(code=ada.code()).status_code == 303


def test_a_link_asks_for_the_second_factor_too_until_it_is_reset(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    link = auth.create_link(ada.email)
    token = link.rpartition("=")[2]
    assert "Code from your authenticator app" in ada.get(link).text
    for code in ("", "000000"):
        assert ada.post("/admin/login", {"token": token, "code": code}).status_code == 403
    assert ada.post("/admin/login", {"token": token, "code": ada.code()}).status_code == 303

    lost = ada.elsewhere()
    link = auth.create_link(ada.email, reset_totp=True)
    assert "Code from your authenticator app" not in lost.get(link).text
    assert lost.post("/admin/login", {"token": link.rpartition("=")[2]}).status_code == 303
    assert ("command line", "reset the second factor", ada.email) in audit(sqlite_shop)
    assert ada.elsewhere().comes().status_code == 303  # the password stays


# -- who guesses


def test_nobody_learns_from_the_answer_who_has_an_account(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    invited = Colleague(sqlite_shop, "bo@example.com")
    auth.create_link(invited.email, "packer")
    hashings: list[int] = []
    scrypt = passwords.hashlib.scrypt
    monkeypatch.setattr(
        passwords.hashlib, "scrypt", lambda *a, **k: (hashings.append(1), scrypt(*a, **k))[1]
    )
    tries = [
        (ada.email, "wrong password", ada.code()),
        (ada.email, PASSWORD, "000000"),
        (ada.email, PASSWORD, ""),
        (invited.email, PASSWORD, ""),
        ("nobody@example.com", PASSWORD, ""),
        ("' OR 1=1 --", PASSWORD, ""),
    ]

    answers = []
    for email, password, code in tries:
        answer = Colleague(sqlite_shop).comes(password, code, email)
        told = re.sub(r'value="[^"]*"|content="[^"]*"', "", answer.text)
        answers.append((answer.status_code, told))

    assert len(set(answers)) == 1 and answers[0][0] == 403
    assert len(hashings) == len(tries)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_an_account_is_closed_to_guesses_from_wherever_they_come(
    sqlite_shops: TestShops, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    monkeypatch.setattr(limiter, "enabled", True)
    with sqlite_shops.opened(proxy_hops=1) as shop:
        ada = a_colleague(shop)
        monkeypatch.setattr(limiter, "enabled", True)

        def comes(password: str, number: int, typed: str = email) -> int:
            form = {"csrf_token": ada.token(), "email": typed, "password": password}
            headers = {"X-Forwarded-For": f"10.1.0.{number}"}
            answer = ada.browser.post("/admin/login", data=form, headers=headers, base_url=ORIGIN)
            return answer.status_code

        assert [comes(f"guess {number}", number) for number in range(1, 12)] == [403] * 10 + [429]
        assert comes(PASSWORD, 50) == 429
        assert comes(PASSWORD, 51, email.upper()) == 429
        others = "bo@example.com" if email.startswith("ada") else "ada@example.com"
        assert comes("a guess", 52, others) == 403  # nobody else is closed out by it


def test_an_address_that_tries_many_accounts_is_slowed_down(
    sqlite_shops: TestShops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "enabled", True)
    with sqlite_shops.opened() as shop:
        monkeypatch.setattr(limiter, "enabled", True)
        person = Colleague(shop)
        token = person.token()

        def comes(number: int) -> int:
            form = {"csrf_token": token, "email": f"a{number}@example.com", "password": PASSWORD}
            return person.browser.post("/admin/login", data=form, base_url=ORIGIN).status_code

        assert [comes(number) for number in range(11)] == [403] * 10 + [429]


def test_coming_in_does_not_count_as_a_guess(
    sqlite_shops: TestShops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "enabled", True)
    with sqlite_shops.opened(proxy_hops=1) as shop:
        ada = a_colleague(shop)
        monkeypatch.setattr(limiter, "enabled", True)
        form = {"csrf_token": ada.token(), "email": ada.email, "password": PASSWORD}

        for number in range(15):
            browser = shop.app.test_client()
            browser.set_cookie("shop", ada.browser.get_cookie("shop", domain="shop.test").value,
                               domain="shop.test")  # fmt: skip
            headers = {"X-Forwarded-For": f"10.2.0.{number + 1}"}
            answer = browser.post("/admin/login", data=form, headers=headers, base_url=ORIGIN)
            assert answer.status_code == 303


def test_failures_are_in_the_audit_log_without_what_was_typed(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    ada.comes("my other password")
    ada.comes(code="000000")
    ada.comes("x", email="a secret in the wrong field")

    failures = sqlite_shop.rows(AuditEntry, AuditEntry.action == "sign-in failed")
    assert [(row.actor, row.subject, row.detail.partition(",")[0]) for row in failures] == [
        (ada.email, ada.email, "wrong password"),
        (ada.email, ada.email, "wrong code"),
        ("unknown", "", "unknown account"),
    ]


def test_no_secret_is_kept_in_the_clear_nor_logged(sqlite_shop: Shop) -> None:
    with capture_logs() as lines:
        ada = a_colleague(sqlite_shop, factor=True)
        link = auth.create_link("bo@example.com").rpartition("=")[2]
        code = ada.code()
        ada.comes("a wrong password")
        ada.comes(code=code)
    with ada.browser.session_transaction(base_url=ORIGIN) as session:
        seat = session["admin_session"]
    with reading() as session:
        rows = "".join(
            str(tuple(row))
            for table in db.metadata.sorted_tables
            for row in session.execute(table.select())
        )
    logged = str(lines)

    assert "sign_in.failed" in logged
    for secret in (PASSWORD, "a wrong password", link, seat, *ada.recovery_codes,
                   *(c.replace(" ", "") for c in ada.recovery_codes)):  # fmt: skip
        assert secret not in rows and secret not in logged
    assert code not in logged and ada.secret not in logged
    told = "".join(row.detail for row in sqlite_shop.rows(AuditEntry))
    assert ada.secret not in told and code not in told


# -- passwords


@pytest.mark.parametrize(
    "password",
    [
        "", "short", "elevenchars", "x" * 129, "password1234", "P@ssw0rd2026!", "qwertyuiop12",
        "123456789012", "210987654321", "aaaaaaaaaaaa", "letmeinletmein", "Welcome-Admin-1",
        "ada@example.com", "ADA@EXAMPLE.COM", "ada@example.com1", "1q2w3e4r5t6z7u",
    ],
)  # fmt: skip
def test_a_password_that_anybody_would_try_is_refused(sqlite_shop: Shop, password: str) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()

    answer = ada.sets_password(password)

    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    if password:
        assert password not in answer.text.replace(ada.email, "")
    assert ada.user.password_hash is None


@pytest.mark.parametrize(
    "password",
    ["unkempt otters sail", "Kö!7zu_Wß?4pm", "  spaces at both ends  ", "x9#" + "ab" * 60],
)
def test_a_long_password_is_taken_as_it_is(sqlite_shop: Shop, password: str) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()
    assert ada.sets_password(password).status_code == 303

    assert ada.elsewhere().comes(password).status_code == 303
    for other in (password.swapcase(), password.strip() + " ", password[:-1]):
        assert other == password or ada.elsewhere().comes(other).status_code == 403


def test_one_password_in_two_spellings_of_unicode_is_one(sqlite_shop: Shop) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()
    ada.sets_password("drei k\u00fchle b\u00e4ren")

    assert ada.comes("drei ku\u0308hle ba\u0308ren").status_code == 303


def test_two_hashes_of_one_password_differ_and_cost_what_they_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    first, second = passwords.hashed(PASSWORD), passwords.hashed(PASSWORD)

    assert first != second
    assert first.startswith("scrypt:32768:8:3:")
    assert passwords.matches(PASSWORD, first) and passwords.matches(PASSWORD, second)
    assert not passwords.matches("x" * 32, None)


def test_a_change_takes_the_present_password_and_ends_the_other_sessions(shop: Shop) -> None:
    ada = a_colleague(shop)
    elsewhere = ada.elsewhere()
    assert ada.comes().status_code == elsewhere.comes().status_code == 303
    new = "seven brass lanterns"
    for present in ("", "wrong"):
        refused = ada.sets_password(new, present)
        assert refused.status_code == 422 and "not your password" in refused.text

    assert ada.sets_password(new, PASSWORD).status_code == 303
    assert ada.is_in and not elsewhere.is_in
    assert ada.elsewhere().comes().status_code == 403
    assert ada.elsewhere().comes(new).status_code == 303


def test_who_has_just_come_by_a_link_may_have_forgotten_the_password(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes_by_link()
    assert "Your present password" not in ada.get("/admin/account").text
    assert ada.sets_password("seven brass lanterns").status_code == 303

    sqlite_shop.clock.forward(minutes=61)
    assert "Your present password" in ada.get("/admin/account").text
    assert ada.sets_password("eight brass lanterns").status_code == 422


@pytest.mark.parametrize(
    "path",
    ["/admin/account/second-factor/removal", "/admin/account/recovery-codes"],
)
def test_the_second_factor_is_not_touched_without_the_password(
    sqlite_shop: Shop, path: str
) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    ada.comes(code=ada.code())
    before = ada.user.recovery_codes

    assert ada.post(path, {"present": "wrong"}).status_code == 422
    assert ada.user.totp_secret and ada.user.recovery_codes == before
    assert ada.post(path, {"present": PASSWORD}).status_code in (200, 303)
    assert ada.user.recovery_codes != before


def test_a_second_factor_is_not_replaced_by_a_form_left_open(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    ada.comes(code=ada.code())

    again = ada.post("/admin/account/second-factor", {"present": PASSWORD})
    assert again.status_code == 409
    late = ada.post("/admin/account/second-factor/codes", {"code": ada.code(1)})
    assert late.status_code == 409
    assert ada.user.totp_secret == ada.secret


def test_a_second_factor_comes_on_top_of_a_password(sqlite_shop: Shop) -> None:
    ada = Colleague(sqlite_shop)
    ada.comes_by_link()

    assert ada.post("/admin/account/second-factor").status_code == 409
    assert ada.user.totp_pending is None


# -- sessions


def test_a_session_that_was_there_before_is_not_the_one_afterwards(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    with ada.browser.session_transaction(base_url=ORIGIN) as session:
        session["admin_session"] = "planted"
    assert not ada.is_in
    ada.comes()
    with ada.browser.session_transaction(base_url=ORIGIN) as session:
        first = session["admin_session"]
    assert first != "planted" and len(first) >= 40

    ada.comes()

    with ada.browser.session_transaction(base_url=ORIGIN) as session:
        assert session["admin_session"] != first
    assert len(ada.seats()) == 1  # the one before has ended
    thief = Colleague(sqlite_shop)
    for stolen in (first, auth._hash(first), ada.seats()[0].id, 1, None, "", ["x"]):
        with thief.browser.session_transaction(base_url=ORIGIN) as session:
            session["admin_session"] = stolen
        assert not thief.is_in


def test_after_signing_out_a_copy_of_the_cookie_opens_nothing(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    cookie = ada.browser.get_cookie("shop", domain="shop.test")
    assert cookie
    copy = Colleague(sqlite_shop)
    copy.browser.set_cookie("shop", cookie.value, domain="shop.test")
    assert copy.is_in

    ada.post("/admin/logout")

    copy.browser.set_cookie("shop", cookie.value, domain="shop.test")
    assert not copy.is_in


def test_a_session_ends_unused_after_a_working_day_and_used_after_a_week(
    sqlite_shop: Shop,
) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    sqlite_shop.clock.forward(hours=11, minutes=59)
    assert ada.is_in
    sqlite_shop.clock.forward(hours=11, minutes=59)
    assert ada.is_in
    sqlite_shop.clock.forward(hours=12)
    assert not ada.is_in

    ada.comes()
    for _ in range(14):
        sqlite_shop.clock.forward(hours=11, minutes=50)
        assert ada.is_in
    sqlite_shop.clock.forward(hours=3)
    assert not ada.is_in


def test_one_session_is_ended_from_another_and_all_at_once(shop: Shop) -> None:
    ada = a_colleague(shop)
    here, there, third = ada, ada.elsewhere(), ada.elsewhere()
    for browser in (here, there, third):
        browser.comes()
        shop.clock.forward(seconds=1)
    page = here.get("/admin/account").text
    assert page.count("by password") == 3 and page.count("This browser") == 1
    ended = ada.seats()
    theirs = next(seat for seat in ended if seat.created_at == sorted(
        one.created_at for one in ended)[1])  # fmt: skip

    assert here.post("/admin/account/signouts", {"session": theirs.id}).status_code == 303
    assert (here.is_in, there.is_in, third.is_in) == (True, False, True)

    assert here.post("/admin/account/signouts").location == "/admin/login"
    assert not here.is_in and not third.is_in
    assert len(audit(shop, "signed out elsewhere")) == 2


def test_nobody_ends_the_session_of_somebody_else(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    bo = Colleague(sqlite_shop, "bo@example.com")
    bo.comes_by_link("admin")

    bo.post("/admin/account/signouts", {"session": ada.seats()[0].id})
    assert ada.is_in
    bo.post("/admin/account/signouts", {"session": "no such"})
    assert ada.is_in and bo.is_in


def test_signing_out_keeps_the_basket_and_signing_in_too(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.put_in_cart()
    basket = ada.cart()

    ada.comes()
    assert ada.cart() == basket
    ada.post("/admin/logout")
    assert ada.cart() == basket


def test_looking_at_pages_hardly_ever_writes(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    first = ada.seats()[0].seen_at
    sqlite_shop.clock.forward(minutes=4)
    assert ada.is_in and ada.seats()[0].seen_at == first

    sqlite_shop.clock.forward(minutes=2)
    assert ada.is_in and ada.seats()[0].seen_at == now()


def test_sessions_that_are_long_over_are_forgotten(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    sqlite_shop.clock.forward(days=31)

    ada.comes()

    assert sqlite_shop.count(AdminSession) == 1
    assert sqlite_shop.count(User) == 1


def test_the_key_is_also_a_picture_that_holds_the_whole_address(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    ada.post("/admin/account/second-factor", {"present": PASSWORD})

    page = ada.get("/admin/account").text

    address = re.search(r'href="(otpauth://[^"]+)"', page)
    drawn = re.search(r'aria-label="QR code of the key below">(<svg.*?</svg>)', page, re.S)
    assert address and drawn
    assert drawn[1] == totp.picture(unescape(address[1]))
    assert "style=" not in drawn[1] and "<script" not in drawn[1]
    ada.sets_second_factor(present=PASSWORD)
    assert "QR code" not in ada.get("/admin/account").text, "it is shown while it is set up"
