"""Consent is read generously against us, and its words merge to the same whatever their order."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.customers import consent, features
from atc_pipeline.customers.activity import roll_up, roll_up_again
from atc_pipeline.customers.coverage import unclear_consent
from atc_pipeline.customers.profiles import update_profiles
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

FIRST = date(2026, 1, 10)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Portfolio:
    """Two channels."""
    path = tmp_path_factory.mktemp("consent") / "journeys.yaml"
    path.write_text(
        'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\nchannels: {email: {consent: opt_in}, sms: {consent: opt_out}}\n'
    )
    return load_portfolio(path)


def said(number: int, moment: str, received: str | None = None, user: str = "u", **what: Any) -> dict[str, Any]:
    """Return an accepted event; moments are days and hours of January."""

    def at(text: str) -> datetime:
        day, hour = map(int, text.split("T"))
        return datetime(2026, 1, day, hour, tzinfo=UTC)

    traits, channel = what.get("traits"), what.get("channel", ...)
    properties = {} if channel is ... else {"channel": channel}
    return {
        "message_id": f"m{number}",
        "type": "identify" if traits is not None else "track",
        "event": None if traits is not None else what.get("event", "Unsubscribed"),
        "user_id": user,
        "timestamp": at(moment),
        "event_date": at(moment).date(),
        "received_at": None if received is None else at(received),
        "properties": None if traits is not None else json.dumps(properties),
        "traits": None if traits is None else json.dumps(traits),
    }


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return ``raw_events`` of these rows."""
    return pl.DataFrame([dict.fromkeys(RAW_EVENTS.schema) | row for row in rows], schema=RAW_EVENTS.schema)


def days(portfolio: Portfolio, *arrived: Sequence[dict[str, Any]], who: str = "u") -> list[tuple[bool | None, bool | None]]:
    """Return consent for email and SMS at the end of each day, from what arrived on it."""
    told, yesterday, rollups = [], None, []
    for number, rows in enumerate(arrived):
        today = FIRST + number * DAY
        rollups.append(roll_up(frame(rows), portfolio, arrival=today).activity)
        profiles = update_profiles(yesterday, pl.concat(rollups).lazy(), portfolio, today=today).collect()
        told += profiles.filter(pl.col("customer_id") == who).select("consent_email", "consent_sms").rows() or [(None, None)]
        yesterday = profiles.lazy()
    return told


YES = {"consent_email": True, "consent_sms": True}


@pytest.mark.parametrize("no", [False, "false", 0, "0", "no", "off", "OFF", " No ", "False", 0.0], ids=repr)
def test_a_withdrawal_is_heeded_however_it_is_spelled(portfolio: Portfolio, no: object) -> None:
    """As a truth value, a number or a text, in any case."""
    assert days(portfolio, [said(1, "10T9", traits=YES), said(2, "10T10", traits={"consent_email": no})]) == [(False, True)]


@pytest.mark.slow
@pytest.mark.parametrize("maybe", ["TRUE", "1", "yes", "on", 2, -1, 1.5, [True], {"a": 1}, "", "unsubscribed"], ids=repr)
def test_what_is_neither_yes_nor_no_grants_nothing_and_is_told(portfolio: Portfolio, maybe: object) -> None:
    """It withdraws nothing either, and the table says that there was a word, and what it looks like, but not the word."""
    unclear = said(1, "10T9", traits={"consent_email": maybe})
    assert days(portfolio, [unclear]) == [(None, None)]
    coverage = roll_up(frame([unclear]), portfolio, arrival=FIRST).coverage
    told = unclear_consent(coverage.lazy()).collect()
    assert told.select("feature", "words", "message_id").rows() == [("consent.email", 1, "m1")]
    assert "unsubscribed" not in told["looks_like"].item()


@pytest.mark.parametrize("yes", [True, "true", 1], ids=repr)
def test_a_grant_is_one_of_three(portfolio: Portfolio, yes: object) -> None:
    """``true``, as a truth value or a text, and 1."""
    assert days(portfolio, [said(1, "10T9", traits={"consent_email": yes})]) == [(True, None)]


@pytest.mark.parametrize(
    ("channel", "left", "is_told"),
    [
        ("Email", (False, True), False),
        (" EMAIL", (False, True), False),
        (None, (False, False), False),
        ("", (False, False), False),
        (" ", (False, False), False),
        ("all", (False, False), True),
        ("newsletter", (False, False), True),
        (5, (False, False), True),
        (["email"], (False, False), True),
    ],
)
def test_unsubscribing_from_nothing_of_ours_is_unsubscribing_from_all(
    portfolio: Portfolio, channel: object, left: tuple[bool, bool], is_told: bool
) -> None:
    """Names of channels count in any case; one that is not ours is told."""
    words = [said(1, "10T9", traits=YES), said(2, "10T10", channel=channel)]
    assert days(portfolio, words) == [left]
    assert unclear_consent(roll_up(frame(words), portfolio, arrival=FIRST).coverage.lazy()).collect().height == is_told


def test_the_name_of_the_trait_counts_in_any_case(portfolio: Portfolio) -> None:
    """Where an object has it twice, what withdraws counts."""
    assert days(portfolio, [said(1, "10T9", traits={"Consent_Email": True, "CONSENT_SMS": "off", "consent_smss": 1})]) == [(True, False)]
    assert days(portfolio, [said(1, "10T9", traits={"consent_email": True, "Consent_Email": False})]) == [(False, None)]
    assert days(portfolio, [said(1, "10T9", traits={"Consent_Email": 0, "consent_email": True})]) == [(False, None)]


def test_subscribing_is_for_the_channel_named(portfolio: Portfolio) -> None:
    """In any case; to nothing in particular, or of ours, it grants nothing."""
    assert days(portfolio, [said(1, "10T9", event="Subscribed", channel="SMS")]) == [(None, True)]
    assert days(portfolio, [said(1, "10T9", event="Subscribed"), said(2, "10T9", event="Subscribed", channel="fax")]) == [(None, None)]


def test_a_grant_from_a_fast_clock_does_not_overrule_a_withdrawal_that_came_later(portfolio: Portfolio) -> None:
    """Agreed at ten with a clock twenty hours fast, withdrawn at noon: false, also when the clock's time has come."""
    assert (
        days(portfolio, [said(1, "11T6", "10T10", traits={"consent_email": True}), said(2, "10T12", "10T12", channel="email")], [], [])
        == [(False, None)] * 3
    )
    # When it was received may not be told at all.
    assert days(portfolio, [said(1, "11T6", traits={"consent_email": True}), said(2, "10T12", channel="email")], []) == [(False, None)] * 2


def test_a_withdrawal_from_a_fast_clock_counts_at_once(portfolio: Portfolio) -> None:
    """It is known before the day is decided; a grant is not before its time."""
    assert days(portfolio, [said(1, "10T8", traits=YES), said(2, "11T4", "10T12", channel="email")], []) == [(False, True)] * 2
    assert days(portfolio, [said(1, "11T4", traits=YES)], [], []) == [(None, None), (True, True), (True, True)]


def test_a_grant_counts_again_if_it_is_later_in_both_ways(portfolio: Portfolio) -> None:
    """Later by its own time alone, or by arrival alone, it does not."""
    no, yes = said(1, "10T12", channel="email"), said(2, "10T15", traits={"consent_email": True})
    assert days(portfolio, [no, yes]) == [(True, None)]
    assert days(portfolio, [no], [said(2, "9T15", traits={"consent_email": True})]) == [(False, None)] * 2
    assert days(portfolio, [said(2, "10T15", traits={"consent_email": True})], [said(1, "9T12", channel="email")]) == [
        (True, None),
        (False, None),
    ]
    assert days(portfolio, [no], [said(2, "9T15", traits=YES)], [said(3, "11T1", traits=YES), said(4, "1T1", traits=YES)]) == [
        (False, None),
        (False, True),
        (True, True),
    ]


@pytest.mark.parametrize("landed", [10, 11, 12])
def test_of_words_that_landed_days_after_they_were_received_the_grant_that_was_received_first_is_overruled(
    portfolio: Portfolio, landed: int
) -> None:
    """Agreed with a fast clock and withdrawn two hours later, whenever the file with both words lands."""
    words = [said(1, "11T6", "10T10", traits={"consent_email": True}), said(2, "10T12", "10T12", channel="email")]
    told = days(portfolio, *([] for _ in range(10, landed)), words, [])
    assert told[landed - 10 :] == [(False, None)] * 2
    words = [said(1, "10T13", "10T13", traits={"consent_email": True}), said(2, "10T12", "10T12", channel="email")]
    assert days(portfolio, *([] for _ in range(10, landed)), words)[-1] == (True, None)


def test_a_withdrawal_that_lands_later_than_a_grant_counts_though_it_was_received_before(portfolio: Portfolio) -> None:
    """The day of arrival comes first: whoever looked on the day before had not heard of it."""
    no, yes = said(1, "10T12", "10T12", channel="email"), said(2, "10T15", "10T15", traits={"consent_email": True})
    assert days(portfolio, [yes], [no]) == [(True, None), (False, None)]
    assert days(portfolio, [no], [yes]) == [(False, None), (True, None)]


def test_what_was_received_years_ago_still_has_its_arrival_day(portfolio: Portfolio) -> None:
    """A clock of the receiver that is wrong moves no word to another day."""
    long_ago = said(1, "10T12", channel="email") | {"received_at": datetime(1999, 1, 1, tzinfo=UTC)}
    assert days(portfolio, [said(2, "9T1", "10T1", traits=YES)], [long_ago]) == [(True, True), (False, True)]


MOMENTS = st.integers(0, 6).map(lambda hour: datetime(2026, 1, 10, hour, tzinfo=UTC))
WORDS = st.tuples(st.booleans(), MOMENTS, st.integers(0, 6))


@given(st.lists(WORDS, max_size=8), st.randoms(use_true_random=False), st.integers(0, 8))
def test_words_merge_to_the_same_in_any_order_and_in_any_parts(words: list[Any], random: Any, cut: int) -> None:
    """A grant stands if and only if it is later than all withdrawals in both ways, whichever words were merged first."""
    rows = [
        {
            "customer_id": "u",
            "c.withdrawn": None if is_grant else at,
            "c.withdrawn_arrived": None if is_grant else arrived,
            "c.granted": [{"at": at, "arrived": arrived}] if is_grant else None,
        }
        for is_grant, at, arrived in words
    ]
    schema = {"customer_id": pl.String(), **consent.columns("c")}

    def merged(some: list[dict[str, Any]]) -> pl.LazyFrame:
        return consent.merged(pl.LazyFrame(some, schema=schema), ["customer_id"], "c")

    whole = merged(rows).with_columns(said=consent.is_given("c")).collect()
    random.shuffle(rows)
    parts = pl.concat([merged(rows[:cut]), merged(rows[cut:])]).select(*schema)
    again = consent.merged(parts, ["customer_id"], "c").with_columns(said=consent.is_given("c")).collect()
    assert whole.rows() == again.rows()
    withdrawn = [word[1:] for word in words if not word[0]]
    stands = any(is_grant and all(at > one and came >= other for one, other in withdrawn) for is_grant, at, came in words)
    assert whole["said"].to_list() == ([True] if stands else [False] if withdrawn else [])


def test_catching_up_knows_all_channels(portfolio: Portfolio) -> None:
    """What is not ours depends on all that are: consent to one is made again with that to the others."""
    definitions = features.definitions(portfolio)
    fewer = replace(portfolio, channels=portfolio.channels[:1])
    assert features.definitions(fewer)["consent_email"] != definitions["consent_email"]
    words = frame([said(1, "10T9", traits=YES), said(2, "10T10", channel="sms")])
    whole = roll_up(words, portfolio, arrival=FIRST)
    again = roll_up_again(whole, words, portfolio, ["consent_email"], arrival=FIRST)
    assert again.activity.equals(whole.activity)
    assert again.coverage.equals(whole.coverage)
