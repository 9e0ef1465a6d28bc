"""``journeys.yaml``: what a file means once it is resolved, and the one line that says why another is refused.

What belongs here: the grammar, its defaults and its refusals. What does not: expressions by themselves (``test_dialect``).
"""

import json
from dataclasses import fields
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import BaseModel

from atc_pipeline.journeys import document, measuring, wording
from atc_pipeline.journeys import portfolio as resolved
from atc_pipeline.journeys.document import JourneysDocument
from atc_pipeline.journeys.editors import json_schema
from atc_pipeline.journeys.portfolio import DEFAULT_SCORE, Channel, Goal, Measure, NotAfter, Period, Portfolio, Predictions, Reentry, Step
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio, resolve

ROOT = Path(__file__).parents[3]
EXAMPLE = Path(__file__).with_name("journeys.example.yaml")
HEAD = """\
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
"""
REST = """\
channels: {email: {consent: opt_in}, app: {consent: opt_out}}
traits:
  orders: {count: Order Completed}
  days_since_order: {days_since_last: Order Completed}
interests: {topics: {handbags: [{event: Product Viewed}]}}
intents: {ready_to_buy: {half_life_days: 3, full_at: 5, signals: [{event: Product Added}]}}
segments:
  new_handbag_browsers: tenure_days < 7 and orders = 0
"""
JOURNEYS = "journeys:\n  - {id: welcome, length_days: 7, queue: {where: tenure_days < 7}"
WELCOME = HEAD + JOURNEYS
FULL = HEAD + REST + JOURNEYS
CHOOSE = "choose another"
BUILT_IN = f"is taken by a built-in column: {CHOOSE}"
COMPARE = "and a condition needs true or false: compare it with something"
UNRANKED = "cannot be ranked: a percentile ranks by a number that is no percentile itself"
KINDS = (
    "expected exactly one of the keys count, sum, avg, min, max, first, last, most_frequent, unique_count, unique_list, "
    "days_since_first, days_since_last, percentile, profile"
)


def load(folder: Path, text: str) -> Portfolio:
    """Load a file of this text."""
    path = folder / "journeys.yaml"
    path.write_text(text, encoding="utf-8")
    return load_portfolio(path)


def refusal(folder: Path, text: str) -> str:
    """Return the message with which a file of this text is refused."""
    with pytest.raises(JourneysError) as error:
        load(folder, text)
    return str(error.value)


def test_the_example_loads_with_every_key_of_the_grammar() -> None:
    """The normative example means what its comments say."""
    portfolio = load_portfolio(EXAMPLE)
    welcome, second_order, handbags, winback = portfolio.journeys
    traits = {trait.id: trait for trait in portfolio.traits}
    policy = portfolio.policy

    assert (portfolio.version, portfolio.timezone, portfolio.starts_on) == ("2026-11", "Europe/Berlin", date(2026, 1, 1))
    assert (portfolio.ends_on, portfolio.backfill_days, portfolio.blocked) == (date(2027, 12, 31), 30, ("web-kiosk", "store-tablet"))
    assert portfolio.channels[1:3] == (Channel("app", "opt_out", human=False), Channel("website", "none", human=False))
    assert portfolio.channels[3].human
    assert portfolio.predictions == Predictions("Order Completed", "revenue", 90, 7)
    assert portfolio.engagement is not None
    assert portfolio.engagement.touches == ("Message Sent", "Campaign Received")
    assert [topic.id for topic in portfolio.topics] == ["handbags", "ski"]
    assert [signal.weight for signal in portfolio.topics[0].signals] == [1, 5]
    assert (portfolio.intents[0].id, portfolio.intents[0].half_life_days, portfolio.intents[0].full_at) == ("ready_to_buy", 3, 5)
    assert [segment.id for segment in portfolio.segments][:2] == ["new_handbag_browsers", "big_never_responded"]
    assert {id_: trait.dtype for id_, trait in traits.items() if trait.dtype not in (pl.Int64, pl.Float64)} == {
        "first_referrer": pl.String(),
        "last_plan": pl.String(),
        "favourite_category": pl.String(),
        "category_list": pl.List(pl.String()),
        "income": pl.String(),
        "unsubscribed": pl.Boolean(),
    }
    assert traits["events_7d"].selector is not None
    assert traits["events_7d"].selector.events == ()
    ski = traits["ski_products"]
    assert ski.selector is not None
    assert ski.selector.where is not None
    assert (ski.kind, ski.property, ski.selector.events, ski.selector.each) == ("sum", "quantity", ("Order Completed",), "products")
    assert (ski.selector.where.text, ski.selector.where.columns) == ("category = 'ski'", {"category": pl.String()})
    assert (traits["spend_percentile"].property, traits["spend_percentile"].selector) == ("spend", None)
    assert welcome.goal == Goal("Order Completed", 14, "revenue")
    assert welcome.steps == (Step(1, ("email",), "welcome_1", None), Step(7, ("app",), "welcome_2", None))
    assert (welcome.next_journeys, second_order.only_after) == (("second_order",), ("welcome",))
    assert handbags.queue.any == ("new_handbag_browsers", "big_never_responded")
    assert handbags.queue.none == ("leaving_skiers",)
    assert (handbags.reentry, handbags.max_entries) == (Reentry(60, "exit"), 4)
    assert handbags.not_after == (NotAfter("winback", 14),)
    assert (handbags.daily_entries, handbags.active, handbags.holdout, handbags.holdout_version) == (500, 4000, 0.1, "b")
    assert winback.suppress == (Period(date(2026, 12, 24), date(2026, 12, 26)),)
    assert (winback.can_interrupt, winback.interruptible, winback.must_finish) == (True, False, True)
    assert winback.exit_when is not None
    assert policy.cap is not None
    assert (policy.cap.days, policy.cap.starts.columns) == (14, {"engagement": pl.Float64()})
    assert (policy.holdout, policy.explore, policy.keep_candidates) == (0.05, 0.02, None)
    assert set(policy.score.columns) == {"propensity", "value", "interest_match", "intent_match", "priority"}


def test_version_and_calendar_are_enough(tmp_path: Path) -> None:
    """Without a policy every factor of the score is neutral and nothing is held back; empty sections are as if absent."""
    portfolio = load(tmp_path, HEAD + "segments:\njourneys:\n")
    policy = portfolio.policy

    assert [getattr(portfolio, name) for name in ("channels", "traits", "topics", "intents", "segments", "journeys")] == [()] * 6
    assert (portfolio.engagement, portfolio.predictions, portfolio.blocked) == (None, None, ())
    assert (portfolio.ends_on, portfolio.backfill_days) == (None, 30)
    assert (policy.score.text, policy.none.text) == (DEFAULT_SCORE, "0")
    assert (policy.prior_propensity, policy.waiting_weight, policy.linked_boost, policy.switch_margin) == (1, 0, 1, 0)
    assert (policy.rest_days, policy.cap, policy.suppress, policy.suppressed_when) == (0, None, (), None)
    assert (policy.holdout, policy.explore, policy.keep_candidates) == (0, 0, None)


def test_the_defaults_of_a_journey_protect_the_customer(tmp_path: Path) -> None:
    """Nothing is inherited by accident: never again, no interruption, no caps."""
    (journey,) = load(tmp_path, WELCOME + ", goal: {event: Order Completed}}").journeys
    defaults = {each.name: getattr(journey, each.name) for each in fields(journey) if each.name not in ("id", "queue")}

    assert defaults == {
        "name": "welcome",
        "owner": None,
        "description": None,
        "status": "live",
        "starts_on": None,
        "ends_on": None,
        "length_days": 7,
        "priority": 0,
        "value": 1,
        "mandatory": False,
        "interests": (),
        "intents": (),
        "channels": (),
        "goal": Goal("Order Completed", 7, None),
        "exit_on_goal": True,
        "exit_when": None,
        "next_journeys": (),
        "only_after": (),
        "not_after": (),
        "reentry": None,
        "measure": Measure(),
        "variants": (),
        "adapt": False,
        "max_entries": None,
        "can_interrupt": False,
        "interruptible": True,
        "must_finish": False,
        "daily_entries": None,
        "active": None,
        "holdout": 0,
        "holdout_version": None,
        "suppress": (),
        "steps": (),
    }


def test_a_draft_is_checked_and_left_out(tmp_path: Path) -> None:
    """Its name may be used, and its mistakes are told today, not on the day it goes live."""
    draft = "}\n  - {id: later, status: draft, length_days: 1, queue: {any: [%s]}}\n"
    portfolio = load(tmp_path, WELCOME + ", next_journeys: [later]" + draft % "everyone_else")

    assert [journey.id for journey in portfolio.journeys] == ["welcome"]
    assert portfolio.journeys[0].next_journeys == ("later",)
    assert refusal(tmp_path, WELCOME + draft % "some") == (
        "journeys.yaml:5: journey 'later', field 'queue.any': unknown segment 'some'; there are everyone_else"
    )


def test_numbers_may_stand_for_numeric_expressions(tmp_path: Path) -> None:
    """``starts: 2`` needs no quotes."""
    policy = load(tmp_path, HEAD + "policy: {none: 0.5, cap: {days: 7, starts: 2}}").policy

    assert policy.cap is not None
    assert (policy.none.text, policy.cap.starts.text) == ("0.5", "2")


def test_the_sections_of_a_file_may_come_in_any_order_and_encoding(tmp_path: Path) -> None:
    """A byte-order mark and Windows line ends are no mistake, nor are quotes round a day."""
    text = 'calendar: {starts_on: "2026-01-01", timezone: UTC}\nversion: "1"\n'
    path = tmp_path / "journeys.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    assert load_portfolio(path).starts_on == date(2026, 1, 1)


def test_a_document_that_was_never_a_file_resolves_too() -> None:
    """Problems are then told without a line."""
    document = JourneysDocument.model_validate(
        {
            "version": "1",
            "calendar": {"timezone": "UTC", "starts_on": date(2026, 1, 1)},
            "journeys": [{"id": "welcome", "length_days": 1, "queue": {"any": ["new"]}}],
        }
    )

    with pytest.raises(JourneysError) as error:
        resolve(document)

    assert str(error.value) == "journeys.yaml: journey 'welcome', field 'queue.any': unknown segment 'new'; there are everyone_else"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # the file
        ("", ": field 'version': is missing\n: field 'calendar': is missing"),
        ("- 1", ":1: expected keys with values, found a list"),
        (HEAD + "segments: {a: 'x", ":3: is not YAML: found unexpected end of stream while scanning a quoted scalar"),
        (HEAD + "policy: {score: *x}", ":3: is not YAML: found undefined alias 'x'"),
        (HEAD + "segments: &a {b: *a}", ":3: segment 'b': the alias *a stands inside what it repeats"),
        (HEAD + "segments: {[a]: b}", ":3: a key must be a name"),
        (HEAD + "version: '2'", ":1: key 'version' is given twice, again in line 3"),
        (HEAD + "segments:\n  a: true\n  a: true", ":4: field 'segments': key 'a' is given twice, again in line 5"),
        # keys
        (HEAD + "segmnts: {a: b}", ":3: unknown key 'segmnts'; did you mean 'segments'?"),
        (WELCOME + ", queu: 3}", ":4: journey 'welcome': unknown key 'queu'; did you mean 'queue'?"),
        (
            WELCOME + ", reentry: {every: 3}}",
            ":4: journey 'welcome', field 'reentry': unknown key 'every'; the keys here are after_days, from",
        ),
        (HEAD + "journeys: [{length_days: 7, queue: {}}]", ":3: journey 1, field 'id': is missing"),
        (HEAD + "journeys: [{id: a, queue: {}}]", ":3: journey 'a', field 'length_days': is missing"),
        (HEAD + "traits: {x: {sum: a}}", ":3: trait 'x', field 'of': is missing"),
        (HEAD + "traits: {x: {summ: a}}", f":3: trait 'x': {KINDS}; found summ; did you mean 'sum'?"),
        (HEAD + "traits: {x: {sum: a, count: B}}", f":3: trait 'x': {KINDS}; found count and sum"),
        (HEAD + "traits: {x: orders}", f":3: trait 'x': {KINDS}; found 'orders'"),
        # types
        (HEAD.replace('"1"', "2026"), ":1: field 'version': expected text, found 2026: put it in quotes"),
        (
            HEAD.replace("2026-01-01", "2026-02-30"),
            ":2: field 'calendar.starts_on': expected a day such as 2026-12-24, found '2026-02-30'",
        ),
        (WELCOME + ", priority: high}", ":4: journey 'welcome', field 'priority': expected a number, found 'high'"),
        (WELCOME + ", priority: .nan}", ":4: journey 'welcome', field 'priority': expected a number, found nan"),
        (WELCOME + ", mandatory: yes}", ":4: journey 'welcome', field 'mandatory': expected true or false, found 'yes'"),
        (
            HEAD + "metrics: {revenue: {total: revenue}}",
            ":3: metric 'revenue': expected exactly one of the keys count, sum, avg, any; found total",
        ),
        (
            HEAD + "metrics: {revenue: {sum: revenue, of: Order Completed, within_days: 7}}",
            ":3: metric 'revenue': unknown key 'within_days'; the keys here are each, where, sum, of",
        ),
        (
            HEAD + "metrics: {goal: {count: Order Completed}}",
            f":3: metric 'goal': the name goal is taken by a metric that is built in: {CHOOSE}",
        ),
        (
            HEAD + "metrics: {csat_sum: {count: Order Completed}}",
            f":3: metric 'csat_sum': the name csat_sum ends like a column made of a metric (_before, _sum, _count): {CHOOSE}",
        ),
        (
            HEAD + "metrics: {csat: {avg: rating, of: Survey Answered}}\nmeasurement: {money: csat}",
            ":4: field 'measurement.money': metric 'csat' (avg) is no money: expected a sum",
        ),
        (
            HEAD + "metrics: {csat: {avg: rating, of: Survey Answered}}\nmeasurement: {guardrails: [csta]}",
            ":4: field 'measurement.guardrails': unknown metric 'csta'; did you mean 'csat'?",
        ),
        (
            HEAD + "learning: {use: shadow}\npolicy: {explore: 0.001}",
            ":4: field 'policy.explore': is 0.001, and learning needs at least 0.005: a model must not be the only source of its own data",
        ),
        (
            HEAD + "traits: {city: {last: city, of: Seen}}\nlearning: {features: [city]}\npolicy: {explore: 0.01}",
            ":4: field 'learning.features': column 'city' is String: expected a number or a boolean",
        ),
        (
            HEAD + "learning: {features: [tenure]}\npolicy: {explore: 0.01}",
            ":3: field 'learning.features': unknown column 'tenure'; did you mean 'tenure_days'?",
        ),
        (
            HEAD + "policy: {score: uplift * value}",
            ":3: field 'policy.score': names uplift, which is learned: add the section learning, or leave it out",
        ),
        (
            WELCOME + ", variants: {shares: {a: 0.5, b: 0.4}}}",
            ":4: journey 'welcome', field 'variants.shares': they add up to 0.9: expected 1",
        ),
        (
            FULL + ", variants: {shares: {ask: 0.5, offer: 0.5}}, steps: [{day: 1, channel: app, content: hello, variant: offers}]}",
            ":12: journey 'welcome', field 'steps.variant': unknown variant 'offers'; did you mean 'offer'?",
        ),
        (
            FULL + ", variants: {shares: {ask: 0.5, offer: 0.5}}, steps: [{day: 1, channel: app, content: hello, variant: ask}, "
            "{day: 1, channel: app, content: bye}]}",
            ":12: journey 'welcome', field 'steps': a second step on day 1 through app: one message per day and channel",
        ),
        (WELCOME + ", max_entries: '3'}", ":4: journey 'welcome', field 'max_entries': expected a whole number, found '3'"),
        (
            WELCOME + ", interests: handbags}",
            ":4: journey 'welcome', field 'interests': expected a list such as [a, b], found 'handbags'",
        ),
        (WELCOME + ", goal: Order}", ":4: journey 'welcome', field 'goal': expected keys with values, found 'Order'"),
        (HEAD + "channels: {email: }", ":3: channel 'email': expected keys with values, found nothing"),
        (HEAD + "traits: {x: {count: [A, 7]}}", ":3: trait 'x', field 'count': expected text, found 7: put it in quotes"),
        (HEAD + "policy: {score: ''}", ":3: field 'policy.score': expected text, found ''"),
        (WELCOME + ", status: on}", ":4: journey 'welcome', field 'status': expected live, paused or draft, found 'on'"),
        (
            HEAD + "channels: {email: {consent: optin}}",
            ":3: channel 'email', field 'consent': expected opt_in, opt_out or none, found 'optin'; did you mean 'opt_in'?",
        ),
        (
            WELCOME + ", reentry: always}",
            (":4: journey 'welcome', field 'reentry': expected never, or keys such as {after_days: 60, from: exit}, found 'always'"),
        ),
        (
            HEAD + "policy: {keep_candidates: some}",
            ":3: field 'policy.keep_candidates': expected all or a number, found 'some'",
        ),
        # ranges
        (WELCOME.replace("7", "0") + "}", ":4: journey 'welcome', field 'length_days': expected at least 1, found 0"),
        (WELCOME + ", holdout: 1}", ":4: journey 'welcome', field 'holdout': expected less than 1, found 1"),
        (HEAD + "policy: {explore: -0.1}", ":3: field 'policy.explore': expected at least 0, found -0.1"),
        (HEAD + "policy: {prior_propensity: 2}", ":3: field 'policy.prior_propensity': expected at most 1, found 2"),
        (
            HEAD + "interests: {half_life_days: 0, topics: {}}",
            ":3: field 'interests.half_life_days': expected more than 0, found 0",
        ),
        (
            HEAD + "interests: {topics: {ski: [{event: A, weight: -1}]}}",
            ":3: interest 'ski', field 'weight': expected at least 0, found -1",
        ),
        (HEAD + "interests: {topics: {ski: []}}", ":3: interest 'ski': expected at least one, found an empty list"),
        # names
        (
            HEAD + "segments: {Big Spenders: 'true'}",
            ":3: segment 'Big Spenders': expected a name of small letters, digits and _, found 'Big Spenders'",
        ),
        (
            HEAD + "traits: {7d: {count: A}}",
            ":3: trait '7d': expected a name of small letters, digits and _ that does not begin with a digit, found '7d'",
        ),
        (
            HEAD + "engagement: {touch: '*', response: A}",
            ":3: field 'engagement.touch': expected the name of an event, found '*'",
        ),
        (
            HEAD + "traits: {tenure_days: {count: A}}",
            f":3: trait 'tenure_days': the name tenure_days {BUILT_IN}",
        ),
        (
            HEAD + "traits: {value: {count: A}}",
            f":3: trait 'value': the name value {BUILT_IN}",
        ),
        (
            HEAD + "traits: {score: {count: A}}",
            f":3: trait 'score': the name score {BUILT_IN}",
        ),
        (HEAD + "traits: {state: {count: A}}", f":3: trait 'state': the name state {BUILT_IN}"),
        (HEAD + "traits: {interests: {count: A}}", f":3: trait 'interests': the name interests {BUILT_IN}"),
        (HEAD + "traits: {case: {count: A}}", f":3: trait 'case': the name case is a word of conditions: {CHOOSE}"),
        (
            HEAD + "channels: {sms: {consent: opt_in}}\ntraits: {consent_sms: {profile: sms, type: boolean}}",
            f":4: trait 'consent_sms': the name consent_sms {BUILT_IN}",
        ),
        (HEAD + "segments: {all: true}", ":3: segment 'all': expected text, found true: put it in quotes"),
        (
            HEAD + "segments: {everyone_else: 'true'}",
            f":3: segment 'everyone_else': the name everyone_else is taken by the segment of those who are in no other: {CHOOSE}",
        ),
        (
            WELCOME.replace("welcome", "system") + "}",
            f":4: journey 'system', field 'id': the id system is taken by all journeys together: {CHOOSE}",
        ),
        (
            WELCOME.replace("welcome", "none") + "}",
            f":4: journey 'none', field 'id': the id none is taken by the option of no journey: {CHOOSE}",
        ),
        (
            WELCOME + "}\n  - {id: welcome, length_days: 1, queue: {where: 'true'}}",
            ":5: journey 'welcome', field 'id': a journey of this id stands above already: ids are unique",
        ),
        # references
        (
            WELCOME + ", next_journeys: [welcom]}",
            ":4: journey 'welcome', field 'next_journeys': unknown journey 'welcom'; did you mean 'welcome'?",
        ),
        (
            WELCOME + ", only_after: [second]}",
            ":4: journey 'welcome', field 'only_after': unknown journey 'second'; there are welcome",
        ),
        (
            WELCOME + ", not_after: [{journey: welcom, within_days: 3}]}",
            ":4: journey 'welcome', field 'not_after.journey': unknown journey 'welcom'; did you mean 'welcome'?",
        ),
        (
            FULL + "}\n  - {id: bags, length_days: 1, queue: {any: [new_handbag_browser]}}",
            ":13: journey 'bags', field 'queue.any': unknown segment 'new_handbag_browser'; did you mean 'new_handbag_browsers'?",
        ),
        (
            FULL + ", interests: [handbag], intents: [ready], channels: [mail]}",
            (
                ":12: journey 'welcome', field 'interests': unknown interest 'handbag'; did you mean 'handbags'?\n"
                ":12: journey 'welcome', field 'intents': unknown intent 'ready'; there are ready_to_buy\n"
                ":12: journey 'welcome', field 'channels': unknown channel 'mail'; did you mean 'email'?"
            ),
        ),
        (WELCOME + ", interests: [handbags]}", ":4: journey 'welcome', field 'interests': unknown interest 'handbags'"),
        (FULL + ", channels: [app, app]}", ":12: journey 'welcome', field 'channels': channel 'app' is named twice"),
        (
            FULL + ", steps: [{day: 1, channel: emial, content: a}]}",
            ":12: journey 'welcome', field 'steps.channel': unknown channel 'emial'; did you mean 'email'?",
        ),
        (
            FULL + ", steps: [{day: 2, content: a}]}",
            ":12: journey 'welcome', field 'steps': expected exactly one of the keys channel, channels",
        ),
        (
            FULL + ", steps: [{day: 1, channel: app, until: 3, content: a}]}",
            ":12: journey 'welcome', field 'steps.until': is for slots, which are not built yet: leave it out",
        ),
        (HEAD + "traits: {x: {percentile: y}}", ":3: trait 'x', field 'percentile': unknown trait 'y'; there are x"),
        (
            HEAD + "traits: {x: {percentile: y}, y: {last: plan, of: A}}",
            f":3: trait 'x', field 'percentile': trait 'y' (last) {UNRANKED}",
        ),
        (
            HEAD + "traits: {x: {percentile: x}}",
            f":3: trait 'x', field 'percentile': trait 'x' (percentile) {UNRANKED}",
        ),
        (
            HEAD.replace("Berlin", "Berlim"),
            ":2: field 'calendar.timezone': unknown time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?",
        ),
        # keys that must fit each other
        (
            HEAD.replace("2026-01-01", "2026-01-01, ends_on: 2025-12-31"),
            ":2: field 'calendar.ends_on': ends_on 2025-12-31 is before starts_on 2026-01-01",
        ),
        (
            WELCOME + ", only_after: [b]}\n  - {id: b, only_after: [welcome], length_days: 1, queue: {where: 'true'}}",
            ":4: journey 'welcome', field 'only_after': goes in a circle, so nobody could enter: welcome after b after welcome",
        ),
        (
            WELCOME + ", starts_on: 2026-03-01, ends_on: 2026-02-01}",
            ":4: journey 'welcome', field 'ends_on': ends_on 2026-02-01 is before starts_on 2026-03-01",
        ),
        (
            WELCOME + ", suppress: [{from: 2026-12-26, to: 2026-12-24}]}",
            ":4: journey 'welcome', field 'suppress': from 2026-12-26 is after to 2026-12-24",
        ),
        (
            HEAD + "policy: {suppress: [{from: 2026-12-26, to: 2026-12-24}]}",
            ":3: field 'policy.suppress': from 2026-12-26 is after to 2026-12-24",
        ),
        (
            HEAD + "journeys: [{id: a, length_days: 1, queue: {}}]",
            ":3: journey 'a', field 'queue': says nobody: expected at least one of any, all, none, where",
        ),
        (
            FULL + ", steps: [{day: 8, channel: app, content: a}]}",
            ":12: journey 'welcome', field 'steps.day': day 8 is after the journey's last day: length_days is 7",
        ),
        (
            FULL + ", steps: [{day: 2, channel: app, content: a}, {day: 2, channel: app, content: b}]}",
            ":12: journey 'welcome', field 'steps': a second step on day 2 through app: one message per day and channel",
        ),
        # expressions
        (
            HEAD + "segments: {new: tenure_day < 7}",
            ":3: segment 'new': unknown column 'tenure_day'; did you mean 'tenure_days'?",
        ),
        (HEAD + "segments: {new: date > date '2026-01-01'}", ":3: segment 'new': unknown column 'date'"),
        (
            HEAD + "traits: {x: {count: A, where: now() > 3}}",
            (
                ":3: trait 'x', field 'where': 'now' reads the clock, and a day must come out the same whenever it is computed: "
                "use tenure_days or a days_since_* trait, which count whole days up to the day of the run"
            ),
        ),
        (
            HEAD + "interests: {topics: {ski: [{event: A, where: price + 1}]}}",
            f":3: interest 'ski', field 'where': price + 1 is a number, {COMPARE}",
        ),
        (
            HEAD + "intents: {buy: {half_life_days: 1, full_at: 1, signals: [{event: A, where: 'x > '}]}}",
            ":3: intent 'buy', field 'signals.where': expected a column, a number or 'text' after x >, it ends",
        ),
        (
            FULL + ", exit_when: days_since_order}",
            f":12: journey 'welcome', field 'exit_when': days_since_order is a number, {COMPARE}",
        ),
        (
            WELCOME.replace("tenure_days < 7", "tenure < 7") + "}",
            ":4: journey 'welcome', field 'queue.where': unknown column 'tenure'; did you mean 'tenure_days'?",
        ),
        (
            HEAD + "policy: {score: propensity * valu}",
            ":3: field 'policy.score': unknown column 'valu'; did you mean 'value'?",
        ),
        (HEAD + "policy: {none: value}", ":3: field 'policy.none': unknown column 'value'"),
        (
            HEAD + "policy: {cap: {days: 7, starts: timezone}}",
            ":3: field 'policy.cap.starts': timezone is text, and a number is expected here",
        ),
        (
            HEAD + "policy: {suppressed_when: unsubscribed}",
            ":3: field 'policy.suppressed_when': unknown column 'unsubscribed'",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    """File, line, journey, field, what was expected, and the nearest valid name."""
    assert refusal(tmp_path, text).splitlines() == [f"journeys.yaml{line}" for line in message.splitlines()]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """One line per problem, and no more than a marketer would read."""
    journeys = "".join(f"  - {{id: j{number}, length_days: 1, queue: {{any: [x]}}}}\n" for number in range(25))
    lines = refusal(tmp_path, HEAD + "journeys:\n" + journeys).splitlines()

    assert lines[0] == "journeys.yaml:4: journey 'j0', field 'queue.any': unknown segment 'x'; there are everyone_else"
    assert lines[-1] == "... and 5 more"
    assert len(lines) == 21


def test_a_file_that_cannot_be_read_is_named_in_full(tmp_path: Path) -> None:
    """A wrong path is seen only if it is shown."""
    with pytest.raises(JourneysError) as error:
        load_portfolio(tmp_path / "journeys.yaml")
    assert str(error.value) == f"{tmp_path / 'journeys.yaml'}: cannot be read: No such file or directory"

    (tmp_path / "journeys.yaml").write_bytes(b"version: \xff")
    with pytest.raises(JourneysError) as error:
        load_portfolio(tmp_path / "journeys.yaml")
    assert str(error.value) == "journeys.yaml:1: is not UTF-8 text (byte 9): save it as UTF-8"


def test_the_json_schema_is_up_to_date() -> None:
    """Editors complete and check journeys.yaml from the file beside it."""
    assert (ROOT / "journeys.schema.json").read_text(encoding="utf-8") == json_schema(), "regenerate it with: make schema"


def test_the_json_schema_explains_every_key() -> None:
    """What an editor shows beside a key is the marketers' manual."""
    schema = json.loads(json_schema())
    models = {"JourneysDocument": schema, **schema["$defs"]}

    assert not [name for name, model in models.items() if "description" not in model]
    assert not [
        f"{name}.{key}"
        for name, model in models.items()
        for key, value in model["properties"].items()
        if "description" not in value and "$ref" not in value
    ]


@pytest.mark.parametrize(
    ("written", "resolved_as", "elsewhere", "made"),
    [
        (
            JourneysDocument,
            resolved.Portfolio,
            {"calendar", "identity", "interests", "writer"},
            {"timezone", "starts_on", "ends_on", "backfill_days", "blocked", "interest_half_life_days", "topics"},
        ),
        (document.Journey, resolved.Journey, {"capacity"}, {"daily_entries", "active", "adapt"}),
        (document.Policy, resolved.Policy, set(), set()),
        (document.Calendar, resolved.Portfolio, set(), None),
        (document.Identity, resolved.Portfolio, set(), None),
        (document.Capacity, resolved.Journey, set(), None),
        (document.Queue, resolved.Queue, set(), set()),
        (document.Goal, resolved.Goal, set(), set()),
        (document.Step, resolved.Step, {"channel", "until"}, set()),
        (measuring.Measurement, resolved.Measurement, set(), set()),
        (measuring.Measure, resolved.Measure, set(), set()),
        (measuring.Paths, resolved.Paths, set(), set()),
        (measuring.Learning, resolved.Learning, set(), set()),
        (document.Audience, resolved.Audience, set(), {"id"}),
        (document.Publish, resolved.Publish, set(), set()),
        (document.Hours, resolved.Hours, set(), set()),
        (document.MessageCap, resolved.MessageCap, set(), set()),
        (wording.Brand, resolved.Brand, set(), set()),
        (wording.Limits, resolved.Limits, {"push_body", "sms_segments"}, set()),
        (wording.Block, resolved.Block, {"text", "html", "write"}, {"id"}),
        (wording.Variant, resolved.Variant, {"write"}, set()),
        (wording.Email, resolved.EmailContent, set(), set()),
        (wording.Content, resolved.Content, {"push", "sms", "task", "slot"}, {"id"}),
        (document.NotAfter, resolved.NotAfter, set(), set()),
        (document.Reentry, resolved.Reentry, set(), set()),
        (document.Period, resolved.Period, set(), set()),
        (document.Cap, resolved.Cap, set(), set()),
        (document.Predictions, resolved.Predictions, set(), set()),
        (document.Channel, resolved.Channel, set(), {"id"}),
        (document.Intent, resolved.Intent, set(), {"id"}),
    ],
)
def test_whatever_is_written_is_resolved(written: type[BaseModel], resolved_as: type, elsewhere: set[str], made: set[str] | None) -> None:
    """A key of the grammar that the engine never sees would be a promise nobody keeps; ``elsewhere`` and ``made`` are the exceptions."""
    keys, names = set(written.model_fields), {field.name for field in fields(resolved_as)}
    assert keys - names == elsewhere
    assert made is None or names - keys == made
