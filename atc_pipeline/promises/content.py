"""What must hold of rendered messages (SPEC 9.3, 9.4): each promise finds the rows that break it.

What is asked here of the finished texts is asked in other words than while they were rendered (``content.guardrails``), and never more.
"""

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.content.templates import SLOTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.promise import Find, Promise, Source, between, table
from atc_pipeline.tables.store import Store

_TEXTS, _LINES = ("subject", "preheader", "text", "html"), ("subject", "preheader")
_TEMPLATE = r"\{\{|\}\}|\{%|%\}"
_PLACEHOLDER = r"\[[^\W\d][\w .'-]{0,40}\]|(?i)\blorem ipsum\b"
_INSECURE = r"(?i)\b(?:http|ftp|file)://|\bjavascript:"
_INSECURE_HTML = r"""(?i)\b(?:href|src|action)\s*=\s*["']?\s*(?:http|ftp|file|javascript|data):"""
_LARGEST_HTML = 102 * 1024
_SHOWN = ("date", "idempotency_key", "customer_id", "channel", "content")


def unfit_texts(rendered: pl.LazyFrame) -> pl.LazyFrame:
    """Return messages that no rule of a brand allows: with a piece of a template, a placeholder, a header of two lines, a link that is
    not https, more HTML than is shown, or nothing to read.
    """
    texts = rendered.select(_TEXTS).unique()  # whoever gets the same words shares them
    unfit = pl.any_horizontal(
        *(pl.col(name).str.contains(_TEMPLATE) for name in _TEXTS),
        *(pl.col(name).str.contains(_PLACEHOLDER) for name in ("subject", "preheader", "text")),
        *(pl.col(name).str.contains(r"[\r\n]") for name in _LINES),
        *(pl.col(name).str.contains(_INSECURE) for name in ("subject", "preheader", "text")),
        pl.col("html").str.contains(_INSECURE_HTML),
        pl.col("html").str.len_bytes() > _LARGEST_HTML,
        pl.col("text").str.strip_chars() == "",
    )
    return rendered.join(texts.filter(unfit), on=_TEXTS, how="semi", nulls_equal=True).select(_SHOWN)


def unsubscribable_emails(rendered: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return e-mails without the address to unsubscribe at, in their text or in their HTML."""
    emails = [channel.id for channel in portfolio.channels if channel.medium == "email"]
    is_there = [pl.col(part).str.contains(SLOTS["unsubscribe_url"], literal=True).fill_null(value=False) for part in ("text", "html")]
    return rendered.filter(pl.col("channel").is_in(emails), ~pl.all_horizontal(is_there)).select(_SHOWN)


def unrendered_messages(rendered: pl.LazyFrame, messages: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return messages to be sent on channels with a medium that say nothing, and what is said in no message to be sent."""
    spoken = [channel.id for channel in portfolio.channels if channel.medium is not None]
    planned = messages.filter(pl.col("withheld").is_null(), pl.col("channel").is_in(spoken)).select(_SHOWN)
    said = rendered.select(_SHOWN)
    return pl.concat([planned.join(said, on=_SHOWN, how="anti"), said.join(planned, on=_SHOWN, how="anti")])


def _with_portfolio(rule: Callable[..., pl.LazyFrame], *sources: Source) -> Find:
    def find(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        return between(partial(rule, portfolio=portfolio), *sources)(store, portfolio, days)

    return find


_AGAIN = "If it fails, make outbound_messages of the day again; activation waits for it."
PROMISES = (
    Promise(
        "rendered_messages",
        "texts_are_fit_to_be_sent",
        "No message holds a piece of a template, a placeholder, a header of two lines, a link that is not https, or more HTML than is "
        f"shown (SPEC 9.4). {_AGAIN}",
        between(unfit_texts, table("rendered_messages")),
    ),
    Promise(
        "rendered_messages",
        "emails_can_be_unsubscribed",
        f"Every e-mail leads to where one unsubscribes, in its text and in its HTML (SPEC 9.4). {_AGAIN}",
        _with_portfolio(unsubscribable_emails, table("rendered_messages")),
    ),
    Promise(
        "rendered_messages",
        "what_is_sent_is_what_was_rendered",
        f"Every message to be sent on a channel with a medium is rendered, and nothing else is (SPEC 9.3). {_AGAIN}",
        _with_portfolio(unrendered_messages, table("rendered_messages"), table("outbound_messages")),
    ),
)
"""In the order of the lineage."""
