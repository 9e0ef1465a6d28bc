"""Addresses that bounce, complaints, and events of ours: what they change of a profile, and what not."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.customers import features
from atc_pipeline.days.course import Course
from atc_pipeline.days.customers import Activity, Profiles
from atc_pipeline.days.step import write_day
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.memory import Memory

FIRST = date(2026, 1, 10)
HEAD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-10}\n'
JOURNEYS = f"""{HEAD}
channels:
  news: {{consent: opt_in, medium: email, to: mail}}
  shop: {{consent: opt_in, medium: email, to: work}}
  app: {{consent: opt_in, to: token}}
  till: {{consent: none}}
traits:
  mail: {{profile: mail, type: string}}
  work: {{profile: work, type: string}}
  token: {{last: token, of: App Opened, within_days: 2}}
  everything: {{count: "*"}}
  sent: {{count: Message Sent}}
engagement: {{touch: Message Sent, response: App Opened}}
"""
OURS = {"context": {"library": {"name": "atc_pipeline"}}}

Event = dict[str, Any]


def load(folder: Path, text: str = JOURNEYS) -> Portfolio:
    """Load a portfolio."""
    (folder / "journeys.yaml").write_text(text)
    return load_portfolio(folder / "journeys.yaml")


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """Two channels of e-mail, one of another kind with an address, one without."""
    return load(tmp_path)


def told(at: str, user: str = "u", **traits: object) -> Event:
    """An ``identify``; moments are hours of a day that is added later."""
    return {"at": at, "type": "identify", "userId": user, "traits": traits}


def event(at: str, name: str, user: str = "u", **properties: object) -> Event:
    """A track event with these properties."""
    return {"at": at, "type": "track", "event": name, "userId": user, "properties": properties}


def bounced(at: str, user: str = "u", **properties: object) -> Event:
    """An ``Email Bounced``."""
    return event(at, "Email Bounced", user, **properties)


def course(portfolio: Portfolio, *days: list[Event]) -> Memory:
    """Run days of these events through to the profiles; ``day`` of one is how many days after its arrival it happened."""

    def landed(day: date) -> list[list[Lines]]:
        lines = []
        for number, happened in enumerate(days[(day - FIRST).days]):
            moment = f"{day + timedelta(days=happened.get('day', 0))}T{happened['at']}:00Z"
            line = {
                "messageId": f"{day}-{number}",
                "timestamp": moment,
                **{name: happened[name] for name in happened if name not in ("at", "day")},
            }
            lines.append(json.dumps(line).encode() + b"\n")
        return [[Lines("a.ndjson", 1, b"".join(lines))]] if lines else []

    store = Memory()
    steps = Course(store, portfolio, landed)
    for number in range(len(days)):
        steps.run(FIRST + timedelta(days=number))
    return store


def column(store: Memory, name: str, days: int, who: str = "u") -> list[Any]:
    """Return a column of one customer's profile, day by day."""
    profiles = (store.read("customer_profiles", FIRST + timedelta(days=number)) for number in range(days))
    return [value for profile in profiles for value in profile.filter(customer_id=who)[name].to_list() or [None]]


@pytest.mark.parametrize(
    ("words", "is_hard"),
    [
        ({"bounce_type": "hard"}, True),
        ({"type": " Hard_Bounce "}, True),
        ({"kind": "PERMANENT"}, True),
        ({"bounceType": "Permanent"}, True),
        ({"type": "bounce", "bounce_type": "hard"}, True),
        ({"type": "soft"}, False),
        ({"bounce_type": "Transient"}, False),
        ({"type": 5}, False),
        ({}, False),
    ],
)
def test_a_bounce_counts_that_is_for_good_in_whatever_words(portfolio: Portfolio, words: dict[str, object], is_hard: bool) -> None:
    """What is of no kind, or of one that passes, leaves the address as it is."""
    store = course(portfolio, [told("08", mail="a@example.com"), bounced("09", **words)])
    assert column(store, "bounced_news", 1) == [is_hard]


@pytest.mark.parametrize(
    ("words", "channels"),
    [
        ({}, {"news", "shop"}),
        ({"channel": "News "}, {"news"}),
        ({"channel": "app"}, {"app"}),
        ({"channel": "till"}, set()),
        ({"channel": "fax"}, {"news", "shop"}),
    ],
)
def test_a_bounce_is_of_the_channel_named_else_of_those_of_email(
    portfolio: Portfolio, words: dict[str, object], channels: set[str]
) -> None:
    """A name that is not ours names none."""
    everything = [told("08", mail="a@example.com", work="b@example.com"), event("08", "App Opened", token="t")]  # noqa: S106
    store = course(portfolio, [*everything, bounced("09", kind="hard", **words)])
    assert {name for name in ("news", "shop", "app") if column(store, f"bounced_{name}", 1) == [True]} == channels


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([[told("08", mail="a")], [bounced("09", kind="hard")], [], [told("10", mail="b")], []], [False, True, True, False, False]),
        ([[told("08", mail="a"), bounced("09", kind="hard"), told("10", mail="b")]], [False]),
        ([[told("08", mail="a"), bounced("09", kind="hard"), told("10", mail="a")], [told("10", mail="a")]], [True, True]),
        ([[told("08", mail="a"), bounced("09", kind="hard")], [told("10", work="b")]], [True, True]),
        ([[told("08", mail="a")], [told("08", mail="b")], [bounced("07", kind="hard") | {"day": -1}]], [False, False, False]),
        ([[told("08", mail="a")], [bounced("09", kind="hard")], [told("07", mail="b") | {"day": -2}]], [False, True, True]),
        ([[bounced("09", kind="hard")], [told("08", mail="a")], [bounced("09", kind="soft")]], [False, False, False]),
        ([[told("08", mail="a")], [bounced("09", kind="hard") | {"day": 1}], []], [False, False, True]),
    ],
    ids=["until it changes", "within a day", "said again", "another one", "late bounce", "late word", "before any", "from tomorrow"],
)
def test_a_bounce_counts_until_the_address_changes(portfolio: Portfolio, days: list[list[Event]], expected: list[bool]) -> None:
    """By the time of both; what is said again is no change, nor is a word that is older than what stands."""
    assert column(course(portfolio, *days), "bounced_news", len(days)) == expected


def test_an_address_that_nobody_says_changes_in_the_morning(portfolio: Portfolio) -> None:
    """The last token of two days: it goes with the day that leaves, and comes back as another."""
    opened = event("08", "App Opened", token="t")  # noqa: S106
    hard = bounced("09", kind="hard", channel="app")
    store = course(portfolio, [opened], [hard], [], [opened], [hard])
    assert column(store, "bounced_app", 5) == [False, True, False, False, True]
    assert column(store, "token", 5) == ["t", "t", None, "t", "t"]


def test_whoever_had_the_address_brings_it_along(portfolio: Portfolio) -> None:
    """Two who are one: the address of either is as old as it was, and another one is new."""
    alias = {"at": "12", "type": "alias", "userId": "u", "previousId": "v"}
    days = [
        [told("08", mail="a"), told("08", "v", mail="b") | {"at": "10"}],
        [bounced("09", "v", kind="hard")],
        [alias],
        [told("09", mail="c")],
    ]
    assert column(course(portfolio, *days), "bounced_news", 4) == [False, False, True, False]


def test_a_complaint_withdraws_consent_for_email_alone(portfolio: Portfolio, tmp_path: Path) -> None:
    """As ``Unsubscribed`` does, at once; where nothing is e-mail, for all, and a channel of that name is."""
    yes = told("08", consent_news=True, consent_shop=True, consent_app=True)
    store = course(portfolio, [yes], [event("09", "Email Marked as Spam") | {"day": 1}])
    assert [column(store, f"consent_{name}", 2)[1] for name in ("news", "shop", "app")] == [False, False, True]
    named = course(portfolio, [yes, event("09", "Email Marked as Spam", channel="SHOP")])
    assert [column(named, f"consent_{name}", 1)[0] for name in ("news", "shop", "app")] == [True, False, True]
    for names, expected in ((("email", "app"), [False, True]), (("fax", "app"), [False, False])):
        another = load(tmp_path, f"{HEAD}channels: {{{names[0]}: {{consent: opt_in}}, {names[1]}: {{consent: opt_in}}}}\n")
        granted = told("08", **{f"consent_{name}": True for name in names})
        store = course(another, [granted, event("09", "Email Marked as Spam")])
        assert [column(store, f"consent_{name}", 1)[0] for name in names] == expected


def test_what_is_ours_counts_where_it_is_named_and_nowhere_else(portfolio: Portfolio) -> None:
    """Not as anything that happened, nor when, nor as a day on which somebody was seen."""
    first = [event("08", "App Opened", token="t")]  # noqa: S106
    ours = [event("03", "Message Sent") | OURS, event("03", "Message Sent") | OURS, told("03", consent_news=True, mail="x") | OURS]
    with_ours, without = course(portfolio, first, ours), course(portfolio, first, [])
    assert column(with_ours, "sent", 2) == [0, 2]
    assert column(with_ours, "engagement", 2)[1] is not None
    there = without.read("customer_profiles", FIRST + timedelta(days=1)).drop("sent", "engagement", "state")
    assert_frame_equal(with_ours.read("customer_profiles", FIRST + timedelta(days=1)).drop("sent", "engagement", "state"), there)
    assert column(with_ours, "best_hour", 2) == [8, 8]
    assert column(with_ours, "everything", 2) == [1, 1]
    assert column(with_ours, "last_seen_on", 2) == [FIRST, FIRST]


def test_what_is_ours_makes_nobody_a_customer_and_nobody_one_with_another(portfolio: Portfolio) -> None:
    """Not today, and not later, when they come by themselves: what was said of a stranger is not kept for them."""
    strange = event("03", "Message Sent", "stranger") | OURS
    alias = {"at": "12", "type": "alias", "userId": "u", "previousId": "v"} | OURS
    store = course(
        portfolio,
        [event("08", "App Opened"), event("08", "App Opened", "v"), strange],
        [alias, strange],
        [event("08", "App Opened", "stranger")],
    )
    for day, customers in enumerate((["u", "v"], ["u", "v"], ["stranger", "u", "v"])):
        today = FIRST + timedelta(days=day)
        assert store.read("identity_map", today)["customer_id"].to_list() == customers
        assert store.read("customer_profiles", today)["customer_id"].to_list() == customers
    assert column(store, "sent", 3, "stranger") == [None, None, 0]
    assert column(store, "first_seen_on", 3, "stranger")[2] == FIRST + timedelta(days=2)


def test_an_address_that_is_defined_later_is_filled_in(tmp_path: Path) -> None:
    """Days that were made without ``to``, and caught up, are those that were made with it."""
    opened, hard = event("08", "App Opened", token="t"), bounced("09", kind="hard", channel="app")  # noqa: S106
    days = [[told("08", mail="a"), bounced("09", kind="hard")], [opened, hard], [told("08", mail="b")]]
    elsewhere = JOURNEYS.replace("to: mail", "to: work").replace("app: {consent: opt_in, to: token}", "app: {consent: opt_in}")
    before = load(tmp_path, elsewhere)
    store = course(before, *days)
    after = load(tmp_path)
    whole = course(after, *days)
    for step in (Activity(store, after, only_changed=True), Profiles(store, after, only_changed=True)):
        for number in range(len(days)):
            write_day(store, step, FIRST + timedelta(days=number))
    for number in range(len(days)):
        day = FIRST + timedelta(days=number)
        for table in ("customer_activity", "customer_profiles"):
            assert_frame_equal(store.read(table, day), whole.read(table, day))
    assert (column(store, "bounced_news", 3), column(store, "bounced_app", 3)) == ([True, True, False], [False, True, True])
    changed = [name for name, made_by in features.definitions(after).items() if features.definitions(before).get(name) != made_by]
    assert set(changed) == {"bounced_news", "bounced_app"}


def test_a_change_of_addresses_is_told(tmp_path: Path) -> None:
    """Of the column that it is in, and of the trait that makes it."""
    before = load(tmp_path)
    for text in (JOURNEYS.replace("to: mail", "to: work"), JOURNEYS.replace("mail: {profile: mail", "mail: {profile: email")):
        assert "bounced_news" in changes(before, load(tmp_path, text)).columns


def test_bounces_of_no_kind_are_told(portfolio: Portfolio) -> None:
    """Somebody's sender does not say; the day's coverage does."""
    coverage = course(portfolio, [told("08", mail="a"), bounced("09"), bounced("10", kind="soft")]).read("feature_coverage", FIRST)
    assert coverage.filter(feature="bounces.").select("events", "read", "skipped", "sample").rows() == [(2, 1, 1, "no kind of bounce")]
