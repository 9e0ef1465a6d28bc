"""Two e-mails that use all there is, and whom they are for: what is tested is not how journeys.yaml says them.

What belongs here: a portfolio with content, rows that are due, profiles. What does not: any test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl

from atc_pipeline.content.layouts import BODY, PREHEADER
from atc_pipeline.content.templates import ASSIGNMENT, Escape, Template, compile_template
from atc_pipeline.journeys.dialect import compile_condition
from atc_pipeline.journeys.portfolio import Block, Brand, Content, EmailContent, Layout, Limits, Portfolio, Variant
from atc_pipeline.journeys.resolution import load_portfolio

JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels:
  email: {consent: opt_in, medium: email, to: email}
  letter: {consent: opt_in, medium: email, to: email}
  till: {consent: none}
traits:
  email: {profile: email, type: string}
  first_name: {profile: first_name, type: string}
  category: {most_frequent: category, of: Order Completed}
  bought: {unique_list: category, of: Order Completed}
  spend: {sum: revenue, of: Order Completed}
journeys:
  - id: winback
    name: Win back
    length_days: 9
    queue: {where: "tenure_days >= 0"}
    steps: [{day: 1, channel: till, content: miss_you}, {day: 2, channel: till, content: plain}]
"""
TODAY = date(2026, 1, 10)
TYPES = {
    "customer_id": pl.String,
    "first_name": pl.String,
    "category": pl.String,
    "bought": pl.List(pl.String),
    "spend": pl.Float64,
    "email": pl.String,
}
SCHEMA = {"first_name": pl.String(), "category": pl.String(), "bought": pl.List(pl.String()), "spend": pl.Float64(), **ASSIGNMENT}


def said(text: str, html: str | None = None, id_: str = "", when: str | None = None, share: float | None = None) -> Variant:
    """A variant: its text, and the same in a paragraph where it has no HTML of its own."""
    condition = None if when is None else compile_condition(when, {**SCHEMA, "tenure_days": pl.Int64()})
    return Variant(id_, condition, share, template(text), template(html or f"<p>{text}</p>", "html"))


def template(text: str, escape: Escape = "text") -> Template:
    """A template over the columns of these tests."""
    return compile_template(text, SCHEMA, nullable=("first_name", "category", "bought", "spend"), escape=escape)


LIST = "{{% if bought %}}{before}{{% for each in bought %}}{item}{{% endfor %}}{after}{{% endif %}}"
BLOCKS = (
    Block("greeting", (said("Hi {{ first_name | default('there') }},"),)),
    Block(
        "hero",
        (
            said("{{ spend | default(0) | money('$') }} with us!", id_="big", when="spend >= 100"),
            said(
                "More {{ category | default('of it') }} is in.", "<b>{{ category | default('It') }}</b>", "fan", when="category is not null"
            ),
            said("New this week.", id_="anybody"),
        ),
    ),
    Block("offer", (said("Five off", id_="five", share=0.3), said("Ten off for {{ first_name | default('you') }}", id_="ten", share=0.7))),
    Block(
        "had",
        (
            said(
                LIST.format(before="", item="{{ each }}, ", after=""),
                LIST.format(before="<ul>", item="<li>{{ each }}</li>", after="</ul>"),
            ),
        ),
    ),
    Block(
        "legal",
        (
            said(
                "You said yes on day {{ day_index }} of {{ journey_name }}. {{ unsubscribe_url }}",
                '<a href="{{ unsubscribe_url }}">On day {{ day_index }}</a>',
            ),
        ),
    ),
)
FRAME = f"<html><head></head><body><i>{PREHEADER}</i><main>{BODY}</main></body></html>"


def portfolio_in(folder: Path) -> Portfolio:
    """Two e-mails of five blocks: variants by condition and by share, a list, a footer."""
    path = folder / "journeys.yaml"
    path.write_text(JOURNEYS, encoding="utf-8")
    subject, preheader = (
        template("{{ first_name | default('We') }}, it has been a while", "header"),
        template("{{ category | default('All') }}", "header"),
    )
    miss_you = EmailContent(subject, preheader, "frame", ("greeting", "hero", "offer", "had"))
    contents = (
        Content("miss_you", None, miss_you),
        Content("plain", None, EmailContent(template("Plain", "header"), None, None, ("offer",))),
    )
    brand = Brand((), (), (), None, None, None, {"email": "legal"}, Limits(1_000_000, 10_000), {"first_name": "Ann"})
    return replace(load_portfolio(path), layouts=(Layout("frame", "", FRAME),), blocks=BLOCKS, content=contents, brand=brand)


def due(number: int, contents: Sequence[str] = ("miss_you",), channels: Sequence[str] = ("email",)) -> pl.DataFrame:
    """One row per customer c0, c1 ... and message."""
    rows = [
        {"customer_id": f"c{place}", "content": content, "channel": channel, "day_index": 1 + place % 2}
        for place in range(number)
        for content in contents
        for channel in channels
    ]
    return pl.DataFrame(
        rows, schema={"customer_id": pl.String, "content": pl.String, "channel": pl.String, "day_index": pl.Int64}
    ).with_columns(
        idempotency_key=pl.concat_str("customer_id", "content", "channel", separator=":"),
        journey_id=pl.lit("winback"),
        entered_on=pl.lit(TODAY),
        ends_on=pl.lit(date(2026, 1, 18)),
    )


def people(*profiles: Mapping[str, object]) -> pl.LazyFrame:
    """The profiles of customers c0, c1 ..."""
    return pl.LazyFrame([{"customer_id": f"c{place}", **profile} for place, profile in enumerate(profiles)], schema=TYPES)
