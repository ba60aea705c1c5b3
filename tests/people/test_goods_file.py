"""Goods come from a file, all of it or nothing, and what is wrong is said by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import Product, StockMovement
from services import goods_file
from tests.shop import MUG, Shop

GOOD = (
    "sku,title,price_eur,price_jpy,units,category\n"
    "TEA-1,Green tea,7.50,1200,30,Kitchen\n"
    "TEA-2,Black tea,6,,0,Kitchen\n"
)


def test_a_file_adds_goods_with_their_stock(shop: Shop) -> None:
    done = goods_file.read(GOOD)

    assert (done.new, done.changed) == (2, 0)
    tea = shop.product("TEA-1")
    assert (tea.slug, tea.prices, tea.on_hand) == ("green-tea", {"eur": 750, "jpy": 1200}, 30)
    assert "Green tea" in shop.shopper().get("/products/green-tea").text
    assert goods_file.read(GOOD) == goods_file.Imported(0, 0)
    assert shop.proves()


def test_a_file_of_a_spreadsheet_is_read_as_it_comes(shop: Shop) -> None:
    """With a byte order mark, semicolons, a comma in prices, and Windows' line ends."""
    done = goods_file.read(
        "\ufeffSKU;Title;price_eur;received\r\nMUG-FOR-35;Enamel mug;19,90;10\r\n"
    )

    assert done == goods_file.Imported(0, 2)
    mug = shop.product(MUG)
    assert (mug.prices["eur"], mug.prices["usd"], mug.on_hand) == (1990, 1950, 130)
    assert [m.kind for m in shop.rows(StockMovement, StockMovement.product_id == mug.id)] == [
        "initial",
        "received",
    ]
    assert shop.proves()


BAD = [
    ("title,price_eur\nTea,1\n", "line 1: the column sku is missing"),
    ("sku,title,colour\nA,Tea,red\n", "line 1: there is no column 'colour'"),
    ("sku,title,sku\nA,Tea,B\n", "line 1: sku stands twice"),
    ("sku,title\nA,Tea\nA,Coffee\n", "line 3: A stands in line 2 already"),
    ("sku,title\n=1+1,Tea\n", "line 2: '=1+1' is no sku"),
    ("sku,title\nA,\n", "line 2: the title is empty"),
    ("sku,title,price_eur\nA,Tea,-1\n", "line 2: '-1' is no price in EUR"),
    ("sku,title,price_eur\nA,Tea,1.005\n", "line 2: '1.005' is no price in EUR"),
    ("sku,title,price_jpy\nA,Tea,1.5\n", "line 2: '1.5' is no price in JPY"),
    ("sku,title,price_eur\nA,Tea,99999999999\n", "is no price in EUR"),
    ("sku,title,units\nA,Tea,many\n", "line 2: units is a whole number"),
    ("sku,title,units\nA,Tea,-3\n", "line 2: units is a whole number"),
    ("sku,title,received\nA,Tea,3\n", "line 2: A is new"),
    ("sku,title,slug\nA,Tea,enamel-mug\n", "line 2: the address enamel-mug belongs to MUG-FOR-35"),
    ("sku,title,slug\nA,Tea,No Way!\n", "line 2: 'No Way!' is no address"),
    ("sku,title\nA,Tea,red\n", "line 2: it has another number of fields"),
    ("sku,title,active\nA,Tea,perhaps\n", "line 2: active is yes or no"),
    ("sku,title\nA," + "x" * 121 + "\n", "line 2: title is longer than 120"),
    ("sku,title,interval\nA,Tea,fortnight\n", "line 2: interval is one of day, week, month, year"),
    ("sku,title,interval,interval_count\nA,Tea,week,0\n", "line 2: interval_count is a whole"),
    ("sku,title,interval,interval_count\nA,Tea,day,53\n", "from 1 to 52 for the interval day"),
    ("sku,title,interval,interval_count\nA,Tea,month,37\n", "from 1 to 36 for the interval month"),
    ("sku,title,interval,interval_count\nA,Tea,year,4\n", "from 1 to 3 for the interval year"),
    ("sku,title,interval,trial_days\nA,Tea,month,731\n", "line 2: trial_days is a whole number"),
    ("sku,title,interval,trial_days\nA,Tea,month,-1\n", "line 2: trial_days is a whole number"),
    ("sku,title,interval,trial_days\nA,Tea,,14\n", "line 2: trial_days needs an interval"),
    ("sku,title,interval_count\nA,Tea,2\n", "line 2: interval_count needs an interval"),
    ("sku,title\n", "there is nothing to import"),
    ("", "the column sku is missing"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_bad_file_changes_nothing_and_says_why(sqlite_shop: Shop, text: str, said: str) -> None:
    before = sqlite_shop.count(Product)

    with pytest.raises(goods_file.BadFile) as refused:
        goods_file.read(text)

    assert said in refused.value.message
    assert sqlite_shop.count(Product) == before


SUBSCRIBED = (
    "sku,title,price_eur,units,interval,interval_count,trial_days\n"
    "TEA-1,Green tea,7.50,30,month,,\n"
    "TEA-2,Black tea,6,30,Week,2,14\n"
    "TEA-3,White tea,9,30,,,\n"
)


def test_what_recurs_is_imported_with_its_rhythm_and_its_trial(shop: Shop) -> None:
    goods_file.read(SUBSCRIBED)

    green, black, white = (shop.product(f"TEA-{n}").plan for n in (1, 2, 3))
    assert green == {"interval": "month", "count": 1, "trial_days": 0}
    assert black == {"interval": "week", "count": 2, "trial_days": 14}
    assert white is None
    assert goods_file.read(SUBSCRIBED) == goods_file.Imported(0, 0)


def test_a_file_changes_a_rhythm_and_leaves_alone_what_it_does_not_speak_of(shop: Shop) -> None:
    goods_file.read(SUBSCRIBED)

    silent = goods_file.read("sku,title\nTEA-1,Green tea\nTEA-2,Black tea\n")
    before = shop.product("TEA-2").plan
    done = goods_file.read("sku,title,interval\nTEA-1,Green tea,\nTEA-2,Black tea,year\n")

    assert silent == goods_file.Imported(0, 0)
    assert before == {"interval": "week", "count": 2, "trial_days": 14}
    assert done == goods_file.Imported(0, 2)
    assert shop.product("TEA-1").plan is None
    assert shop.product("TEA-2").plan == {"interval": "year", "count": 1, "trial_days": 0}


def test_a_new_rhythm_never_touches_a_checkout_that_is_under_way(shop: Shop) -> None:
    shopper = shop.shopper()
    checkout = shopper.buy(MUG, 2)
    frozen = shop.attempt(checkout.order_id).snapshot

    goods_file.read("sku,title,interval,trial_days\nMUG-FOR-35,Enamel mug,month,30\n")

    assert shop.product(MUG).plan
    assert shop.attempt(checkout.order_id).snapshot == frozen
    assert "(every month)" not in shopper.get("/cart").text  # where the checkout is waiting
    checkout.pay()
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


def test_every_problem_is_said_at_once_and_the_good_lines_wait(sqlite_shop: Shop) -> None:
    with pytest.raises(goods_file.BadFile) as refused:
        goods_file.read("sku,title,price_eur\nA,Tea,1\n!,,x\nB,Coffee,2\n")

    assert [problem[:7] for problem in refused.value.problems] == ["line 3:"] * 4
    assert sqlite_shop.rows(Product, Product.sku.in_(("A", "B"))) == []


def test_the_command_imports_a_file_and_refuses_one_that_is_no_text(
    sqlite_shop: Shop, tmp_path: Path
) -> None:
    runner = sqlite_shop.app.test_cli_runner()
    good, bad = tmp_path / "goods.csv", tmp_path / "bad.csv"
    good.write_text(GOOD)
    bad.write_bytes(b"sku,title\nA,\xff\n")

    done = runner.invoke(args=["products", "import", str(good)])
    refused = runner.invoke(args=["products", "import", str(bad)])

    assert (done.exit_code, done.output.strip()) == (0, "2 new, 0 changed")
    assert refused.exit_code == 1
    assert "not UTF-8" in refused.output
