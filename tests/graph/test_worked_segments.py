"""Five micro-segments of the field, each in a small world of its own: who is just inside and just outside each clause.

Events are landed and the lineage runs as Dagster runs it, up to the memberships. What is predicted is what the profiles say,
and that in turn is held against the formulas of the reference.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.portfolio import Predictions, Selector
from resources.storage.lake import Lake
from tests.engine import reference

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
FIRST = date(2026, 3, 1)

HEAD = """
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-03-01}
"""


class Story:
    """What customers did, day by day, as it lands; ``today`` is the day that is looked at."""

    def __init__(self, days: int) -> None:
        self.today = FIRST + (days - 1) * DAY
        self.lines: dict[date, list[str]] = {FIRST + number * DAY: [] for number in range(days)}

    def tell(self, who: str | Mapping[str, str], event: str, ago: int, *, arrived: int | None = None, **properties: Any) -> None:
        """Land an event of so many days ago, which arrived then, or on the first day, or when it is said to have."""
        happened = self.today - ago * DAY
        day = max(happened, FIRST) if arrived is None else self.today - arrived * DAY
        ids = {"userId": who} if isinstance(who, str) else who
        moment = datetime.combine(happened, time(10), UTC)
        kind = "alias" if "previousId" in ids else "track"
        number = sum(map(len, self.lines.values()))
        line = {"messageId": f"m{number}", "type": kind, "event": event, **ids, "timestamp": moment.isoformat(), "properties": properties}
        self.lines[day].append(json.dumps(line))

    def run(self, folder: Path, journeys: str) -> Lake:
        """Run the days up to the memberships, and return the lake."""
        (folder / "journeys.yaml").write_text(HEAD + journeys)
        for day, lines in self.lines.items():
            (folder / "home" / "landing" / str(day)).mkdir(parents=True)
            (folder / "home" / "landing" / str(day) / "events.ndjson").write_text("\n".join(lines))
        definitions = build_definitions({"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")})
        wanted = (
            dg.AssetSelection.assets("micro_segment_memberships")
            .upstream()
            .required_multi_asset_neighbors()
            .resolve(definitions.resolve_asset_graph())
        )
        tags = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(self.today)}
        with dg.DagsterInstance.ephemeral() as instance:
            job = definitions.resolve_implicit_global_asset_job_def()
            assert job.execute_in_process(instance=instance, tags=tags, asset_selection=list(wanted)).success
        return Lake(root=str(folder / "home" / "lake"))


def members(lake: Lake, segment: str, day: date) -> list[str]:
    """Return who is in a segment on a day."""
    return lake.read("micro_segment_memberships", day).filter(pl.col("segment_id") == segment)["customer_id"].to_list()


def test_registered_less_than_a_week_ago_no_purchase_browsed_handbags(tmp_path: Path) -> None:
    """Whoever was first seen six days ago, not seven; whoever browsed within seven days, under whatever name; who bought is out."""
    story = Story(days=8)
    for who, first_seen in (("in_six_days", 6), ("out_seven_days", 7), ("out_bought", 3), ("out_shoes", 3)):
        story.tell(who, "Signed Up", first_seen)
    for who in ("in_six_days", "out_seven_days", "out_bought", "in_today"):
        story.tell(who, "Product Viewed", 0, category="handbags")
    story.tell("out_shoes", "Product Viewed", 0, category="shoes")
    story.tell("out_bought", "Order Completed", 2, revenue=20)
    story.tell("in_browsed_six_days_ago", "Product Viewed", 6, category="handbags")
    story.tell("out_browsed_seven_days_ago", "Product Viewed", 7, arrived=5, category="handbags")
    story.tell({"anonymousId": "visitor"}, "Product Viewed", 1, category="handbags")
    story.tell({"anonymousId": "phone"}, "Product Viewed", 3, category="handbags")
    story.tell({"anonymousId": "phone", "userId": "in_logged_in"}, "Signed Up", 0)
    story.tell({"anonymousId": "tablet"}, "Product Viewed", 1, category="handbags")
    story.tell("out_known_for_long", "Signed Up", 7)
    story.tell({"anonymousId": "tablet", "userId": "out_known_for_long"}, "Signed In", 0)
    story.tell("other_name", "Order Completed", 4, revenue=20)
    story.tell("out_bought_under_another_name", "Product Viewed", 4, category="handbags")
    story.tell({"previousId": "other_name", "userId": "out_bought_under_another_name"}, "", 0)
    lake = story.run(
        tmp_path,
        """
traits:
  orders: {count: Order Completed}
  handbags_viewed_7d: {count: Product Viewed, where: "category = 'handbags'", within_days: 7}
segments: {new_handbag_browsers: "tenure_days < 7 and orders = 0 and handbags_viewed_7d > 0"}
""",
    )
    assert members(lake, "new_handbag_browsers", story.today) == [
        "anon:visitor",
        "in_browsed_six_days_ago",
        "in_logged_in",
        "in_six_days",
        "in_today",
    ]
    yesterday = members(lake, "new_handbag_browsers", story.today - DAY)
    assert {"anon:phone", "anon:tablet", "out_bought_under_another_name"} <= set(yesterday)
    since = lake.read("micro_segment_memberships", story.today).filter(pl.col("customer_id") == "in_logged_in")["member_since"]
    assert since.to_list() == [story.today - 3 * DAY]


def test_spent_more_than_500_to_date_but_never_responded_to_a_campaign(tmp_path: Path) -> None:
    """A cent over 500, in however many orders and however long ago; one response ever is one; who was never asked is out."""
    story = Story(days=2)
    campaign, answers = "Campaign Received", ("Message Opened", "Message Clicked", "Coupon Redeemed")
    story.tell("in_a_cent_over", "Order Completed", 0, revenue=500.01)
    story.tell("out_500", "Order Completed", 0, revenue=500)
    for who in ("in_two_orders", "out_never_asked", *(f"out_{answer}" for answer in answers)):
        story.tell(who, "Order Completed", 700, revenue=300)
        story.tell(who, "Order Completed", 0, revenue=200.5)
    story.tell("out_returned_some", "Order Completed", 30, revenue=600)
    story.tell("out_returned_some", "Order Completed", 3, revenue=-100)
    for who in ("in_a_cent_over", "out_500", "in_two_orders", "out_returned_some", *(f"out_{answer}" for answer in answers)):
        story.tell(who, campaign, 1)
    for answer in answers:
        story.tell(f"out_{answer}", answer, 400)
    lake = story.run(
        tmp_path,
        """
traits:
  spend: {sum: revenue, of: Order Completed}
  touches: {count: [Message Sent, Campaign Received]}
  responses: {count: [Message Opened, Message Clicked, Coupon Redeemed]}
segments: {big_never_responded: "spend > 500 and touches > 0 and responses = 0"}
""",
    )
    assert members(lake, "big_never_responded", story.today) == ["in_a_cent_over", "in_two_orders"]


def test_top_tenth_of_spenders_to_date_with_no_purchase_in_the_last_60_days(tmp_path: Path) -> None:
    """Of forty, the 37th is above nine tenths and the 36th is not; sixty days ago is not in the last sixty, fifty-nine is."""
    story = Story(days=1)
    story.tell("c01", "Page Viewed", 0)
    days_since = {36: 100, 37: 60, 38: 59, 39: 61, 40: 0}
    for number in range(2, 41):
        story.tell(f"c{number:02}", "Order Completed", 300, revenue=number * 5)
        story.tell(f"c{number:02}", "Order Completed", days_since.get(number, 70), revenue=number * 5)
    lake = story.run(
        tmp_path,
        """
traits:
  spend: {sum: revenue, of: Order Completed}
  spend_percentile: {percentile: spend}
  days_since_order: {days_since_last: Order Completed}
segments: {lapsed_top_spenders: "spend_percentile > 0.9 and days_since_order >= 60"}
""",
    )
    ranked = lake.read("customer_profiles", story.today).filter(pl.col("customer_id").is_in(["c36", "c37"]))
    assert ranked["spend_percentile"].to_list() == [0.9, 0.925]
    assert members(lake, "lapsed_top_spenders", story.today) == ["c37", "c39"]


# --- With predictions: a population that a purchase model can be fitted on -------------------------------------------

WITH_PREDICTIONS = """
traits:
  poker_result_7d: {sum: net, of: [Game Played, Game Settled], where: "game = 'poker'", within_days: 7}
  ski_products: {sum: quantity, of: Order Completed, each: products, where: "category = 'ski'"}
predictions: {order: Order Completed, value: revenue, horizon_days: 90, refit_days: 7}
segments:
  poker_losers_of_value: "poker_result_7d < 0 and predicted_value > 200"
  leaving_skiers: "churn_risk > 0.5 and ski_products >= 2"
"""
SHOPPERS = [f"s{number:03}" for number in range(300)]
POKER: tuple[Sequence[tuple[str, int, float]], ...] = (
    [("poker", 6, -5), ("bridge", 0, 50)],
    [("poker", 7, -500)],
    [("poker", 1, -20), ("poker", 0, 20)],
    [("poker", 0, 0.01)],
    [("bridge", 0, -50)],
    [("poker", 6, 10), ("poker", 2, -10.01)],
)
"""What each sixth of them played: game, days ago, result. The first and the last lost at poker within seven days."""
SKIS: tuple[Sequence[tuple[str, int]], ...] = ([("ski", 2)], [("ski", 1), ("handbags", 1)], [("handbags", 2)], [("ski", 1), ("ski", 1)])
"""What each fourth of them has in the first order: category and quantity. The first and the last bought two ski products."""
LOSERS = {who for number, who in enumerate(SHOPPERS) if number % 6 in {0, 5}}
SKIERS = {who for number, who in enumerate(SHOPPERS) if number % 4 in {0, 3}}


def orders(random: Random) -> list[tuple[int, float]]:
    """Draw a customer's orders as the models have them: days ago and value; the first within the last 300 days, the others by luck."""
    rate, chance_to_leave = random.gammavariate(0.9, 1 / 25), random.betavariate(0.8, 2.5)
    scale = 1 / random.gammavariate(4, 1 / 80)
    ago = float(random.randint(5, 300))
    drawn = []
    while ago >= 0:
        drawn.append((int(ago), round(random.gammavariate(3, scale) + 0.01, 2)))
        if len(drawn) > 1 and random.random() < chance_to_leave:
            break
        ago -= random.expovariate(rate)
    return drawn


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, date]:
    """Three hundred customers who buy, play and leave, loaded on the first day; predicted is from the second day on."""
    story, random = Story(days=2), Random(4)  # noqa: S311  # no secrets here
    for number, who in enumerate(SHOPPERS):
        for index, (ago, revenue) in enumerate(orders(random)):
            bought = SKIS[number % len(SKIS)] if index == 0 else [("shoes", 3)]
            products = [{"category": category, "quantity": quantity} for category, quantity in bought]
            story.tell(who, "Order Completed", ago, revenue=revenue, products=products)
        for game, ago, net in POKER[number % len(POKER)]:
            story.tell(who, "Game Played", ago, game=game, net=net)
    story.tell("never bought", "Game Played", 0, game="poker", net=-100)
    lake = story.run(tmp_path_factory.mktemp("shop"), WITH_PREDICTIONS)
    return lake, story.today


def test_played_poker_in_the_last_week_and_lost_predicted_future_value_over_200(shop: tuple[Lake, date]) -> None:
    """Losers of seven days, by a cent or all told, whose stored prediction is over 200; null, for want of an order, is not."""
    lake, today = shop
    predicted = dict(lake.read("customer_profiles", today).select("customer_id", "predicted_value").iter_rows())
    assert predicted.pop("never bought") is None
    over = {who for who, value in predicted.items() if value > 200}
    assert LOSERS & over
    assert LOSERS - over
    assert over - LOSERS
    assert members(lake, "poker_losers_of_value", today) == sorted(LOSERS & over)


def test_predicted_to_churn_bought_two_or_more_ski_products(shop: tuple[Lake, date]) -> None:
    """Two in one line or in two, of those who will more probably not order within the horizon than order."""
    lake, today = shop
    risks = dict(lake.read("customer_profiles", today).select("customer_id", "churn_risk").iter_rows())
    assert risks.pop("never bought") is None
    leaving = {who for who, risk in risks.items() if risk > 0.5}
    assert SKIERS & leaving
    assert SKIERS - leaving
    assert leaving - SKIERS
    assert members(lake, "leaving_skiers", today) == sorted(SKIERS & leaving)


def test_nothing_is_predicted_before_there_was_anything_to_fit_on(shop: tuple[Lake, date]) -> None:
    """A model in use has been fitted on data of the day before or earlier: on the first day of the lake there is none."""
    lake, _ = shop
    columns = lake.read("customer_profiles", FIRST).select("predicted_orders", "predicted_value", "churn_risk")
    assert columns.null_count().row(0) == (columns.height,) * 3
    assert members(lake, "poker_losers_of_value", FIRST) == members(lake, "leaving_skiers", FIRST) == []


def test_stored_predictions_are_what_the_formulas_say_of_the_stored_parameters(shop: tuple[Lake, date]) -> None:
    """For every customer, from the raw events and the parameters of the day, by the integral that the formulas come from."""
    lake, today = shop
    model = lake.read("purchase_models", today).select("r", "alpha", "a", "b", "p", "q", "v").row(0, named=True)
    landed = [row for day in (FIRST, today) for row in lake.read("raw_events", day).to_dicts()]
    bought: dict[str, list[reference.Occurrence]] = {}
    for one in reference.occurrences(Selector(("Order Completed",)), landed):
        bought.setdefault(one.event["user_id"], []).append(one)
    of = Predictions("Order Completed", "revenue", horizon_days=90, refit_days=7)
    for row in lake.read("customer_profiles", today).iter_rows(named=True):
        expected = reference.predictions(bought.get(row["customer_id"], []), today, of, reference.PurchaseModel(**model))
        assert {name: row[name] for name in expected} == {name: value and pytest.approx(value) for name, value in expected.items()}
