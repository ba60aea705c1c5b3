"""The inbox at the counter: found, rehearsed, replayed, put aside; and why nothing comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from domain.errors import NotFound, ShopError
from extensions import atomic, rehearsing
from gateway import facts
from gateway.calls import Calls
from gateway.facts import FOLLOWED_TYPES
from models import StripeEvent
from services import auth, by_hand, diagnosis, events, inbox, outbox, rehearsal, settle
from services.causes import Cause
from services.events import CannotBeReplayed, Filter, NothingChosen
from tests.counter import troubles
from tests.counter.door import audit
from tests.counter.scenes import ADA, a_paid_order, at_once
from tests.counter.test_disputes import a_disputed_order
from tests.pages.conftest import signed_in
from tests.pages.test_doors import everything
from tests.shop import MUG, ORIGIN, Shop, Shopper, TestShops
from tests.spine.stripe_says import event, paid_intent, post, signed

LIST = "/admin/webhooks"


def shown(page: str) -> list[str]:
    return re.findall(r'<tr id="([^"]+)"', page)


def the_event(shop: Shop, type_: str) -> StripeEvent:
    (found,) = shop.rows(StripeEvent, StripeEvent.type == type_)
    row: StripeEvent = found
    return row


def news_that_waits(shop: Shop) -> StripeEvent:
    """The news of a payment, stored and not applied; its event is dead, so that it stays so."""
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_type("checkout.session.completed")
    with atomic() as session:
        session.execute(update(StripeEvent).values(state="dead", tries=8))
    return the_event(shop, "checkout.session.completed")


# -- the list


@pytest.mark.accept("X16", "V29")
def test_an_event_says_what_it_was_what_came_of_it_and_how_long_it_took(
    shop: Shop, ada: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_type("checkout.session.completed")
    shop.clock.forward(seconds=7)
    real = settle.settle

    def slowly(*args: Any, **how: Any) -> Any:
        shop.clock.forward(seconds=0.25)
        return real(*args, **how)

    monkeypatch.setattr(settle, "settle", slowly)
    shop.work()
    row = the_event(shop, "checkout.session.completed")

    listed, page = ada.get(LIST).text, ada.get(f"{LIST}/{row.id}").text

    assert row.work_ms == 250
    for text in (listed, page):
        assert f"NL-{shop.the_order().number}" in text and bought.order_id in text
        for words in ("checkout.session.completed", "7.0 s", "250 ms", "Done", "by webhook"):
            assert words in text, words
    assert "maya@example.com" not in page and "_secret_" not in page
    assert "&#34;type&#34;: &#34;checkout.session.completed&#34;" in page


@pytest.mark.accept("X16")
def test_events_are_found_by_state_type_id_object_and_order(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    bought, other = a_paid_order(shop), a_paid_order(shop)
    admin = signed_in(shop)
    order = shop.order(bought.order_id)
    assert order is not None
    intent = bought.session["payment_intent"]
    mine = {row.id for row in shop.events() if row.attempt_id == bought.order_id}
    assert mine and other.order_id not in mine

    for text in (f"NL-{order.number}", str(order.number), bought.order_id, intent,
                 bought.session_id, f" {bought.order_id.upper()} "):  # fmt: skip
        found = shown(admin.get(LIST, query_string={"q": text}).text)
        assert set(found) >= mine and len(found) < len(shop.events()), text
    one = sorted(mine)[0]
    assert shown(admin.get(LIST, query_string={"q": one}).text) == [one]
    done = shown(admin.get(f"{LIST}?state=done&type=payment_intent.succeeded").text)
    assert [events.find(id_).type for id_ in done] == ["payment_intent.succeeded"] * 2
    assert "None has given up" in admin.get(f"{LIST}?state=dead").text
    for odd in ("%", "_", "'", "x" * 5000, "9" * 30, "NL-", "٣", "evt_", "-1"):
        answer = admin.get(LIST, query_string={"q": odd, "state": odd, "type": odd, "after": odd})
        assert answer.status_code == 200 and "No event like that" in answer.text, odd


def test_the_list_goes_on_page_by_page_and_keeps_its_filter(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 3)
    for _ in range(2):
        a_paid_order(sqlite_shop)
    admin = signed_in(sqlite_shop)
    seen: list[str] = []
    address: str | None = f"{LIST}?state=done"
    while address:
        page = admin.get(address).text
        seen += shown(page)
        found = re.search(r'href="([^"]+)">Older', page)
        address = found and found[1].replace("&amp;", "&")

    done = [row.id for row in sqlite_shop.events() if row.state == "done"]
    assert len(done) > 3
    assert sorted(seen) == sorted(done)


def test_an_empty_inbox_teaches_how_to_fill_it(sqlite_shop: Shop) -> None:
    admin = signed_in(sqlite_shop)

    page = admin.get(LIST).text

    assert f"stripe listen --forward-to {ORIGIN}/stripe/webhook" in page
    assert "STRIPE_WEBHOOK_SECRET" in page and "/admin/webhook-setup" in page


# -- what would it change?


@pytest.mark.accept("X16")
def test_a_rehearsal_says_what_would_change_and_leaves_no_trace(shop: Shop, ada: Shopper) -> None:
    row = news_that_waits(shop)
    ada.token()
    before = everything(shop)

    page = ada.post("/admin/webhook-rehearsals", {"event": row.id}).text

    assert everything(shop) == before
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    for words in (
        "status pending payment → payment confirmed",
        "Payment of €22.90",
        "settles the order",
        "Stock of Enamel mug: on hand",
        "held 1 → 0, sold 0 → 1",
        "Mail to the shopper: the receipt",
        "nothing was changed and nothing was sent",
    ):
        assert words in text, words
    outbox.drain()
    assert shop.receipts() == [] and shop.the_order().payment_status == "pending"


@pytest.mark.accept("X16")
def test_what_was_rehearsed_is_what_happens(shop: Shop) -> None:
    row = news_that_waits(shop)
    told = rehearsal.of_event(row)

    assert events.replay(ADA, [row.id]) == 1
    shop.work()

    assert told.note is None and len(told.changes) >= 5
    assert shop.the_order().payment_status == "paid"
    assert rehearsal.of_event(events.find(row.id)).changes == []
    assert shop.proves()


@pytest.mark.parametrize("kind", ["refund", "dispute", "late", "twice", "unknown", "not followed"])
def test_no_kind_of_event_leaves_a_trace_when_it_is_rehearsed(shop: Shop, kind: str) -> None:
    if kind == "refund":
        troubles.failed_refund(shop)
    elif kind == "dispute":
        a_disputed_order(shop)
    elif kind == "late":
        troubles.late_money(shop)
    elif kind == "twice":
        troubles.paid_twice(shop)
    elif kind == "unknown":
        troubles.unmatched(shop)
    else:
        a_paid_order(shop)
    made = sum(map(len, shop.sandbox.ledger().values()))
    before = everything(shop)

    for row in shop.events():
        told = rehearsal.of_event(row)
        assert told.event_id == row.id and not (told.note or "").startswith("It would fail")

    assert everything(shop) == before
    assert sum(map(len, shop.sandbox.ledger().values())) == made


def test_a_rehearsal_shows_that_it_would_fail_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = news_that_waits(shop)

    def poison(*_: Any, **__: Any) -> None:
        raise RuntimeError("poison")

    monkeypatch.setattr(settle, "settle", poison)

    assert rehearsal.of_event(row).note == "It would fail again: RuntimeError: poison"


def test_a_rehearsal_while_stripe_is_away_says_so(shop: Shop) -> None:
    order = a_paid_order(shop)
    about = {"id": "re_1", "object": "refund", "payment_intent": order.session["payment_intent"]}
    post(shop, event("refund.updated", about, id_="evt_refund"))
    shop.sandbox.chaos.outage = "503"

    told = rehearsal.of_event(events.find("evt_refund"))

    assert told.note and told.note.startswith("It could not be tried")


def test_twin_without_the_rehearsal_the_same_work_stays(shop: Shop) -> None:
    """The guard off: what the rehearsal does inside its rollback is the real thing."""
    row = news_that_waits(shop)
    before = everything(shop)
    cause = Cause("webhook", event_id=row.id)
    news = facts.of_event(json.loads(row.payload))
    with rehearsing(lambda: None):
        settle.settle(str(news.attempt_id), cause, news=news)
    assert everything(shop) == before

    settle.settle(str(news.attempt_id), cause, news=news)

    assert everything(shop) != before
    assert shop.the_order().payment_status == "paid"


def test_a_rehearsal_ends_even_if_it_breaks(shop: Shop) -> None:
    def broken() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), rehearsing(broken), atomic():
        pass
    auth.note(ADA, "went on")

    assert [deed for _, deed, _ in audit(shop)] == ["went on"]


# -- replay


@pytest.mark.accept("X16")
def test_replaying_what_is_done_changes_nothing(shop: Shop, ada: Shopper) -> None:
    a_paid_order(shop)
    ids = troubles.event_ids(shop, "checkout.session.completed", "payment_intent.succeeded")
    version, stock = shop.the_order().version, shop.product(MUG).sold

    answer = ada.post("/admin/webhook-replays", {"event": ids})
    again = ada.post("/admin/webhook-replays", {"event": ids})
    shop.work()

    assert (answer.status_code, again.status_code) == (303, 409)
    assert "it waits, and is applied by itself" in again.text
    assert (shop.the_order().version, shop.product(MUG).sold) == (version, stock)
    assert len(shop.receipts()) == 1
    assert {subject for _, _, subject in audit(shop, "replayed")} == set(ids)
    assert shop.proves()


def test_of_two_who_replay_one_event_at_once_it_is_taken_up_once(shop: Shop) -> None:
    row = news_that_waits(shop)

    results = at_once(shop, *[lambda: events.replay(ADA, [row.id])] * 3)

    taken = [one for one in results if one == 1]
    assert len(taken) == 1
    assert len(audit(shop, "replayed")) == 1
    shop.work()
    assert len(shop.receipts()) == 1
    assert shop.proves()


def test_an_event_of_the_other_mode_is_never_replayed(shop: Shop) -> None:
    bought = shop.shopper().buy()
    total = shop.attempt(bought.order_id).total
    paid = paid_intent("pi_live", total, bought.order_id)
    post(shop, event("payment_intent.succeeded", paid, id_="evt_live", livemode=True))

    with pytest.raises(CannotBeReplayed, match="a live event"):
        events.replay(ADA, ["evt_live"])

    assert shop.the_order().payment_status == "pending"


def test_many_are_replayed_or_none(shop: Shop) -> None:
    row = news_that_waits(shop)
    before = everything(shop)

    for ids, refusal in (([row.id, "evt_none"], NotFound), ([], NothingChosen),
                         ([str(n) for n in range(51)], NothingChosen)):  # fmt: skip
        with pytest.raises(refusal):
            events.replay(ADA, ids)

    assert everything(shop) == before


# -- ignore


@pytest.mark.accept("X16")
def test_ignoring_needs_a_note_and_replaying_takes_it_back(
    shop: Shop, ada: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles.dead_event(shop, monkeypatch)
    row = the_event(shop, "checkout.session.completed")
    for note in ("", " ", "x" * 301):
        answer = ada.post(f"{LIST}/{row.id}/dismissals", {"note": note})
        assert answer.status_code == 422 and "Say why it is ignored" in answer.text

    answer = ada.post(f"{LIST}/{row.id}/dismissals", {"note": "a test of <ours>"})
    again = ada.post(f"{LIST}/{row.id}/dismissals", {"note": "twice"})

    assert (answer.status_code, again.status_code) == (303, 409)
    ignored = events.find(row.id)
    assert (ignored.state, ignored.error) == ("ignored", "ada@example.com: a test of <ours>")
    assert "a test of &lt;ours&gt;" in ada.get(f"{LIST}?state=ignored").text
    assert troubles.the_only_one(shop, "dead_event").how == "seen_to"
    assert shop.proves(ledger=False)  # Stripe's ledger knows that this was money

    events.replay(ADA, [row.id])
    shop.work()
    assert shop.the_order().payment_status == "paid"


# -- fetch what was missed


@pytest.mark.accept("X16", "D32")
def test_what_was_missed_is_fetched_and_counted(shop: Shop, ada: Shopper) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver(lambda delivery: delivery.event_type == "charge.succeeded")

    answer = ada.post("/admin/webhook-fetches", {"hours": "24"})

    assert answer.status_code == 303
    page = ada.get(LIST).text
    said = re.search(r'id="say">([^<]+)<', page)
    assert said and re.search(r"\d events had been missed, and fetched now: \d done", said[1])
    assert shop.the_order().payment_status == "paid"
    assert "fetched" in page
    ada.post("/admin/webhook-fetches", {"hours": "24"})
    assert "Nothing was missed in the last 24 hours" in ada.get(LIST).text
    assert [deed for _, deed, _ in audit(shop, "fetched events")] == ["fetched events"] * 2


def test_only_some_periods_can_be_fetched_and_an_outage_is_said(shop: Shop, ada: Shopper) -> None:
    for hours in ("", "0", "2", "x", "24 ", "-1", "9" * 40):
        answer = ada.post("/admin/webhook-fetches", {"hours": hours})
        assert answer.status_code == 422 and "Choose how far back" in answer.text
    shop.sandbox.chaos.outage = "503"

    answer = ada.post("/admin/webhook-fetches", {"hours": "1"})

    assert answer.status_code == 502 and "could not reach" in answer.text
    with pytest.raises(ShopError):
        by_hand.fetch_missed(ADA, 5)


# -- why nothing comes


def findings() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in diagnosis.webhooks()}


def endpoint(shop: Shop) -> dict[str, Any]:
    (found,) = shop.sandbox.store.objects["webhook_endpoint"].values()
    one: dict[str, Any] = found
    return one


def wrong_address(shop: Shop) -> None:
    endpoint(shop)["url"] = "https://old.example/hook"


def disabled(shop: Shop) -> None:
    endpoint(shop)["status"] = "disabled"


def too_few_types(shop: Shop) -> None:
    endpoint(shop)["enabled_events"] = [one for one in FOLLOWED_TYPES if "refund" not in one]


def wrong_mode(shop: Shop) -> None:
    post(shop, event("charge.succeeded", {"id": "ch_1"}, livemode=True))


def wrong_secret(shop: Shop) -> None:
    body = event("charge.succeeded", {"id": "ch_1"})
    headers = signed(body, at=shop.clock.seconds(), secret="whsec_another")
    assert shop.post_webhook(body, headers) == 400


def clock_ahead(shop: Shop) -> None:
    assert (
        post(shop, event("charge.succeeded", {"id": "ch_1"}), at=shop.clock.seconds() - 400) == 400
    )


def clock_behind(shop: Shop) -> None:
    later = int(shop.clock.seconds()) + 120
    assert post(shop, event("charge.succeeded", {"id": "ch_1"}, created=later)) == 200


def nothing_delivered(shop: Shop) -> None:
    shop.shopper().buy().pay()
    shop.clock.forward(minutes=10)


WRONG: dict[str, tuple[Callable[[Shop], None], str, str]] = {
    "wrong address": (wrong_address, "address", "https://old.example/hook"),
    "disabled endpoint": (disabled, "endpoint", "it is disabled at Stripe"),
    "missing types": (too_few_types, "event types", "refund.failed"),
    "wrong mode": (wrong_mode, "mode", "live events come here"),
    "wrong secret": (wrong_secret, "signing secret", "fits none of our secrets"),
    "clock ahead": (clock_ahead, "clock", "more than 300 s off our clock"),
    "clock behind": (clock_behind, "clock", "our clock is 120 s behind"),
    "not delivered": (nothing_delivered, "deliveries", "0 of the last hour"),
}


@pytest.mark.accept("X16")
@pytest.mark.parametrize("what", WRONG)
def test_what_keeps_events_away_is_found_and_its_repair_named(sqlite_shop: Shop, what: str) -> None:
    spoil, name, words = WRONG[what]
    for before in findings().values():
        assert before["ok"], before
    spoil(sqlite_shop)

    found = findings()[name]

    assert not found["ok"] and words in found["detail"] and found["fix"]
    page = signed_in(sqlite_shop).get("/admin/webhook-setup")
    assert page.status_code == 200 and "Mend" in page.text
    doctor = [one for one in diagnosis.examine(live=True) if one["name"] == f"webhooks: {name}"]
    assert [one["ok"] for one in doctor] == [False]


def test_a_webhook_that_fits_ends_the_suspicion_of_the_secret(sqlite_shop: Shop) -> None:
    wrong_secret(sqlite_shop)
    sqlite_shop.clock.forward(seconds=5)
    assert post(sqlite_shop, event("charge.succeeded", {"id": "ch_2"}, id_="evt_2")) == 200

    assert findings()["signing secret"]["ok"]


def test_whoever_knocks_often_is_noted_once_a_minute(sqlite_shop: Shop) -> None:
    wrong_secret(sqlite_shop)
    first = inbox.last_refused("secret")
    sqlite_shop.clock.forward(seconds=30)
    wrong_secret(sqlite_shop)
    assert inbox.last_refused("secret") == first
    sqlite_shop.clock.forward(seconds=31)
    wrong_secret(sqlite_shop)

    second = inbox.last_refused("secret")
    assert first and second and second - first == timedelta(seconds=61)


def test_the_set_up_page_opens_while_stripe_is_away_and_the_lists_never_ask_it(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = signed_in(sqlite_shop)
    sqlite_shop.sandbox.chaos.outage = "503"

    page = admin.get("/admin/webhook-setup")

    assert page.status_code == 200 and "could not be looked at" in page.text
    monkeypatch.setattr(Calls, "_call", None)  # whoever asks Stripe now breaks
    assert admin.get(LIST).status_code == 200
    assert admin.get("/admin/exceptions").status_code == 200


# -- bad ids, and the way in


def test_an_event_that_is_not_there_is_404_everywhere(sqlite_shop: Shop) -> None:
    admin = signed_in(sqlite_shop)
    admin.token()
    before = everything(sqlite_shop)

    for odd in ("evt_none", "x" * 300, "%27", "..", "٣"):
        assert admin.get(f"{LIST}/{odd}").status_code == 404
        assert admin.post(f"{LIST}/{odd}/dismissals", {"note": "why"}).status_code == 404
        for what in ("rehearsals", "replays"):
            answer = admin.post(f"/admin/webhook-{what}", {"event": odd})
            assert answer.status_code == 404, odd
    for what in ("rehearsals", "replays"):
        for form in ({}, {"event": [str(n) for n in range(60)]}):
            assert admin.post(f"/admin/webhook-{what}", form).status_code == 422
    assert everything(sqlite_shop) == before


def test_replaying_and_rehearsing_need_the_pages_token(sqlite_shop: Shop) -> None:
    row = news_that_waits(sqlite_shop)
    admin = signed_in(sqlite_shop)

    for what in ("replays", "rehearsals", "fetches"):
        answer = admin.browser.post(
            f"/admin/webhook-{what}", data={"event": row.id, "hours": "1"}, base_url=ORIGIN
        )
        assert answer.status_code == 400
    assert events.find(row.id).state == "dead"


def test_the_filter_of_nothing_is_everything(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened() as shop:
        a_paid_order(shop)

        assert len(events.newest(Filter())) == len(shop.events())
