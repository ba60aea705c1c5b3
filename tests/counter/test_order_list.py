"""The list of orders: found by whatever somebody remembers, and many dealt with at once."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from extensions import atomic
from models import Order, OutboxMessage, Payment, Refund, Shipment
from services import notes, order_batches, order_list, order_views, outbox
from services.order_list import Wanted
from tests.counter.door import audit
from tests.counter.scenes import ADA, a_paid_order, ask
from tests.shop import LAMP, MUG, Checkout, Shop, Shopper

LIST = "/admin/orders"


def shown(admin: Shopper, **wanted: str) -> list[str]:
    """Ids on the page, from the top."""
    answer = admin.get(LIST, query_string=wanted)
    assert answer.status_code == 200
    return re.findall(r'<tr id="o-([^"]+)"', answer.text)


def found(**wanted: str) -> set[str]:
    return {order.id for order in order_list.page(Wanted.read(wanted))}


def tags(page: str) -> list[str]:
    return re.findall(r'class="tag"[^>]*>([^<]+)<', page)


# -- search


def test_an_order_is_found_by_amount_card_and_any_id_of_stripes(shop: Shop) -> None:
    wanted = a_paid_order(shop, LAMP, card="5555555555554444", name="Zoë Ünal")
    a_paid_order(shop, MUG)
    ask(wanted, 500)
    outbox.drain()
    shop.deliver_and_work()
    (payment,) = shop.rows(Payment, Payment.attempt_id == wanted.order_id)
    (refund,) = shop.rows(Refund)
    event = next(row for row in shop.events() if row.attempt_id == wanted.order_id)
    order = shop.order(wanted.order_id)
    assert order and payment.charge_id

    for search in (
        f"{order.total / 100:.2f}", f"€{order.total / 100:.2f}",
        f"{order.total / 100:.2f}".replace(".", ","), "4444", "zoë ",
        payment.payment_intent, payment.charge_id, refund.stripe_id, event.id, wanted.session_id,
        wanted.order_id.upper(),
    ):  # fmt: skip
        assert found(q=str(search)) == {wanted.order_id}, search


@pytest.mark.parametrize(
    "search",
    ["%", "_", "\\", "'", "' OR 1=1 --", '"', "pi_", "pi_'x", "evt_%", "9" * 30, "2147483648",
     "99999999999.99", "-1", "٣", "NL-", "NL-٣", "\u202e", "x" * 10_000, "<script>", "🙂", "a_b_c"],
)  # fmt: skip
def test_a_search_that_means_nothing_finds_nothing_and_breaks_nothing(
    sqlite_shop: Shop, admin: Shopper, search: str
) -> None:
    a_paid_order(sqlite_shop)

    answer = admin.get(LIST, query_string={"q": search})

    assert answer.status_code == 200
    assert "No order matches" in answer.text and "<script>" not in answer.text


def test_bad_searches_break_postgresql_neither(postgres_shop: Shop) -> None:
    a_paid_order(postgres_shop)

    for search in (
        "%",
        "\\",
        "'",
        "9" * 30,
        "2147483648",
        "99999999999.99",
        "x" * 200,
        "pi_",
        "ab",
    ):
        assert found(q=search) == set(), search
    assert found(least="999999999999") == set()


def test_enter_opens_the_only_hit_and_typing_never_does(sqlite_shop: Shop, admin: Shopper) -> None:
    wanted = a_paid_order(sqlite_shop, email="zoe@example.com")
    a_paid_order(sqlite_shop)

    entered = admin.get(LIST, query_string={"q": "zoe@example", "open": "1"})
    typed = admin.get(LIST, query_string={"q": "zoe@example"}, headers={"HX-Request": "true"})
    many = admin.get(LIST, query_string={"q": "example.com", "open": "1"})

    assert (entered.status_code, typed.status_code, many.status_code) == (303, 200, 200)
    assert entered.location == f"{LIST}/{wanted.order_id}"


# -- filters and views


def test_filters_narrow_the_list_and_each_can_be_taken_away(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    paid = a_paid_order(sqlite_shop, LAMP)
    waiting = sqlite_shop.shopper().buy(MUG)
    notes.write(paid.order_id, "called", ADA)
    today = f"{sqlite_shop.clock.now():%Y-%m-%d}"
    tomorrow = f"{sqlite_shop.clock.now() + timedelta(days=1):%Y-%m-%d}"

    for wanted, ids in (
        ({"payment": "paid"}, [paid]), ({"payment": "pending"}, [waiting]),
        ({"shipping": "payment_confirmed"}, [paid]), ({"sku": MUG}, [waiting]),
        ({"least": "30"}, [paid]), ({"most": "30"}, [waiting]), ({"noted": "yes"}, [paid]),
        ({"since": today, "until": today}, [waiting, paid]), ({"since": tomorrow}, []),
        ({"strategy": "pay_first"}, []), ({"payment": "paid", "sku": MUG}, []),
        ({"view": "confirming", "most": "30"}, [waiting]),
    ):  # fmt: skip
        assert shown(admin, **wanted) == [one.order_id for one in ids], wanted
    page = admin.get(LIST, query_string={"payment": "paid", "least": "30"}).text
    assert tags(page) == ["Payment: paid", "At least: 30"]
    assert f'class="tag" href="{LIST}?least=30"' in page


@pytest.mark.parametrize(
    "nonsense",
    [{"payment": "gold"}, {"shipping": "' OR 1=1"}, {"since": "tomorrow"}, {"until": "9999-99-99"},
     {"least": "many"}, {"most": "-1"}, {"noted": "no"}, {"strategy": "x" * 5000},
     {"view": "' --"}, {"after": "x"}, {"after": "1e400_"}, {"until": "9999-12-31"},
     {"least": "999999999999"} | {"most": "999999999999"}],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_left_out(
    sqlite_shop: Shop, admin: Shopper, nonsense: dict[str, str]
) -> None:
    bought = a_paid_order(sqlite_shop)

    answer = admin.get(LIST, query_string=nonsense)

    assert answer.status_code == 200
    assert ("least" in nonsense and "most" in nonsense) or bought.order_id in answer.text


def test_a_view_is_kept_under_a_name_shown_with_its_count_and_removed(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    a_paid_order(sqlite_shop, LAMP)
    sqlite_shop.shopper().buy(MUG)

    answer = admin.post("/admin/order-views", {"name": " Over 30 ", "least": "30"})

    assert (answer.status_code, answer.location) == (303, f"{LIST}?least=30")
    page = admin.get(answer.location).text
    assert re.search(
        r'href="/admin/orders\?least=30" aria-current="page">Over 30 <span[^>]*>1</span>', page
    )
    assert "somebody here has kept" in page
    admin.post("/admin/order-views/removals", {"name": "Over 30"})
    assert "Over 30" not in admin.get(LIST).text
    assert [action for _, action, _ in audit(sqlite_shop)][-2:] == ["kept a view", "removed a view"]


@pytest.mark.parametrize(
    ("form", "says"),
    [({"name": "", "least": "30"}, "Give it a name"),
     ({"name": "x" * 31, "least": "30"}, "Give it a name"),
     ({"name": "to SHIP", "least": "30"}, "one of the shop’s own views"),
     ({"name": "Everything"}, "Filter or search first")],
)  # fmt: skip
def test_a_view_that_makes_no_sense_is_refused_and_what_was_typed_stays(
    sqlite_shop: Shop, admin: Shopper, form: dict[str, str], says: str
) -> None:
    answer = admin.post("/admin/order-views", form)

    assert answer.status_code == 422 and says in answer.text
    if form.get("least") and form["name"]:
        assert f'value="{form["name"]}"' in answer.text
    assert order_views.kept() == []


def test_there_are_only_so_many_views(sqlite_shop: Shop) -> None:
    for number in range(order_views.MOST):
        order_views.keep(f"View {number}", Wanted(least="1"), ADA)
    order_views.keep("View 0", Wanted(least="2"), ADA)  # the same name means something else now

    with pytest.raises(order_views.NotAView):
        order_views.keep("One more", Wanted(least="1"), ADA)
    assert len(order_views.kept()) == order_views.MOST


def test_pages_follow_each_other_without_a_gap(sqlite_shop: Shop, admin: Shopper) -> None:
    bought = [sqlite_shop.shopper().buy(MUG).order_id for _ in range(7)]
    with atomic() as session:  # all in one moment, so that the id decides
        session.execute(update(Order).values(created_at=sqlite_shop.clock.now()))

    seen: list[str] = []
    before = None
    while page := order_list.page(Wanted(), before, 3):
        seen += [order.id for order in page]
        before = (page[-1].created_at, page[-1].id)

    assert sorted(seen) == sorted(bought) and seen == sorted(seen, reverse=True)


# -- on screen


def changes(admin: Shopper, page: str) -> str:
    url = re.search(r'id="admin-orders-live" hx-get="([^"]+)"', page)
    assert url
    answer = admin.get(url[1].replace("&amp;", "&"), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    return answer.text


def test_rows_on_screen_change_their_chips_and_never_move(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    waiting = sqlite_shop.shopper().buy(MUG)
    page = admin.get(LIST).text
    assert "hx-swap-oob" not in changes(admin, page).replace('id="open-exceptions" hx-swap-oob', "")

    waiting.pay()
    sqlite_shop.deliver_and_work()
    sqlite_shop.clock.forward(seconds=1)
    newer = sqlite_shop.shopper().buy(MUG)
    told = changes(admin, page)

    assert f'id="pay-{waiting.order_id}" hx-swap-oob="outerHTML"' in told and "Paid" in told
    assert "1 new order arrived. Show it" in told
    assert newer.order_id not in told and "<tr" not in told
    quiet = changes(admin, told)
    assert f"pay-{waiting.order_id}" not in quiet.replace("ids=", ""), "nothing is said twice"


def test_one_request_asks_for_all_rows_of_the_page(sqlite_shop: Shop, admin: Shopper) -> None:
    for _ in range(3):
        sqlite_shop.shopper().buy(MUG)

    page = admin.get(LIST).text

    assert page.count('hx-trigger="every 15s"') == 1
    assert all(one in page for one in shown(admin))
    for bad in ("", "ids=" + ".".join(["x"] * 400), "ids='&newest=1e999_&look=%25"):
        assert admin.get(f"/admin/order-changes?{bad}").status_code == 200


# -- many at once


def tick(admin: Shopper, path: str, *orders: Checkout, **more: Any) -> Any:
    return admin.post(path, {"order": [one.order_id for one in orders], **more})


def results(page: str) -> list[tuple[str, str]]:
    """(chip, sentence) of each order."""
    return re.findall(r"</svg>(Done|Failed|Skipped)</span><span[^>]*>([^<]+)<", page)


@pytest.mark.accept("D15", "D17")
def test_a_sync_of_many_counts_what_came_of_each(sqlite_shop: Shop, admin: Shopper) -> None:
    settled = a_paid_order(sqlite_shop)
    sqlite_shop.clock.forward(seconds=1)
    lost = sqlite_shop.shopper().buy(MUG)
    lost.pay()

    page = tick(admin, "/admin/order-syncs", lost, settled).text

    assert "<h1>1 synced, 0 failed, 1 skipped</h1>" in page
    assert results(page) == [("Done", "Brought up to date."), ("Skipped", "Nothing new at Stripe.")]
    assert f'href="/admin/orders/{lost.order_id}"' in page
    now_paid = sqlite_shop.order(lost.order_id)
    assert now_paid and now_paid.payment_status == "paid"


def test_one_that_fails_stops_none_of_the_others(sqlite_shop: Shop, admin: Shopper) -> None:
    good, bad = sqlite_shop.shopper().buy(MUG), sqlite_shop.shopper().buy(MUG)
    good.pay()
    bad.pay()
    path = f"GET /v1/checkout/sessions/{bad.session_id}"
    sqlite_shop.sandbox.chaos.update({"error_500": {"pct": 100, "only": path}})

    page = tick(admin, "/admin/order-syncs", good, bad).text

    assert "<h1>1 synced, 1 failed, 0 skipped</h1>" in page
    assert ("Failed", "Stripe did not answer. Nothing was lost; try again in a moment.") in results(
        page
    )
    assert "What failed is as it was" in page


def test_what_is_not_reached_in_time_is_skipped_and_says_so(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = a_paid_order(sqlite_shop)
    monkeypatch.setattr(order_batches, "BUDGET_S", -1)

    (result,) = order_batches.sync(order_batches.chosen([order.order_id]), ADA)

    assert (result.state, "Press again" in result.said) == ("skipped", True)


def test_many_are_shipped_with_a_number_each(shop: Shop, ada: Shopper) -> None:
    first, second = a_paid_order(shop, MUG, 2), a_paid_order(shop)
    waiting = shop.shopper().buy(MUG)
    ids = [first.order_id, second.order_id, waiting.order_id]
    form = ada.get("/admin/order-shipments", query_string={"order": ids}).text
    assert "Ship 2 orders" in form and "One that you ticked is not here" in form
    hidden = dict(re.findall(r'name="(version-[^"]+)" value="(\d+)"', form))
    number = (shop.order(second.order_id) or shop.the_order()).number

    parcels = {
        **hidden,
        "carrier": "DHL",
        f"tracking-{first.order_id}": "00340 1",
        "pasted": f"NL-{number};00340 2\n\n",
    }
    page = tick(ada, "/admin/order-shipments", first, second, waiting, **parcels).text

    assert "<h1>2 sent, 0 failed, 1 skipped</h1>" in page
    assert ("Skipped", "It is not paid yet.") in results(page)
    sent = {row.order_id: (row.tracking, row.lines[0]["quantity"]) for row in shop.rows(Shipment)}
    assert sent == {first.order_id: ("00340 1", 2), second.order_id: ("00340 2", 1)}
    again = tick(ada, "/admin/order-shipments", first, second, **parcels).text
    assert "<h1>0 sent, 0 failed, 2 skipped</h1>" in again and shop.count(Shipment) == 2


def test_a_parcel_of_an_order_that_changed_meanwhile_fails_alone(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    first, second = a_paid_order(sqlite_shop), a_paid_order(sqlite_shop)
    parcels = {
        "carrier": "DHL",
        f"version-{first.order_id}": "1",
        f"version-{second.order_id}": "2",
    }

    page = tick(admin, "/admin/order-shipments", first, second, **parcels).text

    assert "<h1>1 sent, 1 failed, 0 skipped</h1>" in page and "Look at it again" in page
    assert [row.order_id for row in sqlite_shop.rows(Shipment)] == [second.order_id]


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"carrier": ""}, "Say who carries the parcels."),
     ({"carrier": "DHL", "pasted": "NL-1, 00340"}, "Line 1 is not the number of a ticked order"),
     ({"carrier": "DHL", "pasted": "\n=1+1"}, "Line 2 is not the number of a ticked order")],
)  # fmt: skip
def test_parcels_that_cannot_be_are_refused_before_any_is_sent(
    sqlite_shop: Shop, admin: Shopper, fields: dict[str, str], says: str
) -> None:
    order = a_paid_order(sqlite_shop)

    answer = tick(admin, "/admin/order-shipments", order, **fields)

    assert answer.status_code == 422 and says in answer.text
    assert sqlite_shop.count(Shipment) == 0


def test_receipts_go_out_again_once_a_minute(sqlite_shop: Shop, admin: Shopper) -> None:
    paid, waiting = a_paid_order(sqlite_shop), sqlite_shop.shopper().buy(MUG)

    first = tick(admin, "/admin/order-receipts", paid, waiting).text
    second = tick(admin, "/admin/order-receipts", paid, waiting).text

    assert "<h1>1 sent again, 0 failed, 1 skipped</h1>" in first
    assert "<h1>0 sent again, 0 failed, 2 skipped</h1>" in second
    again = sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "receipt_again")
    assert [row.order_id for row in again] == [paid.order_id]
    assert audit(sqlite_shop, "resent receipt") == [(ADA, "resent receipt", paid.order_id)]


def test_the_export_runs_nothing_in_a_spreadsheet(sqlite_shop: Shop, admin: Shopper) -> None:
    evil = a_paid_order(sqlite_shop, name='=HYPERLINK("http://x")', city="+1")
    other = a_paid_order(sqlite_shop)

    answer = tick(admin, "/admin/order-exports", evil)

    assert answer.headers["Content-Disposition"] == "attachment; filename=orders.csv"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["name"] == '\'=HYPERLINK("http://x")' and row["city"] == "'+1"
    assert (row["id"], row["total"], row["items"]) == (evil.order_id, "2290", "1 × Enamel mug")
    assert other.order_id not in answer.text
    assert audit(sqlite_shop, "exported orders") == [(ADA, "exported orders", "")]


@pytest.mark.parametrize(
    "path", ["/admin/order-syncs", "/admin/order-receipts", "/admin/order-exports",
             "/admin/order-shipments"],
)  # fmt: skip
@pytest.mark.parametrize(
    "ids", [[], ["nobody"], ["x' OR 1=1"], ["y"] * 3 + [str(n) for n in range(60)]]
)
def test_nothing_ticked_is_said_and_nothing_is_done(
    sqlite_shop: Shop, admin: Shopper, path: str, ids: list[str]
) -> None:
    answer = admin.post(path, {"order": ids, "carrier": "DHL"})

    assert answer.status_code == 422 and "No order is ticked" in answer.text


def test_a_packing_slip_names_what_is_left_to_send(sqlite_shop: Shop, admin: Shopper) -> None:
    order, waiting = a_paid_order(sqlite_shop, MUG, 3), sqlite_shop.shopper().buy(LAMP)
    ids = [order.order_id, waiting.order_id]

    page = admin.get("/admin/packing-slips", query_string={"order": ids}).text

    assert page.count('class="card slip') == 1
    assert '<td class="num b">3</td><td>Enamel mug' in page and "Sonnenallee 12" in page
    assert "€" not in page[page.index('class="card slip') :], "prices are nobody's business there"


def test_the_order_above_and_below_are_those_of_the_view_one_came_from(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    first, waiting, last = (
        a_paid_order(sqlite_shop), sqlite_shop.shopper().buy(MUG), a_paid_order(sqlite_shop)
    )  # fmt: skip
    for moment, one in enumerate((first, waiting, last)):
        with atomic() as session:
            at = sqlite_shop.clock.now() + timedelta(seconds=moment)
            session.execute(update(Order).where(Order.id == one.order_id).values(created_at=at))

    page = admin.get(f"{LIST}/{last.order_id}?view=to-ship").text

    assert f'data-key="j" href="{LIST}/{first.order_id}?view=to-ship"' in page
    assert 'data-key="k"' not in page and f'href="{LIST}?view=to-ship"' in page
