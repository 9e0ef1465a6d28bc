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

_PLACE, _CHOSEN, _NUMBER, _SUBJECT, _PREHEADER = "place:", "chosen:", "number:", "subject:", "preheader:"
"""Columns of our own: no column of a profile has a colon in its name."""


def render_messages(rows: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """One row per row of ``rows``, in their order: the columns of ``rendered_messages``, and ``problem``: why it cannot go out like this.

    ``rows``: ``idempotency_key, customer_id, journey_id, day_index, entered_on, ends_on, channel, content``, of channels with a medium.
    ``problem`` is ``no_content``, then all that it would say is null, or ``guardrail:<rule>``, the first that it breaks; null = fine.
    """
    media = {channel.id: channel.medium for channel in portfolio.channels}
    emails = {content.id: content.email for content in portfolio.content if content.email is not None}
    known = known_of(rows, profiles, portfolio)
    medium = pl.col("channel").replace_strict(media, default=None, return_dtype=pl.String)
    groups = rows.select("content", medium.alias("medium"), pl.row_index(_PLACE)).group_by("content", "medium").agg(_PLACE)
    said = [pl.DataFrame(schema={name: dtype for name, dtype in SCHEMA.items() if name not in _ROW} | {_PLACE: pl.UInt32})]
    for content, medium, places in zip(groups["content"], groups["medium"], groups[_PLACE], strict=True):
        is_email = medium == "email" and content in emails
        at = places.alias(_PLACE).to_frame()
        said.append(at.hstack(_email(known[places], emails[content], portfolio)) if is_email else at)
    in_order = pl.concat(said, how="diagonal_relaxed").sort(_PLACE)
    whole = rows.select(pl.lit(today).alias("date"), *_ROW[1:]).hstack(in_order)
    problem = pl.when(pl.col("text").is_null()).then(pl.lit(NO_CONTENT)).otherwise("problem")
    return whole.with_columns(problem=problem).select(*SCHEMA).cast(SCHEMA)


_ROW = ("date", "idempotency_key", "customer_id", "channel", "content")


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
    *others, last = block.variants
    if last.share is not None:
        bucket = xxh64(pl.concat_str(pl.lit(f"{block.id}:"), "customer_id")) % BUCKETS
        ends = accumulate(round((variant.share or 0) * BUCKETS) for variant in others)
        tests = [bucket < end for end in ends]
    else:
        tests = [pl.lit(value=True) if variant.when is None else variant.when.expr for variant in others]
    cases = [(test, pl.lit(place, pl.Int32)) for place, test in enumerate(tests)]
    return one_of(cases, otherwise=pl.lit(len(others), pl.Int32))


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
_UNSUBSCRIBE = SLOTS["unsubscribe_url"]

_BITS = {rule: 1 << place for place, rule in enumerate(RULES)}


class Say(Protocol):
    """Says a variant with these values: as text and as HTML, and which rules that breaks."""

    def __call__(self, variant: Variant, values: Mapping[str, object], rules: Rules) -> tuple[str, str, frozenset[str]]:
        """Raise RenderError where it cannot be said."""


def _renderings(rows: pl.DataFrame, block: Block, say: Say, rules: Rules) -> tuple[pl.Series, pl.DataFrame]:
    """Render a block once for each distinct tuple of values that a variant reads; what it does not read does not count.

    Returns of each row the number of its rendering, and the renderings by number.
    """
    reads = [_columns(variant) for variant in block.variants]
    readers = {name: [place for place, names in enumerate(reads) if name in names] for name in sorted(set[str]().union(*reads))}
    read = [pl.when(pl.col(_CHOSEN).is_in(places)).then(pl.col(name)).alias(name) for name, places in readers.items()]
    values = rows.with_columns(choice(block).alias(_CHOSEN)).select(_CHOSEN, *read)
    distinct = values.unique(maintain_order=True)
    said: list[tuple[object, ...]] = []
    for row in distinct.iter_rows(named=True):
        variant = block.variants[row[_CHOSEN]]
        label = f"{block.id}:{variant.id}" if variant.id else None
        try:
            text, html, broken = say(variant, row, rules)
        except RenderError:
            said.append((label, *[None] * (len(_RENDERING) - 1)))
            continue
        is_followed = _UNSUBSCRIBE in html and has_unsubscribe_link(_UNSUBSCRIBE, html)
        bits = sum(_BITS[rule] for rule in broken)
        said.append((label, text, html, bits, _UNSUBSCRIBE in text, is_followed, *astuple(measured(text))))
    return _numbers(values, distinct), pl.DataFrame(said, schema=_RENDERING, orient="row")


def _numbers(rows: pl.DataFrame, distinct: pl.DataFrame) -> pl.Series:
    """Return at which place of ``distinct`` each row is."""
    numbered = distinct.with_row_index(_NUMBER)
    return rows.join(numbered, on=rows.columns, how="left", nulls_equal=True, maintain_order="left")[_NUMBER]


def _columns(variant: Variant) -> set[str]:
    return {*variant.text.columns, *(variant.html.columns if variant.html is not None else ())}


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


def _around(layout: str) -> tuple[str, str, str]:
    """Return a layout's HTML before the preheader, from there to the blocks, and after them (``layouts.html_of``)."""
    before, _, rest = layout.partition(PREHEADER)
    above, _, below = rest.partition(BODY)
    return before, above, below


def _email(rows: pl.DataFrame, content: EmailContent, portfolio: Portfolio) -> pl.DataFrame:
    """One row per row: what the e-mail says, in columns of ``rendered_messages``; null where a part of it failed."""
    blocks, rules = portfolio.body(content), portfolio.rules
    parts = {block.id: _renderings(rows, block, _say_block, rules) for block in dict.fromkeys(blocks)}
    parts[_SUBJECT] = _renderings(rows, _line(content.subject), _say_subject, rules)
    if content.preheader is not None:
        parts[_PREHEADER] = _renderings(rows, _line(content.preheader), _say_preheader, rules)
    numbers = pl.DataFrame([of.alias(name) for name, (of, _) in parts.items()])
    distinct = numbers.unique(maintain_order=True)
    said = {name: renderings[distinct[name]] for name, (_, renderings) in parts.items()}
    emails = _put_together(said, [block.id for block in blocks], _around(portfolio.layout_html(content)))
    return _judged(emails, rules)[_numbers(numbers, distinct)]


def _put_together(said: Mapping[str, pl.DataFrame], body: Sequence[str], around: tuple[str, str, str]) -> pl.DataFrame:
    """One row per distinct e-mail; of one of which a part failed, or that has no subject or nothing to read, all is null."""
    wide = pl.DataFrame([part[of].alias(f"{of}:{name}") for name, part in said.items() for of in _RENDERING])
    texts, htmls = ([pl.col(f"{of}:{name}") for name in body] for of in ("text", "html"))
    before, above, below = (pl.lit(each) for each in around)
    preheader, shown = (pl.col(f"{of}:{_PREHEADER}") if _PREHEADER in said else pl.lit("") for of in ("text", "html"))
    emails = wide.select(
        variant=_joined([pl.col(f"label:{name}") for name in body], "+"),
        subject=_unless_blank(pl.col(f"text:{_SUBJECT}")),
        preheader=_unless_blank(preheader),
        text=_joined([_unless_blank(text) for text in texts], "\n\n"),
        html=pl.concat_str(before, shown, above, *htmls, below),
        broken=reduce(or_, [pl.col(f"broken:{name}") for name in said]),
        is_followed=pl.any_horizontal(f"is_told:{name}" for name in body)
        & (pl.any_horizontal(f"is_followed:{name}" for name in body) | pl.lit(has_unsubscribe_link(_UNSUBSCRIBE, "".join(around)))),
        **{measure: pl.sum_horizontal(f"{measure}:{name}" for name in body) for measure in _MEASURES},
    )
    has_failed = pl.any_horizontal(wide[f"text:{name}"].is_null() for name in said)
    is_whole = ~has_failed & pl.all_horizontal(pl.col("subject", "text").is_not_null())
    return emails.select(pl.when(is_whole).then(pl.col(name)).alias(name) for name in emails.columns).with_columns(
        bytes=pl.sum_horizontal(pl.col("subject", "preheader", "text", "html").str.len_bytes()).cast(pl.Int64),
        content_hash=hexadecimal(xxh64(pl.concat_str("text", "html", separator="\0"))),
    )


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
    numbers = emails.select(names)
    distinct = numbers.unique(maintain_order=True)
    bits = pl.Series([0 if None in row else sum(_BITS[rule] for rule in judge(row)) for row in distinct.iter_rows()], dtype=pl.Int64)
    return bits.gather(_numbers(numbers, distinct))


def _unless_blank(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def _joined(parts: Sequence[pl.Expr], by: str) -> pl.Expr:
    """Join those that are not null; null where none is."""
    return _unless_blank(pl.concat_str(parts, separator=by, ignore_nulls=True))
