"""Rendered messages: what each message says, worked out once for each distinct set of values that it reads (SPEC 9.3).

A template is a function of the columns it reads. Each block is rendered once for each distinct tuple of them, a message is a tuple of
numbers of such renderings, and each distinct tuple is put together once: whoever gets the same words shares them. The bytes are those of
rendering each message by itself.

What belongs here: variants, putting together, what a failure means. What does not: templates and guardrails (``content``), which channel
is taken (``activation.messages``), what is put into the slots when a message is handed over (``resources.channels``).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, fields
from datetime import date
from functools import reduce
from html import escape
from itertools import accumulate
from operator import or_
from typing import Protocol

import numpy as np
import polars as pl

from atc_pipeline.activation.tables import GUARDRAIL, NO_CONTENT, RENDERED_MESSAGES
from atc_pipeline.content.guardrails import (
    RULES,
    Measures,
    Rules,
    excesses,
    faults,
    has_unsubscribe_link,
    header_faults,
    measured,
    ordered,
    size_faults,
)
from atc_pipeline.content.layouts import BODY, PREHEADER
from atc_pipeline.content.templates import ASSIGNMENT, SLOTS, RenderError, Template
from atc_pipeline.journeys.portfolio import Block, EmailContent, Portfolio, Variant
from atc_pipeline.rules.lots import BUCKETS, hexadecimal, xxh64
from atc_pipeline.rules.numbers import one_of

ASSIGNED = tuple(name for name in ASSIGNMENT if name != "journey_name")
"""What a template may name of the assignment; the journey's name is the portfolio's."""

SCHEMA = pl.Schema({**RENDERED_MESSAGES.schema, "problem": pl.String()})
"""What ``render_messages`` returns."""

_PLACE, _CHOSEN, _EMAIL, _LAYOUT = "place:", "chosen:", "email:", "layout:"
_SUBJECT, _PREHEADER, _BODY = "subject:", "preheader:", "body:"
"""Columns of our own: no column of a profile has a colon in its name."""

_AT_ONCE = 20_000
"""So many e-mails are put together at once; more are no faster, and take more memory."""


def render_messages(rows: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """One row per row of ``rows``, in their order: the columns of ``rendered_messages``, and ``problem``: why it cannot go out like this.

    ``rows``: ``idempotency_key, customer_id, journey_id, day_index, entered_on, ends_on, channel, content``, of channels with a medium.
    ``problem`` is ``no_content``, then all that it would say is null, or ``guardrail:<rule>``, the first that it breaks; null = fine.
    """
    contents = {content.id: content.email for content in portfolio.content if content.email is not None}
    is_email = pl.col("channel").is_in([channel.id for channel in portfolio.channels if channel.medium == "email"])
    due = rows.lazy().with_row_index(_PLACE).filter(is_email & pl.col("content").is_in(list(contents)))
    groups = due.group_by("content").agg(_PLACE).collect()
    known = known_of(rows, profiles, portfolio)
    number = np.zeros(rows.height, dtype=np.int64)
    emails, renderings, layouts = _NO_EMAIL, _NOTHING, [("", "", "", False)]
    for content, places in zip(groups["content"], groups[_PLACE], strict=True):
        email, parts, made = _emails(known[places], contents[content], portfolio)
        number[places.to_numpy()] = email + emails.height
        numbered = (parts + renderings.height).with_columns(pl.lit(len(layouts), pl.Int64).alias(_LAYOUT))
        emails = pl.concat([emails, numbered], how="diagonal")
        renderings = renderings.vstack(made)
        layouts.append(_around(portfolio.layout_html(contents[content])))
    slices = emails.fill_null(0).iter_slices(_AT_ONCE)
    texts = _judged(pl.concat(_put_together(each, renderings, layouts) for each in slices), portfolio.rules)[number]
    problem = pl.when(pl.col("text").is_null()).then(pl.lit(NO_CONTENT)).otherwise("problem")
    whole = pl.concat([rows.select(_ROW), texts], how="horizontal").with_columns(problem=problem, date=pl.lit(today))
    return whole.select(pl.col(name) if name in whole.columns else pl.lit(None).alias(name) for name in SCHEMA).cast(SCHEMA)


_ROW = ("idempotency_key", "customer_id", "channel", "content")


def known_of(rows: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per row: what templates and conditions of its content may name, of the profile and of the assignment."""
    named = {journey.id: journey.name for journey in portfolio.journeys}
    own = {
        **{name: pl.col(name) for name in ASSIGNED},
        "journey_name": pl.col("journey_id").replace_strict(named, default=pl.col("journey_id"), return_dtype=pl.String),
    }
    wanted = columns_of_content(portfolio, rows["content"].unique().to_list())
    of_profile = [name for name in profiles.collect_schema().names() if name in wanted and name not in {*own, "customer_id"}]
    due = rows.lazy().select("customer_id", **{name: expr for name, expr in own.items() if name in wanted})
    known = due.join(profiles.select("customer_id", *of_profile), on="customer_id", how="left", maintain_order="left")
    return known.with_columns(pl.selectors.float() + 0.0).collect()  # minus zero would be the same row as zero, and another text


def columns_of_content(portfolio: Portfolio, contents: Collection[str] | None = None) -> Mapping[str, pl.DataType]:
    """Name what templates of contents read, and conditions of their blocks' variants, with the types; of all contents, if not said."""
    emails = [each.email for each in portfolio.content if each.email is not None and (contents is None or each.id in contents)]
    blocks = {block.id: block for email in emails for block in portfolio.body(email)}
    variants = [variant for block in blocks.values() for variant in block.variants]
    lines = [line for email in emails for line in (email.subject, email.preheader)]
    readers = [*lines, *(reader for variant in variants for reader in (variant.text, variant.html, variant.when))]
    return {name: dtype for reader in readers if reader is not None for name, dtype in reader.columns.items()}


def profile_columns(portfolio: Portfolio) -> set[str]:
    """Name what of a profile all content reads."""
    return {name for name in columns_of_content(portfolio) if name not in ASSIGNMENT}


def rendered_table(rendered: pl.DataFrame | None) -> pl.DataFrame:
    """One row per message of which the text was made, as ``rendered_messages`` has it; None: of no message."""
    if rendered is None:
        return pl.DataFrame(schema=RENDERED_MESSAGES.schema)
    return rendered.select(*RENDERED_MESSAGES.schema).sort(RENDERED_MESSAGES.key)


def choice(block: Block) -> pl.Expr:
    """Return the place of the variant that a customer gets: the first whose condition holds, or the arm of an experiment (SPEC 9.3)."""
    *earlier, last = block.variants
    if last.share is not None:
        bucket = xxh64(pl.concat_str(pl.lit(f"{block.id}:"), "customer_id")) % BUCKETS
        ends = accumulate(round((variant.share or 0) * BUCKETS) for variant in earlier)
        tests = [bucket < end for end in ends]
    else:
        tests = [pl.lit(value=True) if variant.when is None else variant.when.expr for variant in earlier]
    cases = [(test, pl.lit(place, pl.Int32)) for place, test in enumerate(tests)]
    return one_of(cases, otherwise=pl.lit(len(earlier), pl.Int32))


_MEASURES = tuple(field.name for field in fields(Measures))
_RENDERING = pl.Schema(
    {
        "label": pl.String(),
        "text": pl.String(),
        "html": pl.String(),
        "broken": pl.Int64(),
        "is_told": pl.Boolean(),
        "is_followed": pl.Boolean(),
    }
    | dict.fromkeys(_MEASURES, pl.Int64())
)
"""One rendering of a block or a line: ``block:variant``, null where there is one only; what it says, null where the template failed; which
rules it breaks by itself, as bits; whether the text, and the HTML, lead to where one unsubscribes; what adds up."""
_NOTHING = pl.DataFrame([(None, "", "", 0, False, False, *astuple(Measures()))], schema=_RENDERING, orient="row")
"""The first rendering of all: what an e-mail says in a part that its content does not have."""
_NO_EMAIL = pl.DataFrame({_SUBJECT: [0], _PREHEADER: [0], f"{_BODY}0": [0], _LAYOUT: [0]})
"""The first e-mail of all, of nothing but that: what is said where there is no e-mail."""
_UNSUBSCRIBE = SLOTS["unsubscribe_url"]

_BITS = {rule: 1 << place for place, rule in enumerate(RULES)}


class Say(Protocol):
    """Says a variant with these values: as text and as HTML, and which rules that breaks."""

    def __call__(self, variant: Variant, values: Mapping[str, object], rules: Rules) -> tuple[str, str, frozenset[str]]:
        """Raise RenderError where it cannot be said."""


def _emails(rows: pl.DataFrame, content: EmailContent, portfolio: Portfolio) -> tuple[np.ndarray, pl.DataFrame, pl.DataFrame]:
    """Return of each row the number of its e-mail; by number the distinct e-mails: of each part the number of its rendering; by number
    the renderings: each part once for each distinct tuple of values that a variant reads."""
    rules = portfolio.rules
    parts: dict[str, tuple[Block, Say]] = {f"{_BODY}{place}": (block, _say_block) for place, block in enumerate(portfolio.body(content))}
    parts[_SUBJECT] = (_line(content.subject), _say_subject)
    if content.preheader is not None:
        parts[_PREHEADER] = (_line(content.preheader), _say_preheader)
    first = pl.col(_PLACE).first()  # what is alike goes by the first row that has it
    alike = (
        rows.with_row_index(_PLACE)
        .with_columns(choice(block).alias(f"{_CHOSEN}{name}") for name, (block, _) in parts.items())
        .with_columns(first.over(_read(block, pl.col(f"{_CHOSEN}{name}"))).alias(name) for name, (block, _) in parts.items())
        .with_columns(first.over(list(parts)).alias(_EMAIL))
    )
    at, email = _distinct(alike[_EMAIL])
    numbers: dict[str, np.ndarray] = {}
    made: list[tuple[object, ...]] = []
    for name, (block, say) in parts.items():
        rendered_at, rendering = _distinct(alike[name])
        numbers[name] = rendering[at] + len(made)
        values = alike[rendered_at, [f"{_CHOSEN}{name}", *_columns(*block.variants)]].iter_rows(named=True)
        made += [_rendering(block, block.variants[row[f"{_CHOSEN}{name}"]], row, say, rules) for row in values]
    return email, pl.DataFrame(numbers), pl.DataFrame(made, schema=_RENDERING, orient="row")


def _distinct(first: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are the first of their like, and of each row the number of its like; ``first``: of each row, that row."""
    is_first = first.to_numpy() == np.arange(len(first))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first.to_numpy()]


def _read(block: Block, chosen: pl.Expr) -> list[pl.Expr]:
    """Return what a rendering of a block is made of: the variant, and the values that it reads; what it does not read does not count."""
    readers = {
        name: [place for place, variant in enumerate(block.variants) if name in _columns(variant)] for name in _columns(*block.variants)
    }
    return [chosen, *(pl.when(chosen.is_in(places)).then(pl.col(name)) for name, places in readers.items())]


def _rendering(block: Block, variant: Variant, values: Mapping[str, object], say: Say, rules: Rules) -> tuple[object, ...]:
    """Say a variant with these values: a row of ``_RENDERING``."""
    label = f"{block.id}:{variant.id}" if variant.id else None
    try:
        text, html, broken = say(variant, values, rules)
    except RenderError:
        return (label, *[None] * (len(_RENDERING) - 1))
    is_followed = _UNSUBSCRIBE in html and has_unsubscribe_link(_UNSUBSCRIBE, html)
    return (label, text, html, sum(_BITS[rule] for rule in broken), _UNSUBSCRIBE in text, is_followed, *astuple(measured(text)))


def _columns(*variants: Variant) -> list[str]:
    """Name what variants read."""
    templates = [template for variant in variants for template in (variant.text, variant.html) if template is not None]
    return sorted({name for template in templates for name in template.columns})


def _line(template: Template) -> Block:
    """Return what is no block of journeys.yaml as one."""
    return Block("", (Variant("", None, None, template, None),))


def _say_block(variant: Variant, values: Mapping[str, object], rules: Rules) -> tuple[str, str, frozenset[str]]:
    text, html = variant.text.render(values).strip(), "" if variant.html is None else variant.html.render(values)
    return text, html, faults(text, rules) | faults(html, rules, is_html=True)


def _say_subject(variant: Variant, values: Mapping[str, object], rules: Rules) -> tuple[str, str, frozenset[str]]:
    text = variant.text.render(values).strip()
    return text, "", header_faults(text, rules, is_subject=True)


def _say_preheader(variant: Variant, values: Mapping[str, object], rules: Rules) -> tuple[str, str, frozenset[str]]:
    text = variant.text.render(values).strip()
    return text, escape(text, quote=False), header_faults(text, rules)


def _around(layout: str) -> tuple[str, str, str, bool]:
    """Return a layout's HTML before the preheader, from there to the blocks, and after them (``layouts.html_of``); whether it leads to
    where one unsubscribes."""
    before, _, rest = layout.partition(PREHEADER)
    above, _, below = rest.partition(BODY)
    return before, above, below, has_unsubscribe_link(_UNSUBSCRIBE, before + above + below)


def _put_together(emails: pl.DataFrame, renderings: pl.DataFrame, layouts: Sequence[tuple[str, str, str, bool]]) -> pl.DataFrame:
    """One row per distinct e-mail; of one of which a part failed, or that has no subject or nothing to read, all is null."""
    around = pl.DataFrame(layouts, schema=["before", "above", "below", "leads"], orient="row")
    body = [name for name in emails.columns if name.startswith(_BODY)]
    parts = [_SUBJECT, _PREHEADER, *body]
    renamed = [of.alias(f"{of.name}:{name}") for name in parts for of in renderings[emails[name]]]
    wide = around[emails[_LAYOUT]].hstack(renamed)
    part = {of: [pl.col(f"{of}:{name}") for name in body] for of in _RENDERING}
    columns = {
        "variant": _joined(part["label"], "+"),
        "subject": _unless_blank(pl.col(f"text:{_SUBJECT}")),
        "preheader": _unless_blank(pl.col(f"text:{_PREHEADER}")),
        "text": _joined([_unless_blank(text) for text in part["text"]], "\n\n"),
        "html": pl.concat_str("before", f"html:{_PREHEADER}", "above", *part["html"], "below"),
        "broken": reduce(or_, [pl.col(f"broken:{name}") for name in parts]),
        "is_followed": pl.any_horizontal(part["is_told"]) & pl.any_horizontal(*part["is_followed"], "leads"),
        **{measure: pl.sum_horizontal(part[measure]) for measure in _MEASURES},
    }
    has_failed = pl.any_horizontal(pl.col(f"text:{name}").is_null() for name in parts)
    is_whole = ~has_failed & pl.all_horizontal(pl.col("subject", "text").is_not_null())
    whole = wide.with_columns(**columns).with_columns(
        bytes=pl.sum_horizontal(pl.col("subject", "preheader", "text", "html").str.len_bytes()).cast(pl.Int64),
        content_hash=hexadecimal(xxh64(pl.concat_str("text", "html", separator="\0"))),
    )
    return whole.select(pl.when(is_whole).then(pl.col(name)).alias(name) for name in (*columns, "bytes", "content_hash"))


def _judged(emails: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Add the rules that an e-mail breaks: those that a part of it does, and those of the whole, whose measures are sums of the parts'."""
    sized = emails.with_columns(pl.col("html").str.len_bytes().alias("size"))
    of_sums = _bits(sized, _MEASURES, lambda row: excesses(Measures(*row), rules))
    of_sizes = _bits(sized, ["size"], lambda row: size_faults(row[0], rules))
    unfollowed = pl.when("is_followed").then(0).otherwise(_BITS["unsubscribe_link"])
    judged = sized.with_columns(broken=pl.col("broken") | of_sums | of_sizes | unfollowed)
    each = judged.select("broken").drop_nulls().unique()
    names = [ordered({rule for rule, bit in _BITS.items() if bit & broken}) for broken in each["broken"]]
    named = each.with_columns(
        guardrails=pl.Series([list(rules) for rules in names], dtype=pl.List(pl.String)),
        problem=pl.Series([f"{GUARDRAIL}{rules[0]}" if rules else None for rules in names], dtype=pl.String),
    )
    return judged.join(named, on="broken", how="left", maintain_order="left").drop("broken", "is_followed", "size", *_MEASURES)


def _bits(emails: pl.DataFrame, names: Sequence[str], judge: Callable[[Sequence[int]], frozenset[str]]) -> pl.Series:
    """Judge e-mails by these numbers, once for each distinct tuple of them; return the rules broken, as bits."""
    at, number = _distinct(emails.with_row_index(_PLACE).select(pl.col(_PLACE).first().over(names)).to_series())
    bits = [0 if None in row else sum(_BITS[rule] for rule in judge(row)) for row in emails[at, names].iter_rows()]
    return pl.Series(bits, dtype=pl.Int64).gather(number)


def _unless_blank(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def _joined(parts: Sequence[pl.Expr], by: str) -> pl.Expr:
    """Join those that are not null; null where none is."""
    return _unless_blank(pl.concat_str(parts, separator=by, ignore_nulls=True))
