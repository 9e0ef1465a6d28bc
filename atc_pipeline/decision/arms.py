"""The lots of an entry: who is held out, by whom, and which variant of the journey it is (SPEC 8, step 6; 11).

What belongs here: the draw. What does not: its words (``rules.arms``), where it is kept (``memory``), what is made of it (``outcomes``).
"""

from collections.abc import Mapping, Sequence

import polars as pl

from atc_pipeline.journeys.portfolio import Journey, Portfolio, Share
from atc_pipeline.rules.arms import CONTROL, JOURNEY, POLICY, TREATED
from atc_pipeline.rules.lots import BUCKETS, bucket

DRAWN = ("arm", "held_out_by", "variant")
"""What is drawn when a journey is entered, and stays as it is in this entry."""


Shares = Mapping[str, Sequence[Share]]
"""By journey, the shares of its variants, where these are others by now than ``journeys.yaml`` says."""


def draw(entries: pl.DataFrame, portfolio: Portfolio, shares: Shares | None = None) -> pl.DataFrame:
    """Add ``DRAWN`` to entries, in their order: they have ``journey_id``, and ``arm_id``, by which lots are drawn."""
    rows = entries.with_row_index("row:").with_columns(held_out_by(entries, portfolio))
    is_control = pl.col("held_out_by").is_not_null()
    rows = rows.with_columns(arm=pl.when(is_control).then(pl.lit(CONTROL)).otherwise(pl.lit(TREATED)))
    place = bucket(pl.concat_str(pl.lit("variant:"), "journey_id"))
    variants = (
        rows.join(_variants(portfolio, shares or {}), on="journey_id", how="inner")
        .filter((place >= pl.col("from:")) & (place < pl.col("until:")))
        .select("row:", "variant")
    )
    return rows.join(variants, on="row:", how="left", maintain_order="left").select(*entries.columns, *DRAWN)


def held_out_by(entries: pl.DataFrame, portfolio: Portfolio) -> pl.Series:
    """Return by entry who holds it out: ``policy.holdout``, or else the journey's own, which one that is gone has none of; else null."""
    of_everything = bucket(portfolio.version) < round(portfolio.policy.holdout * BUCKETS)
    of_journey = (bucket(pl.col("salt:")) < pl.col("held_out:")).fill_null(value=False)
    who = pl.when(of_everything).then(pl.lit(POLICY)).when(of_journey).then(pl.lit(JOURNEY))
    named = entries.select("arm_id", "journey_id").join(_holdouts(portfolio), on="journey_id", how="left", maintain_order="left")
    return named.select(who.alias("held_out_by")).to_series()


def _holdouts(portfolio: Portfolio) -> pl.DataFrame:
    """One row per journey: by what its control group is drawn, and how many buckets are in it."""
    rows = [(journey.id, _salt(journey), round(journey.holdout * BUCKETS)) for journey in portfolio.journeys]
    return pl.DataFrame(rows, schema={"journey_id": pl.String, "salt:": pl.String, "held_out:": pl.UInt64}, orient="row")


def _salt(journey: Journey) -> str:
    return journey.id if journey.holdout_version is None else f"{journey.id}:{journey.holdout_version}"


def _variants(portfolio: Portfolio, shares: Shares) -> pl.DataFrame:
    """One row per journey and variant of it: its buckets, ``from:`` up to, but not in, ``until:``."""
    rows = []
    for journey in portfolio.journeys:
        share, begins = 0.0, 0
        variants = shares.get(journey.id, journey.variants)
        for variant in variants:
            share += variant.share
            ends = BUCKETS if variant is variants[-1] else round(share * BUCKETS)
            rows.append((journey.id, variant.id, begins, ends))
            begins = ends
    schema = {"journey_id": pl.String, "variant": pl.String, "from:": pl.UInt64, "until:": pl.UInt64}
    return pl.DataFrame(rows, schema=schema, orient="row")
