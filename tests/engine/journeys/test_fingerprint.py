"""The fingerprint of a portfolio: the same for what says the same, another for whatever says something else (SPEC 17)."""

from dataclasses import fields, replace
from datetime import date
from typing import Any

import polars as pl
import pytest

from atc_pipeline.journeys.portfolio import Condition, Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from tests.graph.small_world import JOURNEYS


def resolved(text: str = JOURNEYS) -> Portfolio:
    """Resolve a text."""
    return resolve_text(text, "journeys.yaml")


@pytest.mark.parametrize(
    ("written", "otherwise"),
    [
        pytest.param('version: "1"\n', '# a comment\nversion:   "1"\n\n', id="comments and layout"),
        pytest.param("{count: Order Completed}", '{count: "Order Completed"}', id="quotes"),
        pytest.param("consent: opt_in}\n  app: {consent: opt_out}", "consent: opt_in}\n  app:\n    consent: opt_out", id="flow and block"),
        pytest.param(
            "  email: {consent: opt_in}\n  app: {consent: opt_out}", "  app: {consent: opt_out}\n  email: {consent: opt_in}", id="order"
        ),
        pytest.param("    value: 3\n", "    value: 3.0\n    priority: 0\n", id="a default said"),
        pytest.param(
            "goal: {event: Order Completed}", "goal: {event: Order Completed, within_days: 3}", id="a default of another key said"
        ),
        pytest.param("policy: {", "  - {id: idea, status: draft, length_days: 1, queue: {any: [buyers]}}\npolicy: {", id="a draft"),
    ],
)
def test_what_says_the_same_has_one_fingerprint(written: str, otherwise: str) -> None:
    """Comments, layout, the order of keys and defaults do not count."""
    assert JOURNEYS.count(written) == 1
    assert resolved(JOURNEYS.replace(written, otherwise)).fingerprint == resolved().fingerprint


def test_it_is_twelve_hex_digits_and_the_same_in_every_process() -> None:
    """Written down here: it names files that outlive processes. Keys that the grammar gets later leave it as it is."""
    assert resolved().fingerprint == "0d1683eda1cb"


def test_whatever_is_said_counts() -> None:
    """Every field of the portfolio, of a journey and of the policy, one after the other, gives another fingerprint."""
    portfolio = resolved()
    journey = portfolio.journeys[0]
    others = [replace(portfolio, **{name: another(value)}) for name, value in values(portfolio)]
    others += [
        replace(portfolio, journeys=(replace(journey, **{name: another(value)}), *portfolio.journeys[1:]))
        for name, value in values(journey)
    ]
    others += [replace(portfolio, policy=replace(portfolio.policy, **{name: another(value)})) for name, value in values(portfolio.policy)]
    assert len({each.fingerprint for each in [portfolio, *others]}) == len(others) + 1


def values(of: Any) -> list[tuple[str, Any]]:
    """Return the fields of a dataclass, but those that hold other dataclasses."""
    told = [(field.name, getattr(of, field.name)) for field in fields(of)]
    return [(name, value) for name, value in told if not hasattr(value, "__dataclass_fields__") or isinstance(value, Condition)]


def another(value: Any) -> Any:
    """Return another value of that kind."""
    match value:
        case None:
            return 77
        case bool():
            return not value
        case str():
            return f"{value}x"
        case int() | float():
            return value + 1
        case date():
            return date(2020, 2, 2)
        case tuple():
            return (*value, *value[:1]) if value else ("another",)
        case Condition():
            return Condition(f"{value.text} + 1", pl.lit(1), {})
    raise AssertionError(value)
