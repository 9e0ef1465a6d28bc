"""Changes between two portfolios: every field that differs is told, and what stands on it is named.

What belongs here: comparing portfolios. What does not: what a change does to customers (``tests/engine/plan``).
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from atc_pipeline.content.templates import Template
from atc_pipeline.journeys import portfolio as resolved
from atc_pipeline.journeys.changes import DERIVED, Edit, changes
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Condition, Portfolio, Selector
from atc_pipeline.journeys.resolution import resolve

TEXT = (
    Path(__file__)
    .with_name("journeys.example.yaml")
    .read_text(encoding="utf-8")
    .replace("content: welcome_1}", "content: welcome_1, variant: a}")
    .replace("keep_candidates: all", "keep_candidates: 5")
    .replace('where: "orders = 1"}', 'where: "orders = 1", all: [everyone_else]}')
    .replace("content: welcome_2}", 'content: welcome_2, when: "orders > 0", choose: listed, at: "11:00", repeat: true}')
    .replace(
        "\ntraits:",
        """
  letter: {consent: opt_in, to: income, hours: {from: 9, to: 20, days: [mon, tue]}, cap: {days: 7, messages: 3}, per_minute: 60,
           late_hours: 6, when: "orders > 1", per_day: 40, cost: 0.5}
  ads: {consent: opt_in, medium: audience}
brand:
  {languages: [en, de], banned: [free], links: [shop.example], reading: 60, exclamations: 2, capitals: 0.5, footer: {email: legal},
   limits: {subject: 60, email_kb: 90}, examples: {income: high}}
layouts: {page: "<html><body><b>Shop</b>{{ body }}</body></html>"}
blocks:
  legal: {text: "Bye: {{ unsubscribe_url }}", html: "<p><a href='{{ unsubscribe_url }}'>Bye</a></p>"}
  hello:
    variants: [{id: many, when: orders > 3, text: "Many orders."}, {id: few, text: "Few orders."}]
  offer:
    variants: [{id: five, share: 0.5, text: "Five off."}, {id: ten, share: 0.5, text: "Ten off, {{ journey_name }}."}]
content:
  news: {about: What is new., email: {subject: News today, preheader: Of the shop, layout: page, body: [hello, offer]}}
audiences:
  lookalikes: {segment: leaving_skiers, channel: ads, match: [income], fields: [orders], to: [platform], leave: keep}
  welcomed: {journey: welcome, channel: ads, match: [income], to: [platform]}
publish: {to: [crm], traits: [orders]}
metrics:
  revenue: {sum: revenue, of: Order Completed}
  opted_out: {any: Unsubscribed, where: "channel = 'email'"}
measurement: {money: revenue, margin: 0.25, guardrails: [opted_out], window_days: 28, cap_at: 0.999}
learning: {use: live, features: [tenure_days, engagement]}
traits:""",
    )
    .replace(
        "  - id: welcome\n",
        "  - id: welcome\n    measure: {window_days: 28, metrics: [revenue], decide_on: 2026-12-01}\n"
        "    variants: {shares: {a: 0.5, b: 0.5}, adapt: true}\n    holdout_version: again\n",
        1,
    )
    .replace("keep_candidates: 5", "keep_candidates: 5\n  patience_days: 3")
)
"""The whole grammar, with everything set that may be."""


def portfolio(*edits: tuple[str, str]) -> Portfolio:
    """Resolve the example with texts replaced."""
    text = TEXT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return resolve(parse_document(text, "journeys.yaml"))


EXAMPLE = portfolio()
LONG = "spend > 500 and touches > 0 and responses = 0"
Path_ = tuple[str | int, ...]


def places(value: object, path: Path_ = ()) -> Iterator[tuple[Path_, type, str]]:
    """Find every field of every dataclass within, where it has a value."""
    if is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            if (type(value), field.name) not in DERIVED and inner not in (None, ()):
                yield (*path, field.name), type(value), field.name
                yield from places(inner, (*path, field.name))
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from places(item, (*path, position))


def with_another(value: Any, path: Path_) -> Any:  # whatever is at the path
    """Return the same with another value at the path."""
    match path:
        case ():
            return another(value)
        case (int(position), *rest):
            return (*value[:position], with_another(value[position], tuple(rest)), *value[position + 1 :])
        case (name, *rest):
            return replace(value, **{str(name): with_another(getattr(value, str(name)), tuple(rest))})


def another(value: object) -> object:
    """Return another value of a type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case date():
            return value + timedelta(days=1)
        case time():
            return value.replace(minute=30)
        case tuple():
            return value[:-1]
        case Mapping():
            return {**value, "other": "value"}
        case pl.DataType():
            return pl.Binary()
        case _:
            assert is_dataclass(value)
            inner = [path for path, _, name in places(value) if len(path) == 1 and name != "id"]
            return with_another(value, inner[0]) if inner else Selector((), "products")


CLASSES = [
    kind for kind in vars(resolved).values() if inspect.isclass(kind) and is_dataclass(kind) and kind.__module__ == resolved.__name__
]
CLASSES.append(Template)
PLACES = list(places(EXAMPLE))


def test_the_example_has_every_field_of_every_class() -> None:
    """A field that is added later fails here until the example sets it, and then below until it is told."""
    every = {(kind, field.name) for kind in CLASSES for field in fields(kind)}

    assert every - DERIVED == {(kind, name) for _, kind, name in PLACES}


@pytest.mark.parametrize("path", [path for path, _, _ in PLACES], ids=lambda path: ".".join(map(str, path)))
def test_every_field_that_differs_is_told(path: Path_) -> None:
    """Another value anywhere is exactly one thing changed in exactly one key; another id, one thing removed and one new."""
    after = with_another(EXAMPLE, path)
    differing = changes(EXAMPLE, after)

    assert after.fingerprint != EXAMPLE.fingerprint
    if path[-1] == "id" and "variants" not in path:
        assert sorted(change.how for change in differing.every) == ["new", "removed"]
    elif len(path) == 1 and isinstance(path[0], str) and isinstance(getattr(EXAMPLE, path[0]), tuple) and path != ("blocked",):
        assert [change.how for change in differing.every] == ["removed"]  # the last of a list
    else:
        (change,) = differing.every
        (edit,) = change.edits
        assert edit.before != edit.after
        assert edit.words in change.words


def test_the_same_file_twice_differs_in_nothing() -> None:
    """Comments, layout and order of journeys and segments do not count; expressions compare by their text."""
    again = portfolio(("# how customers can be reached", "# ours"))

    assert not changes(EXAMPLE, again)
    assert again.fingerprint == EXAMPLE.fingerprint
    assert not changes(EXAMPLE, replace(again, journeys=again.journeys[::-1], segments=again.segments[::-1]))


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([("priority: 80", "priority: 30")], "journey welcome: priority 80 → 30"),
        ([("holdout: 0.1\n", "holdout: 0.25\n")], "journey handbags: holdout 0.1 → 0.25"),
        ([("status: live  ", "status: paused")], "journey winback: status live → paused"),
        ([("daily_entries: 500, ", "")], "journey handbags: capacity.daily_entries 500 → not set"),
        ([("any: [new_handbag_browsers, big_never_responded]", "any: [new_handbag_browsers]")],
         "journey handbags: queue.any without big_never_responded"),
        ([("{day: 7, channel: app, content: welcome_2, ", "{day: 9, channel: app, content: welcome_2, ")],
         ("journey welcome: steps with day 9 app welcome_2 at 11:00 when orders > 0 choose listed repeated, "
          "without day 7 app welcome_2 at 11:00 when orders > 0 choose listed repeated")),
        ([('text: "Many orders."', 'text: "Many, many orders."')], "block hello: variant many.text Many orders. → Many, many orders."),
        ([('{id: few, text: "Few orders."}', '{id: others, text: "Few orders."}')], "block hello: variants with others, without few"),
        ([('{id: many, when: orders > 3, text: "Many orders."}, ', "")], "block hello: variants without many when orders > 3"),
        ([("subject: News today", "subject: News")], "content news: email.subject News today → News"),
        ([("body: [hello, offer]", "body: [offer, hello]")], "content news: email.body hello, offer → offer, hello"),
        ([("layout: page, ", "")], "content news: email.layout page → not set"),
        ([("<b>Shop</b>", "<b>The shop</b>")],
         "layout page: text <html><body><b>Shop</b>{{ body }}</body></html> → <html><body><b>The shop</b>{{ body }}</body></html>"),
        ([("exclamations: 2", "exclamations: 0")], "brand: exclamations 2 → 0"),
        ([("languages: [en, de]", "languages: [en]")], "brand: languages without de"),
        ([("goal: {event: Order Completed, within_days: 14", "goal: {event: Order Completed, within_days: 7")],
         "journey welcome: goal.within_days 14 → 7"),
        ([("    goal: {event: Order Completed, within_days: 14, value: revenue}\n", "")],
         "journey welcome: goal Order Completed within 14 days, value revenue → not set"),
        ([("after_days: 60, from: exit", "after_days: 60, from: entry")], "journey handbags: reentry.from exit → entry"),
        ([("journeys:\n", "journeys:\n  - {id: spring_sale, length_days: 14, queue: {any: [leaving_skiers]}}\n")],
         "journey spring_sale is new (14 days, 0 messages, queue: any of leaving_skiers)"),
        ([('    queue: {where: "orders = 1", all: [everyone_else]}', '    status: draft\n    queue: {where: "orders = 1"}')],
         "journey second_order is removed (21 days, 0 messages, queue: all of everyone_else and where orders = 1)"),
        ([("spend > 500", "spend > 400")],
         f"segment big_never_responded: condition {LONG} → {LONG.replace('500', '400')}"),
        ([("{sum: revenue, of: Order Completed, within_days: 90}", "{sum: revenue, of: Order Completed, within_days: 60}")],
         "trait spend_90d: within_days 90 → 60"),
        ([('{count: "*", within_days: 7}', "{count: Page Viewed, within_days: 7}")], "trait events_7d: of with Page Viewed"),
        ([("where: \"game = 'poker'\", ", "")], "trait poker_result_7d: where game = 'poker' → not set"),
        ([("ski:\n      - {event: Product Viewed, where: \"category = 'ski'\"}", "ski:\n      - {event: Product Viewed, weight: 3}")],
         "interest ski: signals with Product Viewed, weight 3, without Product Viewed where category = 'ski'"),
        ([("half_life_days: 30\n  topics", "half_life_days: 10\n  topics")], "interests: half_life_days 30 → 10"),
        ([("full_at: 5", "full_at: 2.5")], "intent ready_to_buy: full_at 5 → 2.5"),
        ([("app:     {consent: opt_out} ", "app:     {consent: opt_in} ")], "channel app: consent opt_out → opt_in"),
        ([("touch: [Message Sent, Campaign Received]", "touch: [Message Sent]")], "engagement: touch without Campaign Received"),
        ([("horizon_days: 90", "horizon_days: 30")], "predictions: horizon_days 90 → 30"),
        ([("cap: {days: 14", "cap: {days: 7")], "policy: cap.days 14 → 7"),
        ([("backfill_days: 30", "backfill_days: 60")], "calendar: backfill_days 30 → 60"),
        ([('"web-kiosk", ', "")], "identity: blocked without web-kiosk"),
        ([('version: "2026-11"', 'version: "2026-12"')], "portfolio: version 2026-11 → 2026-12"),
    ],
)  # fmt: skip
def test_changes_are_said_in_marketers_words(edits: list[tuple[str, str]], words: str) -> None:
    """A line of its own for each thing, with the keys of the file."""
    assert changes(EXAMPLE, portfolio(*edits)).words == (words,)


def test_a_section_that_goes_is_removed() -> None:
    """Engagement and predictions are there or not; what they held is said."""
    lesser = replace(EXAMPLE, engagement=None)

    assert changes(EXAMPLE, lesser).words[0].startswith("engagement is removed (touches Message Sent, Campaign Received, ")
    assert changes(lesser, EXAMPLE).words[0].startswith("engagement is new (")


def test_ids_are_told_by_kind() -> None:
    """What is new, changed and removed among journeys is at hand for those who apply it."""
    after = portfolio(
        ("priority: 80", "priority: 30"),
        ("id: second_order\n", "id: third_order\n"),
        ("next_journeys: [second_order]", "next_journeys: [third_order]"),
    )
    differing = changes(EXAMPLE, after)

    assert (differing.new_journeys, differing.changed_journeys, differing.removed_journeys) == (
        ("third_order",),
        ("welcome",),
        ("second_order",),
    )
    assert differing.ids("segment", "changed") == ()


def test_what_stands_on_a_changed_trait_is_made_again() -> None:
    """A percentile of a trait, the segments that read either, and the queues of these segments; nothing else."""
    differing = changes(EXAMPLE, portfolio(("spend:              {sum: revenue", "spend:              {sum: total")))

    assert differing.words == ("trait spend: property revenue → total",)
    assert differing.columns == ("spend", "spend_percentile")
    assert differing.segments == ("big_never_responded", "lapsed_top_spenders", EVERYONE_ELSE)
    assert differing.queues == ("second_order", "handbags", "winback")


@pytest.mark.parametrize(
    ("edit", "columns"),
    [
        (("half_life_days: 30\n  topics", "half_life_days: 10\n  topics"), ("interest_handbags", "interest_ski")),
        (("full_at: 5", "full_at: 6"), ("intent_ready_to_buy",)),
        (("horizon_days: 90", "horizon_days: 30"), ("predicted_orders", "predicted_value", "churn_risk")),
        (("touch: [Message Sent, Campaign Received]", "touch: [Message Sent]"), ("engagement", "preferred_channel")),
        (("app:     {consent: opt_out} ", "app:     {consent: none} "), ()),
        (("priority: 80", "priority: 30"), ()),
    ],
)
def test_columns_that_are_made_otherwise_are_named(edit: tuple[str, str], columns: tuple[str, ...]) -> None:
    """All interests are shares of one total; a consent's meaning lies in the gate, not in the column."""
    assert changes(EXAMPLE, portfolio(edit)).columns == columns


def test_a_changed_day_or_identity_changes_every_column() -> None:
    """Another time zone counts events to other days, and other people are customers."""
    for edit in (("Europe/Berlin", "America/New_York"), ('"web-kiosk", ', "")):
        columns = changes(EXAMPLE, portfolio(edit)).columns
        assert {"first_seen_on", "orders", "consent_email", "interest_ski"} <= set(columns)


def test_more_days_to_look_back_change_every_queue() -> None:
    """Whoever qualified earlier than the days kept so far has waited longer."""
    assert changes(EXAMPLE, portfolio(("backfill_days: 30", "backfill_days: 60"))).queues == tuple(
        journey.id for journey in EXAMPLE.journeys
    )


def test_order_within_a_list_is_told_by_its_values() -> None:
    """Nothing was added or removed, and still the key differs."""
    condition = Condition("true", pl.lit(value=True), {})
    queue = resolved.Queue(("a", "b"), (), (), condition)
    before = replace(EXAMPLE, journeys=(replace(EXAMPLE.journeys[0], queue=queue),))
    after = replace(before, journeys=(replace(before.journeys[0], queue=replace(queue, any=("b", "a"))),))

    (change,) = changes(before, after).every
    assert change.edits == (Edit("queue.any", "a, b", "b, a"),)
    assert change.words == "journey welcome: queue.any a, b → b, a"
