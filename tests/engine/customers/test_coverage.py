"""What is read though it is written otherwise, and what is told of the rest."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from atc_pipeline.customers import activity, coverage
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 1, 10)
DAY = timedelta(days=1)


def portfolio(folder: Path, text: str) -> Portfolio:
    """Return a portfolio with these sections."""
    path = folder / "journeys.yaml"
    path.write_text(f'version: "1"\ncalendar: {{timezone: UTC, starts_on: 2026-01-01}}\n{text}')
    return load_portfolio(path)


def happened(*said: tuple[str, dict[str, Any]], day: date = TODAY) -> pl.DataFrame:
    """Return accepted events of a day: name and properties; ``identify`` and traits."""
    rows = [
        dict.fromkeys(RAW_EVENTS.schema)
        | {
            "message_id": f"m{number:03}",
            "type": "identify" if name == "identify" else "track",
            "event": None if name == "identify" else name,
            "user_id": "u",
            "timestamp": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
            "event_date": day,
            "traits" if name == "identify" else "properties": json.dumps(what),
        }
        for number, (name, what) in enumerate(said)
    ]
    return pl.DataFrame(rows, schema=RAW_EVENTS.schema)


TEA = [{"category": "tea", "quantity": 2}]


@pytest.mark.parametrize(
    ("products", "quantity", "skipped"),
    [
        pytest.param(TEA, 2, 0, id="a list"),
        pytest.param(json.dumps(TEA), 2, 0, id="a list written as text"),
        pytest.param([json.dumps(TEA[0])], 2, 0, id="items written as text"),
        pytest.param({"0": TEA[0], "10": TEA[0], "2": {"category": "ski"}}, 4, 0, id="as PHP writes a list with a hole"),
        pytest.param(json.dumps({"0": TEA[0]}), 2, 0, id="and that as text"),
        pytest.param([{"category": "tea", "quantity": "2.0"}], 2, 0, id="a number written as text"),
        pytest.param([{"category": "tea", "quantity": "two"}], 0, 1, id="no number"),
        pytest.param([{"category": "tea", "quantity": 1e11}], 0, 1, id="too large"),
        pytest.param(["tea", 5, None, *TEA], 2, 2, id="plain values in it"),
        pytest.param("tea", 0, 1, id="a text"),
        pytest.param(TEA[0], 0, 1, id="an object"),
        pytest.param("[{", 0, 1, id="half a list"),
        pytest.param(None, 0, 0, id="missing"),
    ],
)
def test_lists_and_numbers_are_read_however_they_are_written(tmp_path: Path, products: object, quantity: int, skipped: int) -> None:
    """And what is not read is counted."""
    of = portfolio(tmp_path, "traits: {tea: {sum: quantity, of: Bought, each: products, where: \"category = 'tea'\"}}\n")
    done = activity.roll_up(happened(("Bought", {"products": products})), of, arrival=TODAY)
    assert done.activity["tea.low"].to_list() == [quantity * 1_000_000]
    assert done.coverage.filter(pl.col("feature") == "tea")["skipped"].to_list() == [skipped]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.50", 12.5),
        ("-3", -3),
        ("+.5", 0.5),
        ("007", 7),
        ("1,5", None),
        ("12 ", None),
        ("1e3", None),
        ("0x1", None),
        ("", None),
        ("NaN", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
def test_a_text_that_is_wholly_a_decimal_number_is_one(tmp_path: Path, text: str, number: float | None) -> None:
    """For sums, in conditions, and for profile traits that are numbers."""
    of = portfolio(
        tmp_path,
        "traits: {n: {max: n, of: E}, many: {count: E, where: n > -99}, inside: {max: a.n, of: E}, age: {profile: n, type: number}}\n",
    )
    nested = json.dumps({"n": text})
    done = activity.roll_up(happened(("E", {"n": text, "a": nested}), ("identify", {"n": text})), of, arrival=TODAY)
    micro = None if number is None else number * 1_000_000
    assert done.activity.select("n.greatest", "many.n", "inside.greatest", "age.value").rows() == [
        (micro, int(number is not None), micro, number)
    ]
    skipped = int(number is None)
    told = {row["feature"]: (row["read"], row["skipped"]) for row in done.coverage.iter_rows(named=True)}
    assert {told[name] for name in ("n", "many", "inside", "age")} == {(1 - skipped, skipped)}


def test_more_than_one_value_in_a_hundred_is_worth_a_warning(tmp_path: Path) -> None:
    """Over the days of a run; it says what the values look like and where they are, never what they are."""
    of = portfolio(tmp_path, "traits: {spend: {sum: revenue, of: Bought, where: paid}, other: {sum: n, of: Never}}\n")

    def found(wrong: int) -> pl.DataFrame:
        good = [("Bought", {"revenue": 1, "paid": True})] * 100
        wrongly = [("Bought", {"revenue": "Ann Smith", "paid": True})] * wrong
        days = {TODAY - DAY: happened(*good, day=TODAY - DAY), TODAY: happened(*good, *wrongly)}
        tables = [activity.roll_up(events, of, arrival=day).coverage for day, events in days.items()]
        return coverage.unreadable(pl.concat(tables).lazy()).collect()

    assert found(2).is_empty()
    assert found(3).drop("share").rows() == [("spend", 1, TODAY, 3, "text of 9 characters", "m100")]


def test_what_never_matched_is_told_with_the_name_that_may_be_meant(tmp_path: Path) -> None:
    """Traits, signals, engagement, predictions and goals; because the event never came, or because the condition never held."""
    of = portfolio(
        tmp_path,
        """
traits: {orders: {count: Order Complted}, big: {count: Bought, where: n > 5}, all: {count: "*"}, age: {profile: agee, type: number}}
interests: {half_life_days: 5, topics: {ski: [{event: Bought}, {event: Viewd, weight: 2}]}}
engagement: {touch: [Sent, Order Completd], response: [Bought], half_life_days: 3}
predictions: {order: Bought, value: n}
journeys: [{id: j, length_days: 1, queue: {where: "orders > 0"}, goal: {event: Paid}}]
""",
    )
    names = ["Bought", "Order Completed", "Viewed", "Sent"]
    days = [happened(("Bought", {"n": 1}), ("Sent", {}), ("identify", {"age": 5})), happened(("Viewed", {}))]
    first = pl.concat([activity.roll_up(events, of, arrival=TODAY).coverage for events in days]).lazy()
    early = coverage.never_found(first, activity.asked_for(of), lambda: names)
    assert set(early["found"]) == {"never came"}, "what is asked of an event that came has a week to hold"
    quiet = [activity.roll_up(happened(), of, arrival=TODAY - ago * DAY).coverage for ago in range(1, coverage.A_WEEK)]
    tables = pl.concat([first, *(table.lazy() for table in quiet)])
    told = coverage.never_found(tables, activity.asked_for(of), lambda: names)
    assert told.select("feature", "part", "event", "found", "there_is").rows() == [
        ("age", 1, "identify", "came 1 times, and what is asked of it never held", None),
        ("big", 1, "Bought", "came 1 times, and what is asked of it never held", None),
        ("engagement.touches", 1, "Order Completd", "never came", "Order Completed"),
        ("goal.Paid", 1, "Paid", "never came", None),
        ("interest_ski", 2, "Viewd", "never came", "Viewed"),
        ("orders", 1, "Order Complted", "never came", "Order Completed"),
    ]
    later = activity.roll_up(happened(("Order Complted", {}), ("Bought", {"n": 6})), of, arrival=TODAY + DAY).coverage
    again = coverage.never_found(pl.concat([tables, later.lazy()]), activity.asked_for(of), lambda: names)
    assert again["feature"].to_list() == ["age", "engagement.touches", "goal.Paid", "interest_ski"]


def test_an_event_of_any_name_may_be_missing_and_no_name_is_offered_for_itself() -> None:
    """Nothing at all came; or nothing that was counted, though by now there is one of that very name."""
    row = {"date": TODAY, "part": 1, "events": 0, "matched": 0}
    counts = pl.LazyFrame([{**row, "feature": "all", "event": "*"}, {**row, "feature": "goal.Paid", "event": "Paid"}])
    asked = [coverage.Feature("all"), coverage.Feature("goal.Paid")]
    told = coverage.never_found(counts, asked, lambda: ["Paid", "*"])
    assert told.select("event", "found", "there_is").rows() == [("*", "never came", None), ("Paid", "never came", None)]


def test_one_event_of_several_and_bounces_may_never_come_unless_a_name_is_alike() -> None:
    """Something matched, or nothing bounced: neither is a fault by itself, but a similar name tells of one."""
    row = {"date": TODAY, "part": 1, "events": 0, "matched": 0}
    counts = [
        {**row, "feature": "touched", "event": "Sent", "matched": 1},
        {**row, "feature": coverage.BOUNCES, "event": "Email Bounced"},
        {**row, "feature": "goal.Paid", "event": "Paid"},
    ]
    asked = [coverage.Feature(name) for name in ("touched", coverage.BOUNCES, "goal.Paid")]
    missing = coverage.never_found(pl.LazyFrame(counts), asked, lambda: ["Bought"])
    assert missing["feature"].to_list() == ["goal.Paid"]
    alike = coverage.never_found(pl.LazyFrame(counts), asked, lambda: ["Email Bounce", "Send"])
    assert alike.select("event", "there_is").rows() == [("Email Bounced", "Email Bounce"), ("Paid", None), ("Sent", "Send")]


def test_what_is_told_does_not_depend_on_how_a_day_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards, and in whichever order events come."""
    of = portfolio(tmp_path, "traits: {spend: {sum: n, of: E}, first: {first: n, of: E}}\n")
    events = happened(*[("E", {"n": [1, "x", [], {"a": 1}][number % 4]}) for number in range(20)])
    events = events.with_columns(user_id=pl.concat_str(pl.lit("u"), pl.int_range(pl.len()) % 7))
    whole = activity.roll_up(events, of, arrival=TODAY).coverage
    monkeypatch.setattr(activity, "EVENTS_AT_ONCE", 3)
    assert activity.roll_up(events.reverse(), of, arrival=TODAY).coverage.equals(whole)
    assert whole.filter(pl.col("feature") == "spend").select("matched", "read", "skipped", "sample_message_id").rows() == [
        (20, 5, 15, "m001")
    ]


def test_catching_up_makes_only_the_rows_of_what_changed(tmp_path: Path) -> None:
    """Of the other features, those that are still asked for keep theirs."""
    events = happened(("E", {"n": 1}), ("F", {"n": 2}))
    old = portfolio(tmp_path, "traits: {a: {sum: n, of: E}, b: {sum: n, of: E}, c: {sum: n, of: E}}\n")
    new = portfolio(tmp_path, "traits: {a: {sum: n, of: E}, b: {sum: n, of: [E, F]}}\n")
    again = activity.roll_up_again(activity.roll_up(events, old, arrival=TODAY), events, new, ["b"], arrival=TODAY)
    anew = activity.roll_up(events, new, arrival=TODAY)
    assert again.coverage.equals(anew.coverage)
    assert again.activity.equals(anew.activity)


@pytest.mark.parametrize(
    ("properties", "skipped"),
    [("{}", 0), ("[]", 0), (None, 0), ('"{\\"n\\": 1}"', 0), ("[1]", 1), ('"text"', 1), ("5", 1), (f'{{"n": {"9" * 5000}, "p": 5}}', 1)],
    ids=lambda text: str(text)[:20],
)
def test_properties_that_are_no_object_are_told(tmp_path: Path, properties: str | None, skipped: int) -> None:
    """For each trait that would have read them; an empty list is how PHP writes an object without fields."""
    of = portfolio(
        tmp_path, "traits: {sum: {sum: n, of: E}, deep: {sum: a.n, of: E}, items: {count: E, each: p}, word: {last: n, of: E}}\n"
    )
    events = happened(("E", {})).with_columns(properties=pl.lit(properties, dtype=pl.String))
    told = activity.roll_up(events, of, arrival=TODAY).coverage
    assert dict(told.filter(pl.col("event") == "E").select("feature", "skipped").iter_rows()) == dict.fromkeys(
        ("sum", "deep", "items", "word"), skipped
    )
