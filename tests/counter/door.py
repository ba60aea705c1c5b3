"""People of the shop, and how they come in."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import select
from werkzeug.test import TestResponse

from domain.clock import now
from extensions import reading
from models import AdminSession, AuditEntry, User
from services import auth, totp
from tests.shop import Shop, Shopper

PASSWORD = "unkempt otters sail at noon"
INSIDE = "/admin/orders"


class Colleague(Shopper):
    """Somebody with a role, at a browser of their own."""

    def __init__(self, shop: Shop, email: str = "ada@example.com") -> None:
        super().__init__(shop)
        self.email = email
        self.secret = ""
        self.recovery_codes: list[str] = []

    @property
    def user(self) -> User:
        with reading() as session:
            return session.scalars(select(User).where(User.email == self.email)).one()

    @property
    def is_in(self) -> bool:
        return self.get(INSIDE).status_code == 200

    def elsewhere(self) -> Colleague:
        """The same person at another browser."""
        other = Colleague(self.shop, self.email)
        other.secret, other.recovery_codes = self.secret, self.recovery_codes
        return other

    def comes_by_link(self, role: str | None = None, *, code: str = "") -> TestResponse:
        token = auth.create_link(self.email, role).rpartition("=")[2]
        return self.post("/admin/login", {"token": token, "code": code})

    def comes(self, password: str = PASSWORD, code: str = "", email: str = "") -> TestResponse:
        form = {"email": email or self.email, "password": password, "code": code}
        return self.post("/admin/login", form)

    def sets_password(self, new: str = PASSWORD, present: str = "") -> TestResponse:
        return self.post("/admin/account/password", {"new": new, "present": present})

    def sets_second_factor(self, present: str = "") -> TestResponse:
        begun = self.post("/admin/account/second-factor", {"present": present})
        assert begun.status_code == 303, begun.text
        shown = re.search(r'aria-label="Key for the app">([^<]+)<', self.get("/admin/account").text)
        assert shown
        self.secret = shown[1].replace(" ", "")
        answer = self.post("/admin/account/second-factor/codes", {"code": self.code()})
        assert answer.status_code == 200, answer.text
        self.recovery_codes = codes_on(answer)
        return answer

    def code(self, steps: int = 0) -> str:
        """What the app shows, or showed, or will."""
        return totp.code_of(self.secret, totp.step_at(now()) + steps)

    def seats(self) -> list[AdminSession]:
        found: list[AdminSession] = self.shop.rows(
            AdminSession, AdminSession.user_id == self.user.id, AdminSession.ended_at.is_(None)
        )
        return found


def a_colleague(shop: Shop, *, factor: bool = False, role: str = "admin") -> Colleague:
    """Somebody who has set a password, and maybe a second factor, and has signed out again."""
    ada = Colleague(shop)
    assert ada.comes_by_link(role).status_code == 303
    assert ada.sets_password().status_code == 303
    if factor:
        ada.sets_second_factor()
        shop.clock.forward(seconds=60)  # so that the app shows another code
    ada.post("/admin/logout")
    return ada


def codes_on(page: TestResponse) -> list[str]:
    found = re.search(r'aria-label="Recovery codes">([^<]+)<', page.text)
    assert found
    return found[1].split("\n")


def audit(shop: Shop, *actions: str) -> list[tuple[str, str, str]]:
    """(who, what, about whom), oldest first."""
    rows: list[Any] = shop.rows(AuditEntry)
    return [
        (row.actor, row.action, row.subject) for row in rows if not actions or row.action in actions
    ]
