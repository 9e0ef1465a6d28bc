"""How fast messages are rendered, against Jinja2's sandbox on each message by itself, and what they take on disk.

What belongs here: one e-mail of six blocks for made-up customers, and the comparison. What does not: the engine it measures
(``activation.rendering``). The clock is the CPU's: a message costs what it costs, whoever else is on the machine.
"""

import json
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from atc_pipeline.activation.rendering import render_messages
from atc_pipeline.content.layouts import html_of, text_of
from atc_pipeline.content.templates import SLOTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from resources.storage.lake import Lake

TODAY = date(2026, 3, 1)
NAMES, CATEGORIES = 8_000, 40
PROMISED_RATIO, PROMISED_MICROSECONDS, PROMISED_MEGABYTES = 8, 4, 40

_WEEK = "This week's harvest is in, picked in the morning and with you by night. "
_CELL = '<table role="presentation" width="100%"><tr><td style="padding:12px 24px;font-family:Arial;font-size:16px">{}</td></tr></table>'


def _block(text: str) -> Mapping[str, str]:
    return {"text": text, "html": _CELL.format(text)}


JOURNEYS = {
    "version": "1",
    "calendar": {"timezone": "UTC", "starts_on": "2026-01-01"},
    "channels": {"email": {"consent": "opt_in", "medium": "email", "to": "email"}},
    "traits": {
        "email": {"profile": "email", "type": "string"},
        "first_name": {"profile": "first_name", "type": "string"},
        "category": {"most_frequent": "category", "of": "Order Completed"},
    },
    "brand": {"footer": {"email": "legal"}},
    "blocks": {
        "greeting": _block("Hi {{ first_name | default('there') }},"),
        "hero": _block(_WEEK * 2),
        "category": _block(f"{_WEEK}You know {{{{ category | default('everything') }}}}: there is more of it."),
        "offer": _block(f"Five dollars off your next order. {_WEEK}"),
        "sign": _block(f"{_WEEK}See you on Saturday."),
        "legal": {
            "text": "You get this because you said yes: {{ unsubscribe_url }}",
            "html": _CELL.format('You said yes. <a href="{{ unsubscribe_url }}">Unsubscribe</a>'),
        },
    },
    "content": {
        "harvest": {
            "about": "The week's harvest.",
            "email": {"subject": "{{ first_name | default('You') }}, look", "body": ["greeting", "hero", "category", "offer", "sign"]},
        }
    },
    "journeys": [
        {
            "id": "weekly",
            "length_days": 7,
            "queue": {"where": "tenure_days >= 0"},
            "steps": [{"day": 1, "channel": "email", "content": "harvest"}],
        }
    ],
}


def measure_rendering(home: Path, messages: int, sample: int) -> None:
    """Render so many messages, and a sample of them one by one; print the times, and hold them against the promises."""
    portfolio = resolve_text(json.dumps(JOURNEYS), "journeys.yaml")
    rows, profiles = made_up(messages)
    began, at = time.process_time(), time.perf_counter()
    rendered = render_messages(rows, profiles.lazy(), portfolio, today=TODAY)
    cpu, wall = time.process_time() - began, time.perf_counter() - at
    assert rendered["problem"].null_count() == messages, rendered["problem"].value_counts()
    alone = each_alone(rendered, profiles, portfolio, sample)
    lake = Lake(root=str(home / "lake"))
    lake.write("rendered_messages", TODAY, rendered.drop("problem").sort("idempotency_key"))
    megabytes, each = lake.size("rendered_messages", TODAY) / 1e6, cpu / messages * 1e6
    gigabytes = int(rendered["bytes"].sum()) / 1e9
    print(f"\n{messages:,} messages of 6 blocks, {NAMES:,} names x {CATEGORIES} categories; {gigabytes:.2f} GB of text")
    print(f"by block              {each:>7.2f} us of CPU a message ({wall:.1f} s)   promised <= {PROMISED_MICROSECONDS}")
    print(f"each by itself        {alone:>7.2f} us (Jinja2's sandbox, a sample of {sample:,}, the same bytes)")
    print(f"ratio                 {alone / each:>7.1f}   promised >= {PROMISED_RATIO}")
    print(f"on disk               {megabytes:>7.1f} MB   promised <= {PROMISED_MEGABYTES} for a million")


def made_up(messages: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per customer: the message that is due, and the profile."""
    random = np.random.default_rng(12)
    customers = pl.Series("customer_id", [f"c{number:07}" for number in range(messages)])
    keys = pl.Series("idempotency_key", [f"{number:032x}" for number in random.permutation(messages)])
    profiles = pl.DataFrame(
        {
            "customer_id": customers,
            "first_name": pl.Series([f"Name{number}" for number in range(NAMES)]).gather(random.integers(0, NAMES, messages)),
            "category": pl.Series([f"category {number}" for number in range(CATEGORIES)]).gather(random.integers(0, CATEGORIES, messages)),
        }
    )
    due = pl.DataFrame([keys, customers]).with_columns(
        journey_id=pl.lit("weekly"),
        day_index=pl.lit(1, pl.Int64),
        entered_on=pl.lit(TODAY),
        ends_on=pl.lit(date(2026, 3, 7)),
        channel=pl.lit("email"),
        content=pl.lit("harvest"),
    )
    return due, profiles


def each_alone(rendered: pl.DataFrame, profiles: pl.DataFrame, portfolio: Portfolio, sample: int) -> float:
    """Return the microseconds of CPU that Jinja2 takes for a message by itself; raises AssertionError where it says anything else."""
    subject, text, html = whole_templates(portfolio)
    shown = rendered.head(sample).join(profiles, on="customer_id", maintain_order="left").to_dicts()
    began = time.process_time()
    said = [(subject.render(values), text.render(values), html.render(values)) for values in ({**row, **SLOTS} for row in shown)]
    took = time.process_time() - began
    assert said == [(row["subject"], row["text"], row["html"]) for row in shown], "one by one, they say something else"
    return took / sample * 1e6


def whole_templates(portfolio: Portfolio) -> tuple[Template, Template, Template]:
    """Write the whole e-mail as templates of Jinja2's own: subject, text and HTML."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    email = portfolio.content[0].email
    assert email is not None
    variants = [block.variants[0] for block in portfolio.body(email)]
    html = html_of(portfolio.layout_html(email), [variant.html.source for variant in variants if variant.html], None)
    escaping = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=True)
    text = text_of([variant.text.source for variant in variants])
    return environment.from_string(email.subject.source), environment.from_string(text), escaping.from_string(html)
