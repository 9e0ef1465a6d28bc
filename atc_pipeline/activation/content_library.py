"""The content library: everything that journeys.yaml can say, and who would get it today (SPEC 9.3).

What belongs here: one row per variant of a block in a content. What does not: what a message says (``rendering``), the rules that texts
follow (``content.guardrails``).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import polars as pl

from atc_pipeline.activation.examples import assigned, example_profile
from atc_pipeline.activation.tables import CONTENT_LIBRARY, NO_CONTENT
from atc_pipeline.content.guardrails import Rules, faults, measured, ordered
from atc_pipeline.content.templates import RenderError, Template
from atc_pipeline.journeys.portfolio import Content, Portfolio, Variant
from atc_pipeline.rules.lots import hexadecimal, xxh64

Row = Mapping[str, object]


def content_library(rendered: pl.DataFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """One row per content, medium, block and variant; ``rendered``: the day's ``rendered_messages``."""
    example = example_profile(portfolio, today).row(0, named=True)
    rows = [
        row for content in portfolio.content for row in _of_content(content, portfolio, {**example, **assigned(portfolio, content, today)})
    ]
    columns = {name: dtype for name, dtype in CONTENT_LIBRARY.schema.items() if name not in ("date", "customers", "version")}
    library = pl.DataFrame(rows, schema={**columns, "says": pl.String()})
    label = pl.when(pl.col("variant") != "").then(pl.concat_str("block", "variant", separator=":")).otherwise(pl.lit(""))
    return (
        library.with_columns(label=label)
        .join(_customers(rendered, portfolio), on=["content", "medium", "label"], how="left")
        .with_columns(pl.lit(today).alias("date"), pl.col("customers").fill_null(0), version=hexadecimal(xxh64(pl.col("says"))))
        .select(*CONTENT_LIBRARY.schema)
        .cast(CONTENT_LIBRARY.schema)
        .sort(CONTENT_LIBRARY.key)
    )


def _customers(rendered: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per content, medium and ``label``, a variant as messages name it: how many ``customers``; by the empty one, all."""
    media = {channel.id: channel.medium for channel in portfolio.channels}
    medium = pl.col("channel").replace_strict(media, default=None, return_dtype=pl.String)
    counted = rendered.lazy().group_by("content", "variant", medium=medium).agg(customers=pl.col("customer_id").n_unique())
    labels = pl.concat_list(pl.lit(""), pl.col("variant").fill_null("").str.split("+")).list.unique()
    each = counted.with_columns(label=labels).explode("label").group_by("content", "medium", "label")
    return each.agg(pl.col("customers").sum().cast(pl.Int64)).collect()


def _of_content(content: Content, portfolio: Portfolio, values: Mapping[str, object]) -> Iterator[Row]:
    """Yield a row for what is the content's own, its subject and so on, and one for each variant of its blocks, the footer's too.

    ``values``: what its templates may name, of the example on the day it is due.
    """
    email = content.email
    if email is None:
        return
    rules, common = portfolio.rules, {"content": content.id, "medium": "email"}
    lines = [line for line in (email.subject, email.preheader) if line is not None]
    around = "".join(layout.text for layout in portfolio.layouts if layout.id == email.layout)
    own = {"block": None, "variant": "", "when": None, "share": None, "columns": _columns(lines)}
    yield {**common, **own, **_measured(lines, [around, *(line.text for line in lines)], values, rules)}
    for block in dict.fromkeys(portfolio.body(email)):
        for variant in block.variants:
            yield {**common, "block": block.id, **_of_variant(variant, values, rules)}


def _of_variant(variant: Variant, values: Mapping[str, object], rules: Rules) -> Row:
    texts = [text for text in (variant.text, variant.html) if text is not None]
    when = variant.when
    chosen = {"variant": variant.id, "when": None if when is None else when.text, "share": variant.share}
    columns = sorted({*_columns(texts), *(when.columns if when is not None else ())})
    return {**chosen, **_measured([variant.text], [text.text for text in texts], values, rules), "columns": columns}


def _measured(read: Sequence[Template], made_of: Sequence[str], values: Mapping[str, object], rules: Rules) -> Row:
    """Measure what is read, as shown to the example; ``says``: all that it is made of."""
    says = "\0".join(made_of)
    try:
        text = "\n".join(template.render(values) for template in read)
    except RenderError:
        return {"words": 0, "lix": None, "guardrails": [NO_CONTENT], "says": says}
    measures = measured(text)
    broken = ordered(faults(text, rules))
    return {"words": measures.words, "lix": measures.lix if measures.words else None, "guardrails": list(broken), "says": says}


def _columns(templates: Sequence[Template]) -> list[str]:
    return sorted({name for template in templates for name in template.columns})
