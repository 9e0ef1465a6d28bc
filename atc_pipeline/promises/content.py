"""What must hold of rendered messages (SPEC 9.3, 9.4): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.content.templates import SLOTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.tables.store import Store

_LEFT_OVER = r"(?i)\{\{|\}\}|\{%|%\}|lorem ipsum"
_TEXTS = ("subject", "preheader", "title", "text", "html", "link", "fields")


def unfit_texts(rendered: pl.LazyFrame) -> pl.LazyFrame:
    """Return messages with something of a template left over, a header of two lines, or a link that is not https."""
    ...


def unsubscribable_emails(rendered: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return e-mails without the address to unsubscribe at, in the text or in the HTML."""
    emails = [channel.id for channel in portfolio.channels if channel.medium == "email"]
    slot = pl.lit(SLOTS["unsubscribe_url"])
    is_there = [pl.col(part).str.contains(slot, literal=True).fill_null(value=False) for part in ("text", "html")]
    return rendered.filter(pl.col("channel").is_in(emails), ~pl.all_horizontal(is_there)).select(*_SHOWN)


_SHOWN = ("date", "idempotency_key", "customer_id", "channel", "content")


def unrendered_messages(rendered: pl.LazyFrame, messages: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return messages to be sent on channels with a medium that say nothing, and what is said in no message to be sent."""
    spoken = [channel.id for channel in portfolio.channels if channel.medium is not None]
    key = ["date", "idempotency_key", "customer_id", "channel", "content"]
    planned = messages.filter(pl.col("withheld").is_null(), pl.col("channel").is_in(spoken)).select(key)
    said = rendered.select(key)
    return pl.concat([planned.join(said, on=key, how="anti"), said.join(planned, on=key, how="anti")])
