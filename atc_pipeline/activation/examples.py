"""Examples: somebody who does not exist, to whom a content is shown (SPEC 9.3).

What belongs here: their profile, their journey, and which variants are shown. What does not: rendering (``rendering``), drawing
(``previews``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from atc_pipeline.activation.rendering import ASSIGNED, columns_of_content, render_messages
from atc_pipeline.journeys.portfolio import Block, Content, Portfolio

EXAMPLE = "example"
"""Who it is, and the journey where no journey has the content."""


def rendered_examples(portfolio: Portfolio, content: Content, *, today: date) -> pl.DataFrame:
    """One row per version of a content, each variant of each block in one at least: what ``render_messages`` makes of it."""
    rows, profile = rows_of(portfolio, content, EXAMPLE, today), example_profile(portfolio, today).lazy()
    versions = [render_messages(rows, profile, of_version, today=today) for of_version in _versions(portfolio, content)]
    return pl.concat(versions).unique(["channel", "variant"], maintain_order=True)


def rows_of(portfolio: Portfolio, content: Content, customer: str, today: date) -> pl.DataFrame:
    """One row for each medium that a content has and a channel takes, for ``render_messages``: the customer on the day it is due."""
    media = {"email": content.email}
    channels = {channel.medium: channel.id for channel in reversed(portfolio.channels) if media.get(str(channel.medium)) is not None}
    due = {name: pl.lit(value) for name, value in assigned(portfolio, content, today).items() if name in ASSIGNED}
    return pl.DataFrame({"channel": list(channels.values())}, schema={"channel": pl.String}).with_columns(
        idempotency_key=pl.lit("0" * 32), customer_id=pl.lit(customer), content=pl.lit(content.id), **due
    )


def assigned(portfolio: Portfolio, content: Content, today: date) -> Mapping[str, object]:
    """Return the entry of which the content is due today: of the first journey that has it."""
    steps = [(journey, step) for journey in portfolio.journeys for step in journey.steps if step.content == content.id]
    journey, day, length = (steps[0][0], steps[0][1].day, steps[0][0].length_days) if steps else (None, 1, 1)
    entered_on = today - timedelta(days=day - 1)
    return {
        "journey_id": EXAMPLE if journey is None else journey.id,
        "journey_name": EXAMPLE if journey is None else journey.name,
        "day_index": day,
        "entered_on": entered_on,
        "ends_on": entered_on + timedelta(days=length - 1),
    }


def example_profile(portfolio: Portfolio, today: date) -> pl.DataFrame:
    """One row: a value for each column that content reads, of ``brand.examples`` where it is there, else one of its type."""
    given = portfolio.brand.examples if portfolio.brand is not None else {}
    types = columns_of_content(portfolio)
    values = {name: given.get(name, _of_type(name, dtype, today)) for name, dtype in types.items()}
    columns = {name: pl.Series([value], dtype=types[name], strict=False) for name, value in values.items()}
    return pl.DataFrame({**columns, "customer_id": [EXAMPLE]})


def _of_type(name: str, dtype: pl.DataType, today: date) -> object:
    words = name.replace("_", " ")
    if isinstance(dtype, pl.List):
        return [_of_type(name, dtype.inner, today)] if isinstance(dtype.inner, pl.DataType) else None
    values: Mapping[type[pl.DataType], object] = {pl.String: words, pl.Boolean: True, pl.Int64: 3, pl.Float64: 12.5, pl.Date: today}
    return values.get(type(dtype))


def _versions(portfolio: Portfolio, content: Content) -> Iterator[Portfolio]:
    """Yield the portfolio with one variant of each block, whoever it is for, as often as the block with most has variants."""
    used = set(content.email.body) if content.email is not None else set()
    used |= set(portfolio.brand.footer.values()) if portfolio.brand is not None else set()
    most = max((len(block.variants) for block in portfolio.blocks if block.id in used), default=1)
    for number in range(most):
        yield replace(portfolio, blocks=tuple(_only(block, number) for block in portfolio.blocks))


def _only(block: Block, number: int) -> Block:
    variant = block.variants[number % len(block.variants)]
    return Block(block.id, (replace(variant, when=None, share=None),))
