"""Which messages are looked at: each version of a content on an example, one as a customer would get it, the day's shortest and longest.

What belongs here: what is read for them. What does not: how one is drawn (``activation.previews``), how many Dagster keeps.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.activation.examples import rendered_examples, rows_of
from atc_pipeline.activation.previews import Preview
from atc_pipeline.activation.rendering import ASSIGNED, profile_columns, render_messages
from atc_pipeline.days.customers import profiles_of
from atc_pipeline.journeys.portfolio import Content, Portfolio
from atc_pipeline.tables.store import Store


def examples(portfolio: Portfolio, content: Content, today: date) -> Sequence[Preview]:
    """Show each version of a content to somebody who does not exist."""
    return as_previews(rendered_examples(portfolio, content, today=today))


def for_customer(store: Store, portfolio: Portfolio, content: Content, customer: str, day: date) -> Sequence[Preview]:
    """Show a content as a customer would get it on a day, whether it is due or not; nothing where the day does not know them."""
    profile = profiles_of(store, portfolio, day, {"customer_id", *profile_columns(portfolio)}).filter(pl.col("customer_id") == customer)
    if profile.collect().is_empty():
        return []
    rows = rows_of(portfolio, content, customer, day)
    assigned = store.lazy("journey_assignments", day).filter(pl.col("customer_id") == customer).drop_nulls("journey_id")
    current = assigned.select("customer_id", *ASSIGNED).collect()
    if not current.is_empty():
        rows = rows.drop(*ASSIGNED).join(current, on="customer_id")
    return as_previews(render_messages(rows, profile, portfolio, today=day))


def extremes(store: Store, portfolio: Portfolio, day: date, contents: Sequence[str]) -> Sequence[Preview]:
    """Show the shortest and the longest message of the day of each of these contents, without what they say of anybody.

    Whom Dagster was told of it keeps for ever: letters and digits of what templates read, and no condition does, are put out.
    """
    key, size = ["content", "channel"], pl.col("bytes")
    sizes = store.lazy("rendered_messages", day).select(*key, "idempotency_key", "customer_id", "bytes")
    ends = sizes.filter(pl.col("content").is_in(contents), (size == size.min().over(key)) | (size == size.max().over(key)))
    kept = ends.sort("idempotency_key").unique([*key, "bytes"], keep="first", maintain_order=True)
    assigned = store.lazy("journey_assignments", day).select("customer_id", *ASSIGNED)
    rows = kept.join(assigned, on="customer_id", how="inner").sort(*key, "bytes").collect()
    profiles = profiles_of(store, portfolio, day, {"customer_id", *profile_columns(portfolio)})
    theirs = profiles.filter(pl.col("customer_id").is_in(rows["customer_id"].unique().to_list())).collect()
    return as_previews(render_messages(rows, put_out(theirs, portfolio).lazy(), portfolio, today=day))


def put_out(profiles: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """Write x for every letter and 1 for every digit of the texts that templates read, but of what conditions of variants read."""
    whens = [variant.when for block in portfolio.blocks for variant in block.variants if variant.when is not None]
    kept = {"customer_id", *(name for when in whens for name in when.columns)}
    schema = profiles.schema
    texts = [_out(pl.col(name)) for name, dtype in schema.items() if dtype == pl.String and name not in kept]
    lists = [
        pl.col(name).list.eval(_out(pl.element())) for name, dtype in schema.items() if dtype == pl.List(pl.String) and name not in kept
    ]
    return profiles.with_columns(*texts, *lists)


def _out(text: pl.Expr) -> pl.Expr:
    capitals, digits = text.str.replace_all(r"\p{Lu}", "X"), r"\p{N}"
    return capitals.str.replace_all(r"[\p{Ll}\p{Lt}\p{Lm}\p{Lo}\p{M}]", "x").str.replace_all(digits, "1")


def as_previews(rendered: pl.DataFrame) -> list[Preview]:
    """Take from rendered messages what is looked at."""
    return [Preview(*row) for row in rendered.select(*Preview._fields).iter_rows()]
