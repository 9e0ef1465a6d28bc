"""Rendered messages: the bytes of rendering each by itself, whatever the data says, and what a failure costs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atc_pipeline.activation.rendering import render_messages
from atc_pipeline.activation.tables import RENDERED_MESSAGES
from atc_pipeline.content.guardrails import email_faults
from atc_pipeline.content.layouts import html_of, plain_html, text_of
from atc_pipeline.content.templates import SLOTS, RenderError
from atc_pipeline.journeys.portfolio import Block, Brand, Limits, Portfolio, Variant
from tests.engine.activation.contents import FRAME, TODAY, TYPES, due, people, portfolio_in
from tests.engine.reference import xxh64

HOSTILE = (
    "{{ 7*7 }}",
    "{% if %}",
    "<script>alert(1)</script>",
    "a\r\nBcc: x@example.com",
    "\u202eevil",
    "[Name]",
    "  ",
    "&amp;",
    "'\"",
    "\0",
)
WORDS = st.none() | st.sampled_from(["Ann", "Bo", *HOSTILE]) | st.text(max_size=5)
CUSTOMER = st.fixed_dictionaries(
    {
        "first_name": WORDS,
        "category": WORDS,
        "bought": st.none() | st.lists(st.sampled_from(["tea", "<b>", "{{ x }}", ""]), max_size=3),
        "spend": st.none() | st.sampled_from([0.0, -0.0, 99.999, 100.0, 1e11]),
    }
)


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Portfolio:
    """Two e-mails."""
    return portfolio_in(tmp_path_factory.mktemp("rendering"))


def plainly(portfolio: Portfolio, row: Mapping[str, Any], profile: Mapping[str, Any]) -> Mapping[str, Any]:
    """Render one message by itself."""
    email = next(content.email for content in portfolio.content if content.id == row["content"])
    assert email is not None
    blocks = {block.id: block for block in portfolio.blocks}
    values = {**profile, **row, "journey_name": "Win back"}
    chosen = [(blocks[name], variant_of(blocks[name], row["customer_id"], profile)) for name in (*email.body, "legal")]
    try:
        subject = email.subject.render(values).strip()
        preheader = email.preheader.render(values).strip() if email.preheader else ""
        texts = [variant.text.render(values) for _, variant in chosen]
        htmls = [variant.html.render(values) for _, variant in chosen if variant.html]
    except RenderError:
        return {"text": None, "problem": "no_content"}
    layout = FRAME if email.layout else plain_html()
    return {
        "variant": "+".join(f"{block.id}:{variant.id}" for block, variant in chosen if variant.id) or None,
        "subject": subject,
        "preheader": preheader or None,
        "text": text_of(texts),
        "html": html_of(layout, htmls, preheader),
    }


def variant_of(block: Block, customer: str, profile: Mapping[str, Any]) -> Variant:
    """Choose a variant for one customer, as the specification says it."""
    if block.variants[0].share is not None:
        bucket, end = xxh64(f"{block.id}:{customer}") % 10_000, 0
        for variant in block.variants:
            end += round((variant.share or 0) * 10_000)
            if bucket < end:
                return variant
    row = pl.DataFrame([profile], schema={name: dtype for name, dtype in TYPES.items() if name in profile})
    fits = (variant for variant in block.variants if variant.when is None or row.select(variant.when.expr).item())
    return next(fits)


@settings(max_examples=60, deadline=None)
@given(profiles=st.lists(CUSTOMER, min_size=1, max_size=6))
def test_rendering_by_block_is_rendering_by_message(portfolio: Portfolio, profiles: list[dict[str, Any]]) -> None:
    """The same bytes, whatever the data: nulls, blanks, minus zero, markup, templates and headers in it."""
    rows = due(len(profiles), ("miss_you", "plain"), ("email", "letter"))
    rendered = render_messages(rows, people(*profiles), portfolio, today=TODAY)
    assert rendered.select("idempotency_key", "channel").equals(rows.select("idempotency_key", "channel"))
    for row, message in zip(rows.iter_rows(named=True), rendered.iter_rows(named=True), strict=True):
        profile = profiles[int(row["customer_id"][1:])]
        normal = {**profile, "spend": None if profile["spend"] is None else profile["spend"] + 0.0}
        alone = plainly(portfolio, row, normal)
        assert {name: message[name] for name in alone} == alone


STRICT = Brand(("en",), ("tea", "evil*"), ("grocer.example",), 30.0, 0, 0.2, {"email": "legal"}, Limits(30, 1), {})


@settings(max_examples=60, deadline=None)
@given(profiles=st.lists(CUSTOMER, min_size=1, max_size=6))
def test_what_is_judged_by_parts_is_judged_whole(portfolio: Portfolio, profiles: list[dict[str, Any]]) -> None:
    """The rules that a message breaks are those that its finished texts break."""
    strict = replace(portfolio, brand=STRICT)
    for message in render_messages(due(len(profiles)), people(*profiles), strict, today=TODAY).drop_nulls("text").iter_rows(named=True):
        texts = {name: message[name] for name in ("subject", "preheader", "text", "html")}
        broken = email_faults(**texts, rules=strict.rules)
        assert message["guardrails"] == list(broken)
        assert message["problem"] == (f"guardrail:{broken[0]}" if broken else None)


def test_nobody_is_rendered_twice(portfolio: Portfolio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is rendered once for each distinct values that it reads, not once for each customer."""
    greeting = next(block for block in portfolio.blocks if block.id == "greeting")
    calls: list[object] = []
    template = greeting.variants[0].text
    render = type(template).render
    monkeypatch.setattr(type(template), "render", lambda self, values: calls.append(self) or render(self, values))
    profiles = people(*[{"first_name": "Ann" if place % 2 else "Bo", "category": f"{place}"} for place in range(40)])
    rendered = render_messages(due(40), profiles, portfolio, today=TODAY)
    assert rendered["text"].str.starts_with("Hi Ann,").sum() == 20
    assert calls.count(template) == 2


def test_who_cannot_be_told_anything_costs_nobody_else_anything(portfolio: Portfolio) -> None:
    """A failure of a template is that message's: no half of it is sent, and the others are as they were."""
    names = ["Ann", "x" * 1_000_000, "Bo"]
    rendered = render_messages(due(3), people(*[{"first_name": name} for name in names]), portfolio, today=TODAY)
    assert rendered["problem"].to_list() == [None, "no_content", None]
    assert rendered.row(1, named=True)["text"] is rendered.row(1, named=True)["subject"] is None
    alone = render_messages(due(1), people({"first_name": "Ann"}), portfolio, today=TODAY)
    assert rendered.head(1).equals(alone)


def test_a_content_that_a_channel_cannot_take_is_no_content(portfolio: Portfolio) -> None:
    """As is one that is not there: a row is never dropped."""
    rows = due(1, ("miss_you", "gone"))
    rendered = render_messages(rows, people({"first_name": "Ann"}), portfolio, today=TODAY)
    assert rendered["problem"].to_list() == [None, "no_content"]
    told = {name for name, value in rendered.row(1, named=True).items() if value is not None}
    assert told == {"date", "idempotency_key", "customer_id", "channel", "content", "problem"}
    assert rendered.drop("problem").schema == RENDERED_MESSAGES.schema


def test_nothing_due_is_nothing_rendered(portfolio: Portfolio) -> None:
    """With the columns of the table."""
    assert render_messages(due(0), people(), portfolio, today=TODAY).drop("problem").schema == RENDERED_MESSAGES.schema


def test_the_same_customer_is_in_the_same_arm_whoever_else_is_there(portfolio: Portfolio) -> None:
    """By a hash of block and customer: other variants of other blocks, other rows and other contents change nothing."""
    many = render_messages(due(200, ("plain",)), people(*[{}] * 200), portfolio, today=TODAY)
    arms = dict(many.select("customer_id", "variant").iter_rows())
    assert 0.2 < sum(arm == "offer:five" for arm in arms.values()) / 200 < 0.4
    few = due(200, ("plain", "miss_you")).filter(pl.col("customer_id").is_in(["c7", "c8"]))
    again = render_messages(few, people(*[{"first_name": "Ann"}] * 200), portfolio, today=TODAY)
    for customer, variant in again.select("customer_id", "variant").iter_rows():
        assert arms[customer] in variant.split("+")


def test_system_slots_stay_until_the_message_is_handed_over(portfolio: Portfolio) -> None:
    """In text and HTML, there as a link that can be seen."""
    message = render_messages(due(1), people({"first_name": "Ann"}), portfolio, today=TODAY).row(0, named=True)
    slot = SLOTS["unsubscribe_url"]
    assert slot in message["text"]
    assert f'<a href="{slot}">' in message["html"]


def test_data_cannot_hold_a_slot(portfolio: Portfolio) -> None:
    """Who is called like one gets no second address."""
    rows = people({"first_name": f"x{SLOTS['unsubscribe_url']}x"})
    message = render_messages(due(1), rows, portfolio, today=TODAY).row(0, named=True)
    assert message["problem"] is not None or message["text"].count(SLOTS["unsubscribe_url"]) == 1


@pytest.mark.parametrize("value", [*HOSTILE, "x" * 1_000_000])
def test_a_hostile_profile_is_inert(portfolio: Portfolio, value: str) -> None:
    """What it holds is text in every part, or the message is withheld: no template, no markup, no header of its own."""
    rendered = render_messages(due(1), people({"first_name": value, "category": value}), portfolio, today=TODAY).row(0, named=True)
    if rendered["problem"] is None:
        assert "49" not in rendered["text"]
        assert "<script>" not in rendered["html"]
        assert not {"\r", "\n"} & set(rendered["subject"] + rendered["preheader"])
    else:
        assert rendered["problem"].startswith("guardrail:") or (rendered["problem"] == "no_content" and len(value) > 500_000)
