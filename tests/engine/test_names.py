"""Names that a portfolio or an event may bring, and that something of ours is called by, too."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.customers.activity import roll_up
from atc_pipeline.customers.features import feature_columns
from atc_pipeline.customers.profiles import update_profiles
from atc_pipeline.customers.segments import assign_segments
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity import map as identities
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 1, 1)
HEAD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\n'


def load(folder: Path, text: str) -> Portfolio:
    """Load a portfolio that is a heading and these lines."""
    (folder / "journeys.yaml").write_text(HEAD + text)
    return load_portfolio(folder / "journeys.yaml")


def profile(portfolio: Portfolio, *properties: dict[str, object]) -> dict[str, object]:
    """Return the profile of a customer whose orders of the first day have these properties."""
    events = [
        {
            "date": TODAY,
            "message_id": f"m{number}",
            "type": "track",
            "event": "Order",
            "user_id": "a",
            "timestamp": datetime(2026, 1, 1, 12, number, tzinfo=UTC),
            "event_date": TODAY,
            "properties": json.dumps(said),
        }
        for number, said in enumerate(properties)
    ]
    raw = pl.DataFrame(events, schema=RAW_EVENTS.schema)
    absorbed = identities.absorbed(identities.map_identities(raw.lazy(), None, today=TODAY).map)
    rollup = roll_up(raw, portfolio, arrival=TODAY, absorbed=absorbed).activity
    return update_profiles(None, rollup.lazy(), portfolio, today=TODAY, absorbed=absorbed).collect().row(0, named=True)


def test_traits_may_be_called_like_what_predictions_and_engagement_remember(tmp_path: Path) -> None:
    """``purchases`` and ``responses`` are nobody's but the portfolio's."""
    portfolio = load(
        tmp_path,
        "channels: {n: {consent: none}}\n"
        "engagement: {touch: [Sent], response: [Order]}\n"
        "predictions: {order: Order, value: revenue}\n"
        "traits: {purchases: {sum: revenue, of: Order}, responses: {count: Order}}\n",
    )
    made = profile(portfolio, {"revenue": 10, "channel": "n"}, {"revenue": 5})
    assert (made["purchases"], made["responses"], made["preferred_channel"]) == (15.0, 2, "n")


@pytest.mark.parametrize("name", ["events", "hours"])
def test_a_trait_called_like_what_all_rollups_have_is_made_again_when_it_changes(tmp_path: Path, name: str) -> None:
    """Its columns are its own, and a feature's."""
    portfolio = load(tmp_path, f"traits: {{{name}: {{last: city, of: Order}}}}\n")
    assert {f"{name}.at", f"{name}.id", f"{name}.value"} <= feature_columns(portfolio)


def test_a_segment_may_have_any_name(tmp_path: Path) -> None:
    """``self`` is what Python calls the frame."""
    portfolio = load(tmp_path, 'segments: {self: "tenure_days > 0"}\n')
    profiles = pl.LazyFrame({"customer_id": ["a"], "tenure_days": [1]})
    assert assign_segments(profiles, None, portfolio.segments, today=TODAY).collect()["segment_id"].to_list() == ["self"]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "row:", "said", "event", "customer_id", "holds", "é €", "."])
def test_a_property_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Also one that JSON writes with an escape, or that a column of ours has."""
    key, condition = json.dumps(name), json.dumps('"' + name.replace('"', '""') + '" > 2')
    portfolio = load(
        tmp_path,
        "traits:\n"
        f"  total: {{sum: {key}, of: Order, where: {condition}}}\n"
        f"  last_one: {{last: {key}, of: Order}}\n"
        f"  items: {{sum: {key}, of: Order, each: {key}}}\n",
    )
    made = profile(portfolio, {name: 3}, {name: 1}, {name: [{name: 4}]})
    assert (made["total"], made["last_one"], made["items"]) == (3.0, "1", 4.0)


@pytest.mark.parametrize("name", ["*", "^rev.*$"])
def test_a_pattern_is_no_property(tmp_path: Path, name: str) -> None:
    """Polars would read all properties, or another one; what is never in a condition may be called so."""
    says = rf"{re.escape(name)}. is a pattern to Polars"
    with pytest.raises(JourneysError, match=rf"trait 'x', field 'where': .{says}"):
        load(tmp_path, f"traits: {{x: {{count: Order, where: '\"{name}\" > 1'}}}}\n")
    with pytest.raises(JourneysError, match=rf"field 'predictions.value': .{says}"):
        load(tmp_path, f"predictions: {{order: Order, value: '{name}'}}\n")
    assert profile(load(tmp_path, f"traits: {{x: {{sum: '{name}', of: Order}}}}\n"), {name: 3})["x"] == 3.0
