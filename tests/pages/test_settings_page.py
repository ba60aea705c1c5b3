"""The settings page, the button that syncs, and the alerts over every page of the counter."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from domain.strategies import STRATEGIES
from extensions import atomic
from models import AuditEntry, User
from services import diagnosis, leases, settings
from tests.pages.conftest import signed_in
from tests.pages.test_doors import everything
from tests.shop import MUG, ORIGIN, Shop, Shopper, TestShops

PAGE = "/admin/settings"
SYNC = "/api/admin/sync-orders"
HTMX = {"HX-Request": "true"}


def saves(admin: Shopper, **fields: str) -> TestResponse:
    """The page's form, filled in from what it shows, with some fields changed."""
    page = admin.get(PAGE).text
    form = {"reason": "to see what it does", "rollout_strategy": chosen(page, "rollout_strategy")}
    for tag in re.findall(r"<input\b[^>]*>", page.partition('id="settings-form"')[2]):
        name, value = attribute(tag, "name"), attribute(tag, "value")
        if name in ("seen", "rollout_percent") or " checked" in tag:
            form.setdefault(name, value)
    return admin.post(PAGE, {**form, **fields})


def attribute(tag: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    return unescape(found[1]) if found else ""


def chosen(page: str, name: str) -> str:
    options = page.partition(f'<select class="field" id="{name}"')[2].partition("</select>")[0]
    return (re.findall(r'value="(\w*)" selected', options) or [""])[0]


def checked(page: str, name: str) -> str:
    (radio,) = re.findall(rf'<input type="radio"[^>]*name="{name}"[^>]* checked', page)
    return attribute(radio, "value")


def words(answer: TestResponse) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


# -- what the page shows and changes


def test_the_page_says_what_each_choice_means(sqlite_shop: Shop, admin: Shopper) -> None:
    page = admin.get(PAGE)

    for strategy in STRATEGIES.values():
        assert strategy.promise in words(page)
    assert checked(page.text, "order_strategy") == "order_first"
    assert "keeps the strategy it began with" in words(page)
    assert "25 means: of 100 shoppers about 25" in words(page)
    assert words(page).count(" Off: ") == 2
    assert f'href="{PAGE}" aria-current="page">' in page.text


@pytest.mark.accept("D33")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_is_saved_is_the_next_checkouts(
    sqlite_shop: Shop, admin: Shopper, strategy: str
) -> None:
    running = sqlite_shop.shopper().buy()

    saves(admin, order_strategy=strategy)

    fresh = sqlite_shop.shopper().buy()
    assert sqlite_shop.attempt(fresh.order_id).strategy_name == strategy
    assert sqlite_shop.attempt(running.order_id).strategy_name == "order_first"
    assert checked(admin.get(PAGE).text, "order_strategy") == strategy


@pytest.mark.accept("D33")
@pytest.mark.parametrize(
    ("field", "value", "means"),
    [
        ("background_sync", "off", False),
        ("landing_lookup", "off", False),
        ("live_updates", "sse", "sse"),
        ("rollout_percent", "25", 25),
    ],
)
def test_each_flag_can_be_switched_and_only_that_one_changes(
    sqlite_shop: Shop, admin: Shopper, field: str, value: str, means: object
) -> None:
    answer = saves(admin, **{field: value})

    assert (answer.status_code, answer.location) == (303, PAGE)
    assert "Saved. It counts from the next checkout on." in words(admin.get(PAGE))
    assert "Saved." not in words(admin.get(PAGE))
    assert [list(change.steps) for change in settings.changes()] == [[field]]
    assert getattr(settings.current(), field) == means


def test_what_a_form_leaves_out_stays_as_it_is(sqlite_shop: Shop, admin: Shopper) -> None:
    saves(admin, background_sync="off", rollout_strategy="dual_track", rollout_percent="25")
    admin.post(PAGE, {"order_strategy": "pay_first", "reason": "more orders"})

    now = settings.current()
    assert (now.order_strategy, now.rollout) == ("pay_first", ("dual_track", 25))
    assert not now.background_sync


@pytest.mark.accept("D36")
def test_a_rollout_can_be_set_and_ended(sqlite_shop: Shop, admin: Shopper) -> None:
    saves(admin, rollout_strategy="dual_track", rollout_percent="100")
    rolled = sqlite_shop.shopper().buy()
    assert "Now 100 of 100 get dual track, the others order first." in words(admin.get(PAGE))
    saves(admin, rollout_strategy="")

    assert sqlite_shop.attempt(rolled.order_id).strategy_name == "dual_track"
    assert settings.current().rollout is None
    later = sqlite_shop.shopper().buy()
    assert sqlite_shop.attempt(later.order_id).strategy_name == "order_first"


BAD = [
    ("order_strategy", "gold_first", "There is no strategy 'gold_first'; it is one of order_first"),
    ("order_strategy", "", "There is no strategy ''"),
    ("rollout_strategy", "<b>gold", "There is no strategy '<b>gold'"),
    *(
        ("rollout_percent", text, "The rollout is a whole percentage from 0 to 100.")
        for text in ("101", "-1", "2.5", "2,5", "٣", "", "25 %", "1e1", "9" * 400)
    ),
    ("background_sync", "maybe", "Background sync is either on or off."),
    ("live_updates", "telegraph", "Live updates are one of poll, sse."),
    ("reason", "", "Say why"),
    ("reason", " \u202e\t ", "Say why"),
    ("reason", "x" * 201, "Say why in at most 200 characters."),
]


@pytest.mark.parametrize(("field", "text", "answer"), BAD)
def test_bad_input_is_named_kept_and_changes_nothing(
    sqlite_shop: Shop, admin: Shopper, field: str, text: str, answer: str
) -> None:
    typed = {"rollout_percent": "7", "reason": "because & so", field: text}
    before = everything(sqlite_shop)

    page = saves(admin, **typed)

    assert page.status_code == 422
    assert everything(sqlite_shop) == before
    assert "One thing needs another look. Nothing was saved" in words(page)
    assert words(page).count(answer) == 2  # in the summary on top, and at its field
    assert f'<a href="#{field}">' in page.text and f'id="{field}"' in page.text
    assert f'aria-describedby="{field}-error' in page.text
    for name in ("rollout_percent", "reason"):
        (tag,) = re.findall(rf'<input class="field[^>]*id="{name}"[^>]*>', page.text)
        assert attribute(tag, "value") == typed[name]


def test_everything_that_is_wrong_is_said_at_once(sqlite_shop: Shop, admin: Shopper) -> None:
    page = saves(admin, order_strategy="gold", rollout_percent="101", reason="")

    assert "3 things need another look" in words(page)


def test_two_admins_who_save_at_once_one_is_told_what_the_other_did(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    seen = str(settings.last_change())
    mine = {"live_updates": "sse", "order_strategy": "order_first", "reason": "faster"}
    settings.change("bo@example.com", "more orders", order_strategy="pay_first")
    before = everything(sqlite_shop)

    late = admin.post(PAGE, {**mine, "seen": seen})

    assert late.status_code == 409
    assert everything(sqlite_shop) == before
    assert "bo@example.com changed the settings" in words(late)
    assert "“more orders”" in words(late) and "Nothing of yours was saved" in words(late)
    assert checked(late.text, "order_strategy") == "pay_first"  # as it stands now
    assert 'value="faster"' in late.text
    fresh = attribute(re.findall(r'<input[^>]*name="seen"[^>]*>', late.text)[0], "value")
    again = {**mine, "order_strategy": "pay_first", "seen": fresh}
    assert admin.post(PAGE, again).status_code == 303


def test_a_form_that_knows_of_changes_which_never_were_is_told_so_and_changes_nothing(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    """As after a restored backup, when the list of changes is empty again."""
    form = {"order_strategy": "pay_first", "reason": "it is time", "seen": "7"}

    answer = admin.post("/admin/settings", form)

    assert answer.status_code == 409
    assert settings.current().order_strategy == "order_first"


def test_a_mistake_does_not_make_one_see_what_happened_meanwhile(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    form = {"order_strategy": "order_first", "live_updates": "sse", "seen": "0"}
    settings.change("bo@example.com", "more orders", order_strategy="pay_first")

    page = admin.post(PAGE, {**form, "reason": ""})

    assert page.status_code == 422
    assert '<input type="hidden" name="seen" value="0">' in page.text


def test_a_double_press_of_save_is_one_change(sqlite_shop: Shop, admin: Shopper) -> None:
    form = {"order_strategy": "pay_first", "reason": "more orders", "seen": "0"}

    assert [admin.post(PAGE, form).status_code for _ in range(2)] == [303, 303]
    assert len(settings.changes()) == 1


# -- the list of changes, and back again


def test_the_list_says_who_what_and_why_and_undoes_with_one_press(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    saves(admin, order_strategy="pay_first", background_sync="off", reason="<i>more</i> orders")
    page = admin.get(PAGE)
    assert "Strategy : order-first → pay-first" in words(page)
    assert "Background sync : on → off" in words(page)
    assert "<i>more</i> orders" in words(page) and "<i>more" not in page.text
    assert "ada@example.com, " in words(page)

    undone = admin.post(f"{PAGE}/undos", undo_form(page.text))

    assert (undone.status_code, undone.location) == (303, PAGE)
    page = admin.get(PAGE)
    assert "Undone." in words(page) and "Undo: <i>more</i> orders" in words(page)
    now = settings.current()
    assert (now.order_strategy, now.background_sync) == ("order_first", True)
    assert page.text.count(f'action="{PAGE}/undos"') == 1  # what is undone offers no undoing


def test_an_undo_that_somebody_has_overtaken_changes_nothing(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    saves(admin, order_strategy="pay_first")
    form = undo_form(admin.get(PAGE).text)
    settings.change("bo@example.com", "the best of both", order_strategy="dual_track")

    late = admin.post(f"{PAGE}/undos", form)

    assert late.status_code == 409
    assert "bo@example.com changed the settings" in words(late)
    assert settings.current().order_strategy == "dual_track"


@pytest.mark.parametrize("change", ["", "0", "77", "-1", "٣", "1e3", "9" * 30])
def test_an_undo_of_what_never_was_is_not_found(
    sqlite_shop: Shop, admin: Shopper, change: str
) -> None:
    assert admin.post(f"{PAGE}/undos", {"change": change}).status_code == 404


def undo_form(page: str) -> dict[str, str]:
    form = page.partition(f'action="{PAGE}/undos"')[2].partition("</form>")[0]
    tags = re.findall(r"<input[^>]*>", form)
    return {attribute(tag, "name"): attribute(tag, "value") for tag in tags if "csrf" not in tag}


# -- which strategy a shopper gets


@pytest.mark.accept("O31")
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_an_address_is_answered_with_its_strategy_and_the_reason(
    sqlite_shop: Shop, admin: Shopper, headers: dict[str, str]
) -> None:
    settings.change("ada@example.com", "try", rollout_strategy="dual_track", rollout_percent=100)

    answer = admin.get(f"{PAGE}?email=Maya@b%C3%BCcher.example", headers=headers)

    assert answer.status_code == 200
    assert "Maya@xn--bcher-kva.example gets dual-track" in words(answer)
    assert re.search(r"Because place \d+ of 0–99 is inside the 100 % of dual-track", words(answer))
    assert ("<html" in answer.text) == (not headers)


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
@pytest.mark.parametrize("text", ["", "maya", "<script>@x", "a" * 400 + "@example.com"])
def test_what_is_no_address_is_answered_so(
    sqlite_shop: Shop, admin: Shopper, text: str, headers: dict[str, str]
) -> None:
    answer = admin.get(PAGE, query_string={"email": text}, headers=headers)

    assert answer.status_code == 422
    assert "Enter an e-mail address like name@example.com." in words(answer)
    assert "<script>@" not in answer.text


# -- sync by hand


@pytest.mark.accept("D15")
def test_sync_orders_counts_what_it_changed_what_failed_and_what_was_as_it_was(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    paid, waiting, silent = three_checkouts(sqlite_shop)

    answer = admin.json("POST", SYNC)

    assert answer.status_code == 200
    assert answer.get_json() == {"synced": 2, "failed": 1, "skipped": 1}
    assert {sqlite_shop.order(one).payment_status for one in paid} == {"paid"}  # type: ignore[union-attr]
    for one in (waiting, silent):
        assert sqlite_shop.order(one).payment_status == "pending"  # type: ignore[union-attr]
    (deed,) = [e for e in sqlite_shop.rows(AuditEntry) if e.action == "synced orders"]
    assert (deed.actor, deed.detail) == ("ada@example.com", "2 synced, 1 failed, 1 skipped")
    assert admin.json("POST", SYNC).get_json() == {"synced": 0, "failed": 1, "skipped": 1}


def three_checkouts(shop: Shop) -> tuple[list[str], str, str]:
    """Two paid without news of it, one that waits, and one that Stripe fails to answer for."""
    paid = [shop.shopper().buy(MUG) for _ in range(2)]
    waiting, silent = shop.shopper().buy(MUG), shop.shopper().buy(MUG)
    for checkout in paid:
        checkout.pay()
    only = f"GET /v1/checkout/sessions/{silent.session_id}"
    shop.sandbox.chaos.error_500 = {"pct": 100, "only": only}  # type: ignore[assignment]
    return [checkout.order_id for checkout in paid], waiting.order_id, silent.order_id


@pytest.mark.accept("D16")
def test_sync_orders_is_for_signed_in_admins_alone(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.buy().pay()
    gone = signed_in(sqlite_shop)
    gone.post("/admin/logout")
    demoted = signed_in(sqlite_shop)
    demoted.token()
    with atomic() as session:
        session.execute(update(User).values(role="shopper"))
    before = everything(sqlite_shop)
    bare = sqlite_shop.app.test_client().post(SYNC, base_url=ORIGIN)

    for answer in (bare, *(person.json("POST", SYNC) for person in (shopper, gone, demoted))):
        assert answer.status_code == 403
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["code"] == "forbidden"
    assert everything(sqlite_shop) == before


def test_an_admin_without_the_pages_token_syncs_nothing(sqlite_shop: Shop, admin: Shopper) -> None:
    sqlite_shop.shopper().buy().pay()
    before = everything(sqlite_shop)
    for headers in ({}, {"X-CSRFToken": "wrong"}):
        answer = admin.browser.post(SYNC, headers=headers, base_url=ORIGIN)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "csrf")
    other = {"X-CSRFToken": admin.token(), "Origin": "https://evil.example"}
    assert admin.browser.post(SYNC, headers=other, base_url=ORIGIN).status_code == 403

    assert everything(sqlite_shop) == before


@pytest.mark.accept("D17")
def test_the_button_over_the_orders_syncs_and_says_what_came_of_it(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    three_checkouts(sqlite_shop)
    page = admin.get("/admin/orders?view=confirming&q=maya&_anchor=x").text
    action = attribute(page.partition('id="admin-orders"')[2], "action")
    assert action == "/admin/sync?view=confirming&q=maya"

    pressed = admin.post(action)

    assert (pressed.status_code, pressed.location) == (303, "/admin/orders?view=confirming&q=maya")
    page = admin.get(pressed.location).text
    assert page.count("2 synced, 1 failed, 1 skipped") == 2
    assert say(page) == "2 synced, 1 failed, 1 skipped"
    assert "synced," not in admin.get(pressed.location).text


def test_with_htmx_the_button_brings_the_fresh_list_and_the_result_at_once(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    (paid, *_), _, _ = three_checkouts(sqlite_shop)

    page = admin.post("/admin/sync?view=to-ship", headers=HTMX)

    assert page.status_code == 200
    assert say(page.text) == "2 synced, 1 failed, 1 skipped"
    assert f'id="o-{paid}"' in page.text.partition('id="admin-orders"')[2]
    assert "synced," not in admin.get("/admin/orders").text


def say(page: str) -> str:
    (said,) = re.findall(r'<p class="vh" role="status" id="say">([^<]*)</p>', page)
    return said


# -- alerts


def counter_pages(order_id: str) -> list[str]:
    pages = ("orders", f"orders/{order_id}", "exceptions", "webhooks", "settings")
    return [f"/admin/{page}" for page in pages]


@pytest.mark.accept("D34")
def test_while_background_sync_is_off_every_page_of_the_counter_says_so(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    pages = counter_pages(sqlite_shop.shopper().buy().order_id)
    saves(admin, background_sync="off", reason="the clock looks slow")

    for path in pages:
        page = admin.get(path)
        assert "Background sync is switched off." in words(page), path
        assert "ada@example.com" in words(page) and "“the clock looks slow”" in words(page)
        assert f'href="{PAGE}#background_sync"' in page.text
    assert 'id="background_sync"' in page.text
    assert "switched off" not in words(sqlite_shop.shopper().get("/"))

    saves(admin, background_sync="on")
    for path in pages:
        assert "is switched off." not in words(admin.get(path)), path


@pytest.mark.accept("D34")
def test_the_doctor_and_readyz_name_the_alert_and_it_makes_nothing_unready(shop: Shop) -> None:
    leases.beat("worker")
    leases.beat("clock")
    assert ready(shop)["alerts"] == []
    assert findings()["alerts"]["ok"]

    settings.change("ada@example.com", "slow", background_sync=False, landing_lookup=False)

    answer = ready(shop)
    assert answer["status"] == "ok"
    assert answer["alerts"] == [
        {"code": "background_sync_off", "headline": "Background sync is switched off"}
    ]
    assert not findings()["background sync off"]["ok"]
    assert findings()["landing lookup off"]["ok"]
    assert "ada@example.com" in str(findings()["background sync off"]["detail"])


def ready(shop: Shop) -> Any:
    answer = shop.app.test_client().get("/readyz", base_url=ORIGIN)
    assert answer.status_code == 200
    assert "ada@" not in answer.text  # anybody may read this
    return answer.get_json()


def findings() -> dict[str, Any]:
    return {str(finding["name"]): finding for finding in diagnosis.examine()}


# -- side by side, and the keys


@pytest.mark.accept("D36")
def test_strategies_stand_side_by_side_with_what_became_of_their_checkouts(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    for strategy, pays in (("order_first", 2), ("pay_first", 1)):
        settings.change("ada@example.com", "to compare", order_strategy=strategy)
        for number in range(2):
            checkout = sqlite_shop.shopper().buy()
            if number < pays:
                checkout.pay()
                sqlite_shop.clock.forward(seconds=4)
                sqlite_shop.deliver_and_work()
    page = admin.get(PAGE).text

    rows = dict(re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', page))
    figures = {name: re.findall(r">([^<]+)</td>", cells) for name, cells in rows.items()}
    assert figures["Order first"] == ["2", "2", "100 %", "0", "4.0 s", "4.0 s"]
    assert figures["Pay first"] == ["2", "1", "50 %", "0", "4.0 s", "4.0 s"]
    assert figures["Dual track"] == ["0", "0", "–", "0", "–", "–"]
    sqlite_shop.clock.forward(days=8)
    assert "100 %" not in signed_in(sqlite_shop).get(PAGE).text


def test_keys_are_shown_masked_and_tried_by_a_call(sqlite_shops: TestShops) -> None:
    hooks = ("whsec_oldSecretThatIsLong1111", "whsec_short")
    key = "sk_test_51HverySecretIndeedWxYz"
    with sqlite_shops.opened(stripe_secret_key=key, stripe_webhook_secrets=hooks) as shop:
        admin = signed_in(shop)
        page = admin.get(PAGE).text
        for shown in ("sk_test_…WxYz", "whsec_…1111", "whsec_…<"):
            assert shown in page, shown
        assert "verySecret" not in page and "oldSecret" not in page and "whsec_short" not in page

        assert admin.post("/admin/key-tests").location == f"{PAGE}#keys"
        assert "Stripe: answers, and knows our key" in admin.get(PAGE).text
        assert "Stripe: answers" not in admin.get(PAGE).text, "it is said once"
        shop.sandbox.chaos.outage = "503"
        admin.post("/admin/key-tests")
        assert re.search(r'class="chip bad wraps" role="status">', admin.get(PAGE).text)
