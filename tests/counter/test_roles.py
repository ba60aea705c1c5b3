"""Who may do what at the counter: every address of the shop's own map, for everybody there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.routing import Rule

from blueprints import roles
from domain.roles import ROLES
from models import Shipment, User
from services import auth, shipping, staff
from tests.counter.door import PASSWORD, Colleague, a_colleague, audit
from tests.counter.scenes import a_paid_order, at_once
from tests.pages.test_doors import everything
from tests.shop import MUG, ORIGIN, Checkout, Shop, Shopper, TestShops

LADDER = ["anonymous", "shopper", "viewer", "packer", "refunds", "admin"]
EVERYBODY = "anonymous"

# The lowest that may, written down once more on purpose: a rule that is loosened by mistake shows,
# and an address that has no line here makes the test fail.
LOWEST = {
    "GET /admin/login": EVERYBODY,
    "POST /admin/login": EVERYBODY,
    "POST /admin/logout": "viewer",
    "GET /admin": "viewer",
    "GET /admin/orders": "viewer",
    "GET /admin/order-changes": "viewer",
    "GET /admin/packing-slips": "packer",
    "POST /admin/orders/<order_id>/notes": "packer",
    "POST /admin/orders/<order_id>/notes/<int(max=2147483647):note_id>": "packer",
    "POST /admin/orders/<order_id>/receipts": "packer",
    "POST /admin/order-views": "packer",
    "POST /admin/order-views/removals": "packer",
    "GET /admin/order-shipments": "packer",
    "POST /admin/order-shipments": "packer",
    "POST /admin/order-receipts": "packer",
    "POST /admin/order-exports": "packer",
    "POST /admin/order-syncs": "admin",
    "GET /admin/orders/<order_id>": "viewer",
    "GET /admin/orders/<order_id>/invoice": "viewer",
    "GET /admin/exceptions": "viewer",
    "GET /admin/webhooks": "viewer",
    "GET /admin/webhooks/<event_id>": "viewer",
    "GET /admin/health": "viewer",
    "GET /admin/account": "viewer",
    "POST /admin/account/password": "viewer",
    "POST /admin/account/second-factor": "viewer",
    "POST /admin/account/second-factor/codes": "viewer",
    "POST /admin/account/second-factor/removal": "viewer",
    "POST /admin/account/recovery-codes": "viewer",
    "POST /admin/account/signouts": "viewer",
    "POST /admin/orders/<order_id>/packing": "packer",
    "POST /admin/orders/<order_id>/shipments": "packer",
    "POST /admin/orders/<order_id>/delivery": "packer",
    "POST /admin/orders/<order_id>/links": "packer",
    "GET /admin/products": "viewer",
    "GET /admin/products.csv": "viewer",
    "GET /admin/products/<sku>": "viewer",
    "POST /admin/products/<sku>/receipts": "packer",
    "POST /admin/products/<sku>/corrections": "packer",
    "GET /admin/new-product": "admin",
    "POST /admin/products": "admin",
    "POST /admin/products/<sku>": "admin",
    "POST /admin/products/<sku>/archiving": "admin",
    "POST /admin/products/<sku>/return": "admin",
    "GET /admin/product-imports": "admin",
    "POST /admin/product-imports": "admin",
    "POST /admin/product-imports/confirmations": "admin",
    "GET /admin/orders/<order_id>/person": "admin",
    "POST /admin/orders/<order_id>/erasures": "admin",
    "GET /admin/orders/<order_id>/refund": "refunds",
    "POST /admin/orders/<order_id>/refund": "refunds",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/refunds": "refunds",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/acceptance": "refunds",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/notes": "refunds",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/reopenings": "refunds",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/looks": "admin",
    "POST /admin/exceptions/<int(max=2147483647):exception_id>/replays": "admin",
    "GET /admin/webhook-targets": "viewer",
    "POST /admin/webhook-targets/replays": "admin",
    "POST /admin/key-tests": "admin",
    "GET /admin/webhook-setup": "admin",
    "POST /admin/webhook-rehearsals": "admin",
    "POST /admin/webhook-replays": "admin",
    "POST /admin/webhook-fetches": "admin",
    "POST /admin/webhooks/<event_id>/dismissals": "admin",
    "GET /admin/orders/<order_id>/evidence": "refunds",
    "POST /admin/orders/<order_id>/subscriptions/<int:row_id>/cancel": "refunds",
    "POST /admin/orders/<order_id>/subscriptions/<int:row_id>/resume": "refunds",
    "POST /admin/orders/<order_id>/sync": "admin",
    "POST /admin/sync": "admin",
    "POST /api/admin/sync-orders": "admin",
    "POST /admin/proofs": "admin",
    "GET /admin/jobs": "admin",
    "POST /admin/jobs/retries": "admin",
    "POST /admin/jobs/drops": "admin",
    "GET /admin/settings": "admin",
    "POST /admin/settings": "admin",
    "POST /admin/settings/undos": "admin",
    "GET /admin/people": "admin",
    "POST /admin/people": "admin",
    "POST /admin/people/links": "admin",
    "POST /admin/people/roles": "admin",
    "POST /admin/people/signouts": "admin",
}


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    return a_paid_order(sqlite_shop)


def counter(shop: Shop) -> Iterator[tuple[str, Rule]]:
    """(method and address, rule) of everything at the counter, pages and API."""
    for rule in shop.app.url_map.iter_rules():
        if rule.endpoint.startswith("admin") or "/admin" in rule.rule:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield f"{method} {rule.rule}", rule


def come(shop: Shop, who: str, bought: Checkout) -> Shopper:
    """Somebody of this kind; a shopper is the one whose order it is."""
    if who in ROLES:
        somebody = Colleague(shop, f"{who}@example.com")
        assert somebody.comes_by_link(who).status_code == 303
        return somebody
    return bought.shopper if who == "shopper" else shop.shopper()


def open_it(person: Shopper, named: str, bought: Checkout) -> Any:
    method, path = named.split()
    path = path.replace("<order_id>", bought.order_id).replace("<sku>", MUG)
    path = re.sub(r"<int.*exception_id>", "1", path)
    path = re.sub(r"<int.*note_id>", "1", path)
    path = path.replace("<event_id>", bought.shopper.shop.events()[0].id)
    path = path.replace("<int:row_id>", "1")
    return person.get(path) if method == "GET" else person.post(path)


def test_every_address_of_the_counter_has_a_rule(sqlite_shop: Shop) -> None:
    found = dict(counter(sqlite_shop))

    assert set(found) == set(LOWEST), "write its rule into blueprints/roles.py, and here"
    named = {rule.endpoint for rule in found.values()}
    assert named == set(roles.NEEDS) | roles.OPEN


@pytest.mark.parametrize("who", LADDER)
def test_everybody_gets_in_where_they_may_and_nowhere_else(
    sqlite_shop: Shop, bought: Checkout, who: str
) -> None:
    rank = LADDER.index(who)
    refused = opened = 0
    for named, _ in counter(sqlite_shop):
        person = come(sqlite_shop, who, bought)
        person.token()  # so that what the answer changes is all that changes
        before = everything(sqlite_shop)

        answer = open_it(person, named, bought)

        turned_away = answer.status_code == 303 and answer.location == "/admin/login"
        if LOWEST[named] == EVERYBODY:
            assert answer.status_code in (200, 403) and not turned_away
        elif rank >= LADDER.index(LOWEST[named]):
            opened += 1
            leaves = named in ("POST /admin/logout", "POST /admin/account/signouts")
            assert answer.status_code in (200, 303, 404, 409, 422), (named, answer.status_code)
            assert turned_away == leaves, named
        else:
            refused += 1
            if who in ROLES or named.split()[1].startswith("/api/"):
                assert answer.status_code == 403, named
            else:
                assert turned_away, named
            assert "maya@example.com" not in answer.text
            assert everything(sqlite_shop) == before, named
    assert (opened > 0) == (who in ROLES)
    assert (refused > 0) == (who != "admin")


def test_an_address_without_a_rule_is_closed_even_to_admins(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened(anew=True) as shop:
        shop.app.add_url_rule("/admin/brand-new", "admin.brand_new", lambda: "come in")
        admin = Colleague(shop)
        admin.comes_by_link("admin")

        answer = admin.get("/admin/brand-new")

        assert answer.status_code == 403 and "come in" not in answer.text
        assert "GET /admin/brand-new" in dict(counter(shop))  # and the test above would see it


@pytest.mark.parametrize("who", list(ROLES))
def test_no_page_offers_a_role_what_it_may_not_do(
    sqlite_shop: Shop, bought: Checkout, who: str
) -> None:
    person = come(sqlite_shop, who, bought)
    adapter = sqlite_shop.app.url_map.bind("shop.test")
    offered: set[str] = set()

    def look() -> None:
        for page in ("/admin/orders", f"/admin/orders/{bought.order_id}", "/admin/exceptions",
                     "/admin/webhooks", "/admin/health", "/admin/account"):  # fmt: skip
            answer = person.get(page)
            assert answer.status_code == 200
            for tag in re.findall(r"<(?:a|form|button)\b[^>]*>", answer.text):
                posts = 'method="post"' in tag or "formaction" in tag
                method = "POST" if posts and 'formmethod="get"' not in tag else "GET"
                for path in re.findall(r'(?:href|action|hx-post)="(/admin[^"#?]*)', tag):
                    endpoint, _ = adapter.match(path, method=method)
                    offered.add(str(endpoint))
                    assert roles.may(who, str(endpoint)), (who, page, tag)

    look()
    shipping.pack(bought.order_id, actor="pat", version=sqlite_shop.the_order().version)
    look()

    assert {"admin.orders", "admin.account", "admin.logout"} <= offered
    assert ("admin.pack" in offered) == ("admin.ship" in offered) == (who != "viewer")
    assert ("admin.refund_form" in offered) == (who in ("refunds", "admin"))
    for engine_room in ("admin.sync", "admin.sync_orders", "admin.jobs", "admin.people"):
        assert (engine_room in offered) == (who == "admin")


def test_an_alert_leads_nobody_to_a_closed_door(sqlite_shop: Shop, bought: Checkout) -> None:
    admin, viewer = come(sqlite_shop, "admin", bought), come(sqlite_shop, "viewer", bought)
    off = {"background_sync": "off", "reason": "a diagnosis"}
    assert admin.post("/admin/settings", off).status_code == 303

    for page in ("/admin/orders", "/admin/health"):
        assert 'href="/admin/settings#background_sync">See to it' in admin.get(page).text
        seen = viewer.get(page).text
        assert "Background sync is switched off" in seen and "See to it" not in seen


def test_a_packer_ships_and_gives_no_money_back(sqlite_shop: Shop, bought: Checkout) -> None:
    packer = come(sqlite_shop, "packer", bought)
    path = f"/admin/orders/{bought.order_id}"
    version = {"version": sqlite_shop.the_order().version}
    assert packer.post(f"{path}/packing", version).status_code == 303
    units = {
        f"units-{item}": "1" for item in re.findall(r'id="units-(\d+)"', packer.get(path).text)
    }

    version = {"version": sqlite_shop.the_order().version}
    parcel = {**version, **units, "carrier": "DHL"}
    assert packer.post(f"{path}/shipments", parcel).status_code == 303
    refused = packer.post(f"{path}/refund", {"amount": "1.00", "key": "k"})

    assert refused.status_code == 403 and "Your role here is packer" in refused.text
    assert sqlite_shop.count(Shipment) == 1
    assert sqlite_shop.the_order().status == "shipped"
    sqlite_shop.work()
    assert sqlite_shop.sandbox.ledger()["refunds"] == []


def test_the_api_keeps_to_the_roles_too(sqlite_shop: Shop, bought: Checkout) -> None:
    for who in LADDER:
        answer = come(sqlite_shop, who, bought).json("POST", "/api/admin/sync-orders")
        assert answer.status_code == (200 if who == "admin" else 403), who
    assert set(answer.get_json()) == {"synced", "failed", "skipped"}


# -- people


def person_id(shop: Shop, email: str) -> int:
    found: int = next(user.id for user in shop.rows(User) if user.email == email)
    return found


def link_on(page: str) -> str:
    found = re.search(r'aria-label="Sign-in link">([^<]+)<', page)
    assert found
    return found[1].removeprefix(ORIGIN)


def test_somebody_is_invited_by_a_link_that_is_shown_once(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    assert "You are alone here" in ada.get("/admin/people").text

    page = ada.post("/admin/people", {"email": " Bo@Example.com ", "role": "packer"})

    token = link_on(page.text).rpartition("=")[2]
    assert token not in ada.get("/admin/people").text
    bo = Colleague(sqlite_shop, "bo@example.com")
    assert bo.post("/admin/login", {"token": token}).status_code == 303
    assert bo.user.role == "packer" and bo.is_in
    listed = ada.get("/admin/people").text
    assert "bo@example.com" in listed and "Has not come in yet" not in listed
    assert ("ada@example.com", "invited", "bo@example.com") in audit(sqlite_shop)


@pytest.mark.parametrize(
    ("email", "role", "told"),
    [
        ("bo", "packer", "Enter an e-mail address"),
        ("", "packer", "Enter an e-mail address"),
        ("bo@example.com", "owner", "Choose one of the roles"),
        ("bo@example.com", "shopper", "Choose one of the roles"),
        ("ada@example.com", "viewer", "is here already, as admin"),
        ("ADA@example.com", "viewer", "is here already, as admin"),
    ],
)
def test_an_invitation_that_makes_no_sense_is_refused(
    sqlite_shop: Shop, email: str, role: str, told: str
) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()

    answer = ada.post("/admin/people", {"email": email, "role": role})

    assert answer.status_code == 422 and told in answer.text
    assert [(user.email, user.role) for user in sqlite_shop.rows(User)] == [
        ("ada@example.com", "admin")
    ]


def test_nobody_at_the_counter_comes_in_as_a_colleague(sqlite_shop: Shop) -> None:
    """A new link is made for who has no password yet; for everybody else by the command line."""
    ada = a_colleague(sqlite_shop)
    ada.comes()
    first = link_on(ada.post("/admin/people", {"email": "bo@example.com", "role": "viewer"}).text)
    bo_id = person_id(sqlite_shop, "bo@example.com")
    second = link_on(ada.post("/admin/people/links", {"person": bo_id}).text)
    assert first != second
    bo = Colleague(sqlite_shop, "bo@example.com")
    bo.post("/admin/login", {"token": second.rpartition("=")[2]})
    bo.sets_password()

    refused = ada.post("/admin/people/links", {"person": bo_id})

    assert refused.status_code == 409 and "flask admin create bo@example.com" in refused.text
    assert "Sign-in link" not in refused.text


def test_another_role_counts_at_the_next_page(sqlite_shop: Shop, bought: Checkout) -> None:
    ada, pat = come(sqlite_shop, "admin", bought), come(sqlite_shop, "packer", bought)
    pat_id = person_id(sqlite_shop, "packer@example.com")
    refund = f"/admin/orders/{bought.order_id}/refund"
    assert pat.get(refund).status_code == 403

    ada.post("/admin/people/roles", {"person": pat_id, "role": "refunds"})
    assert pat.get(refund).status_code == 200
    ada.post("/admin/people/roles", {"person": pat_id, "role": "viewer"})
    assert pat.get(refund).status_code == 403 and pat.get("/admin/orders").status_code == 200
    assert (
        audit(sqlite_shop, "changed a role")[-2:]
        == [("admin@example.com", "changed a role", "packer@example.com")] * 2
    )


def test_who_loses_access_is_out_at_once_and_stays_out(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    boss = Colleague(sqlite_shop, "boss@example.com")
    boss.comes_by_link("admin")
    ada.comes(code=ada.code())
    spare = auth.create_link(ada.email).rpartition("=")[2]

    ada_id = person_id(sqlite_shop, ada.email)
    answer = boss.post("/admin/people/roles", {"person": ada_id, "role": "shopper"})

    assert answer.status_code == 303 and not ada.is_in
    sqlite_shop.clock.forward(minutes=1)
    assert ada.comes(code=ada.code()).status_code == 403
    assert ada.post("/admin/login", {"token": spare}).status_code == 403
    listed = re.findall(r'<h2 id="person-\d+">([^<\s]+)', boss.get("/admin/people").text)
    assert listed == ["boss@example.com"]
    again = {"person": ada_id, "role": "viewer"}
    assert boss.post("/admin/people/roles", again).status_code == 404
    assert boss.post("/admin/people/links", again).status_code == 404
    assert boss.post("/admin/people", {"email": ada.email, "role": "viewer"}).status_code == 200
    assert ada.user.password_hash is None and ada.user.totp_secret is None


@pytest.mark.parametrize("role", ["shopper", "viewer", "packer", "refunds"])
def test_the_last_admin_stays_one(sqlite_shop: Shop, role: str) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    pat = Colleague(sqlite_shop, "pat@example.com")
    pat.comes_by_link("refunds")
    me = {"person": person_id(sqlite_shop, ada.email), "role": role}

    refused = ada.post("/admin/people/roles", me)
    assert refused.status_code == 409 and "last admin" in refused.text
    assert ada.user.role == "admin" and ada.is_in

    pats = {"person": person_id(sqlite_shop, pat.email), "role": "admin"}
    ada.post("/admin/people/roles", pats)
    assert ada.post("/admin/people/roles", me).location == "/admin"  # a page that one may see
    assert ada.user.role == role


def test_two_admins_who_demote_each_other_leave_one(shop: Shop) -> None:
    for _ in range(5):
        both = [Colleague(shop, f"{name}@example.com") for name in ("ada", "bo")]
        for one in both:
            one.comes_by_link("admin")
        ada, bo = (one.user for one in both)

        results = at_once(
            shop,
            lambda a=ada, b=bo: staff.change_role(a, b.id, "viewer"),
            lambda a=ada, b=bo: staff.change_role(b, a.id, "viewer"),
        )

        assert sum(isinstance(result, staff.LastAdmin) for result in results) == 1
        assert sorted(one.user.role for one in both) == ["admin", "viewer"]


def test_a_colleague_is_signed_out_everywhere_and_may_come_back(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes()
    boss = Colleague(sqlite_shop, "boss@example.com")
    boss.comes_by_link("admin")
    ada_id = person_id(sqlite_shop, ada.email)

    assert boss.post("/admin/people/signouts", {"person": ada_id}).status_code == 303
    assert not ada.is_in and boss.is_in
    assert ada.comes().status_code == 303
    assert boss.post("/admin/people/signouts", {"person": "no one"}).status_code == 404


def test_the_people_page_shows_what_happened_at_the_door(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop)
    ada.comes("a wrong one")
    ada.comes()

    page = ada.get("/admin/people").text

    for shown in ("Sign-in failed", "wrong password", "127.0.0.1", "Changed the password"):
        assert shown in page, shown
    assert "a wrong one" not in page


# -- the command line


def create(shop: Shop, *words: str) -> Any:
    return shop.app.test_cli_runner().invoke(args=["admin", "create", *words])


def test_the_command_line_lets_an_admin_in_and_changes_no_role_unasked(sqlite_shop: Shop) -> None:
    told = create(sqlite_shop, "Ada@Example.com")
    assert told.exit_code == 0
    assert re.fullmatch(rf"{ORIGIN}/admin/login\?token=\S+\n", told.stdout)
    assert [(user.email, user.role) for user in sqlite_shop.rows(User)] == [
        ("ada@example.com", "admin")
    ]

    create(sqlite_shop, "pat@example.com", "--role", "packer")
    create(sqlite_shop, "pat@example.com")  # only another link
    assert Colleague(sqlite_shop, "pat@example.com").user.role == "packer"
    create(sqlite_shop, "pat@example.com", "--role", "admin")
    assert Colleague(sqlite_shop, "pat@example.com").user.role == "admin"
    assert create(sqlite_shop, "pat@example.com", "--role", "owner").exit_code == 2


def test_the_command_line_forgets_a_lost_phone_only_when_told(sqlite_shop: Shop) -> None:
    ada = a_colleague(sqlite_shop, factor=True)
    create(sqlite_shop, ada.email)
    assert ada.user.totp_secret

    create(sqlite_shop, ada.email, "--reset-totp")

    assert ada.user.totp_secret is None and ada.user.recovery_codes == []
    assert ada.comes(PASSWORD).status_code == 303


def test_a_role_that_is_none_of_ours_may_nothing() -> None:
    for role in ("", "shopper", "Admin", "owner", None):
        assert not roles.reach(role)  # type: ignore[arg-type]
    assert not roles.may("admin", None) and not roles.may("admin", "storefront.catalogue")
    assert roles.reach("viewer") < roles.reach("packer") < roles.reach("refunds")
    assert roles.reach("refunds") < roles.reach("admin") == frozenset(roles.NEEDS)
