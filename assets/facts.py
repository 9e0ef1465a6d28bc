"""What the catalog shows of a day of a table: row counts, and a small table or chart where one helps.

What belongs here: metadata of materializations. What does not: checks, and anything that decides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from atc_pipeline.identity import CLAIMED, IGNORED, MERGED
from atc_pipeline.rules import RULINGS

Facts = Mapping[str, Any]

BAR_WIDTH = 24
SHOWN_MERGES = 20
SHOWN_SKIPPED = 50

OVERLAPPING = 8
"""How many of the largest micro-segments are compared with each other."""
MOST_LOOKED_AT = 20_000
"""Customers whose values a distribution is drawn from: of a million it costs no more than of these, and says the same."""


def facts_of(table: str, frame: pl.DataFrame, yesterday: pl.LazyFrame | None = None) -> Facts:
    """Describe a day of a table; ``yesterday``: the day before, read only by those that tell what has changed."""
    described, compared = _DESCRIBED.get(table), _COMPARED.get(table)
    facts = compared(frame, yesterday) if compared else described(frame) if described else {}
    return {"dagster/row_count": frame.height, **facts}


def markdown_table(frame: pl.DataFrame) -> dg.MetadataValue:
    """Show a small frame as a table."""
    header = [f"| {' | '.join(frame.columns)} |", f"|{' --- |' * frame.width}"]
    rows = [f"| {' | '.join('' if value is None else _cell(value) for value in row)} |" for row in frame.iter_rows()]
    return dg.MetadataValue.md("\n".join(header + rows))


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")[:200]


def bars(counts: Sequence[tuple[str, int]], what: str) -> dg.MetadataValue:
    """Show counts as a bar chart, largest first."""
    largest = max((count for _, count in counts), default=0) or 1
    lines = [f"| {what} | customers | |", "| --- | ---: | --- |"]
    lines += [f"| {name} | {count:,} | `{'█' * max(1, round(BAR_WIDTH * count / largest))}` |" for name, count in counts]
    return dg.MetadataValue.md("\n".join(lines))


def _counted(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    counts = frame.group_by(column).len().sort(["len", column], descending=[True, False])
    return [(str(name), count) for name, count in counts.iter_rows()]


def _events(frame: pl.DataFrame) -> Facts:
    return {"events": bars(_counted(frame.with_columns(pl.coalesce("event", "type")), "event"), "event")} if frame.height else {}


def _rejects(frame: pl.DataFrame) -> Facts:
    if frame.is_empty():
        return {}
    # Where an example is, not what: the line may name a customer, and what Dagster was told cannot be taken back (assets.erasure).
    examples = frame.group_by("reason", maintain_order=True).agg(
        pl.len().alias("lines"), pl.col("source_file").first(), pl.col("line").first()
    )
    return {"rejected_by_reason": markdown_table(examples.sort("reason"))}


def _coverage(frame: pl.DataFrame) -> Facts:
    """Say which values were skipped: what they look like and where they are, as what Dagster was told cannot be taken back."""
    skipped = frame.filter(pl.col("skipped") > 0).sort("skipped", "feature", descending=[True, False])
    shown = skipped.select("feature", "event", "read", "skipped", looks_like="sample", message_id="sample_message_id")
    return {"values_skipped": markdown_table(shown.head(SHOWN_SKIPPED))} if skipped.height else {}


def _identities(frame: pl.DataFrame) -> Facts:
    absorbed = frame.filter(pl.col("change").is_in([MERGED, CLAIMED]))
    counts = {change: frame.filter(pl.col("change") == change).height for change in (MERGED, CLAIMED, *IGNORED)}
    shown = absorbed.sort(pl.col("change") != MERGED, maintain_order=True).head(SHOWN_MERGES)
    # By message, not by name: what Dagster was told cannot be taken back (assets.erasure), and the table says who it was.
    return {
        **counts,
        "customers_absorbed": absorbed.height,
        "first_absorbed": markdown_table(shown.select("change", "id_type", "message_id")),
        "first_ignored": markdown_table(frame.filter(pl.col("change").is_in(IGNORED)).select("change", "message_id").head(SHOWN_MERGES)),
    }


def _profiles(frame: pl.DataFrame) -> Facts:
    """Say of every column how far it is filled and how its values are spread; the fill rate as a number, to be plotted over days."""
    if frame.is_empty():
        return {"new_customers": 0}
    schema = {
        name: dtype for name, dtype in frame.schema.items() if name not in ("date", "customer_id") and not isinstance(dtype, pl.Struct)
    }
    empty = frame.select(list(schema)).null_count().row(0)
    filled = {name: 1 - missing / frame.height for name, missing in zip(schema, empty, strict=True)}
    looked_at = frame.select(list(schema)).gather_every(max(1, frame.height // MOST_LOOKED_AT))
    numbers = [name for name, dtype in schema.items() if dtype.is_numeric()]
    words = [name for name, dtype in schema.items() if dtype in (pl.String(), pl.Boolean())]
    return {
        "new_customers": int((frame["first_seen_on"] == frame["date"]).sum()),
        "numbers": _table(["column", "filled", "", "least", "median", "90 % are at most", "largest"], _spread(looked_at, numbers, filled)),
        "words": _table(["column", "filled", "", "most frequent", "of those filled", "different"], _frequent(looked_at, words, filled)),
        **{f"filled/{name}": round(share, 4) for name, share in filled.items() if share < 1},
    }


def _spread(frame: pl.DataFrame, names: Sequence[str], filled: Mapping[str, float]) -> list[list[str]]:
    """One row per column of numbers: how far it is filled, and its least, median, ninth decile and largest value."""
    # All columns in one sort, with what is missing last: a third of the time that a quantile per column takes.
    values = np.sort(frame.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy(), axis=0)
    rows = []
    for column, name in enumerate(names):
        known = int(np.searchsorted(values[:, column], np.inf, side="right"))
        at = (0, known // 2, int(0.9 * known), known - 1) if known else ()
        rows.append([name, *_share(filled[name]), *(f"{values[place, column]:,.4g}" for place in at)])
    return rows


def _frequent(frame: pl.DataFrame, names: Sequence[str], filled: Mapping[str, float]) -> list[list[str]]:
    """One row per column of words: how far it is filled, its most frequent value, and how many different ones there are.

    A value that only one customer has may be who it is, and what Dagster was told cannot be taken back (``assets.erasure``).
    """
    rows = []
    for name in names:
        values, counts = frame[name].drop_nulls().value_counts(name="number")
        numbers = counts.to_numpy()
        is_most = numbers == numbers.max(initial=0)
        is_shared = numbers.max(initial=0) > 1
        most = [f"{values.filter(pl.Series(is_most)).min()!s}", f"{numbers.max() / numbers.sum():.0%}"] if is_shared else ["", ""]
        rows.append([name, *_share(filled[name]), *most, f"{values.len():,}"])
    return rows


def _share(share: float) -> tuple[str, str]:
    return f"{share:.1%}", _bar(10 * share)


def _bar(length: float) -> str:
    return f"`{'█' * max(1, round(length))}`" if length else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dg.MetadataValue:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return dg.MetadataValue.md("\n".join([f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *lines]))


def _memberships(frame: pl.DataFrame, yesterday: pl.LazyFrame | None) -> Facts:
    """Say how large each micro-segment is, who came and went, and how far they overlap; sizes as numbers, to be plotted over days."""
    is_new = pl.col("member_since") == pl.col("date")
    counts = frame.group_by("segment_id").agg(pl.len(), is_new.sum().alias("entered")).rows()
    before = {} if yesterday is None else dict(yesterday.group_by("segment_id").len().collect().iter_rows())
    # Who was there yesterday or came today, and is not there today, has left.
    sizes = [(name, customers, entered, before.get(name, 0) + entered - customers) for name, customers, entered in counts]
    sizes += [(name, 0, 0, before[name]) for name in before.keys() - {name for name, *_ in counts}]
    sizes.sort(key=lambda size: (-size[1], size[0]))
    largest = [name for name, *_ in sizes[:OVERLAPPING]]
    overlap, segments_each = _overlap(frame, largest)
    return {
        "segments": _sized(sizes),
        "overlap_of_the_largest": _table(["of those in", *(f"in {number}" for number in range(1, len(largest) + 1))], overlap),
        "segments_per_customer": _table(
            ["in segments", "customers", ""],
            [[f"{number}", f"{share:.1%}", _bar(2 * BAR_WIDTH * share)] for number, share in segments_each],
        ),
        "entered_today": sum(entered for _, _, entered, _ in sizes),
        "left_today": sum(left for _, _, _, left in sizes),
        **{f"size/{name}": customers for name, customers, _, _ in sorted(sizes)},
    }


def _sized(sizes: Sequence[tuple[str, int, int, int]]) -> dg.MetadataValue:
    largest = max((customers for _, customers, _, _ in sizes), default=0) or 1
    rows = [
        [name, f"{customers:,}", f"+{entered:,}", f"-{left:,}", _bar(BAR_WIDTH * customers / largest)]
        for name, customers, entered, left in sizes
    ]
    return _table(["segment", "customers", "entered", "left", ""], rows)


def _overlap(frame: pl.DataFrame, largest: Sequence[str]) -> tuple[list[list[str]], list[tuple[int, float]]]:
    """Return which share of each of these segments is in each other one, and which share of the customers in how many segments."""
    bits = {name: 1 << place for place, name in enumerate(largest)}
    bit = pl.col("segment_id").replace_strict(bits, default=0, return_dtype=pl.Int64)
    # One customer's segments are one number, its bits: there are but 2^8 of these, however many customers.
    some = pl.col("customer_id").hash() % max(1, frame.height // MOST_LOOKED_AT) == 0
    kinds = (
        frame.lazy()
        .filter(some)
        .group_by("customer_id")
        .agg(bit.sum().alias("bits"), pl.len().alias("segments"))
        .group_by("bits", "segments")
        .len()
        .collect()
    )
    is_in = (kinds["bits"].to_numpy()[:, None] >> np.arange(len(largest))) & 1
    both = is_in.T @ (is_in * kinds["len"].to_numpy()[:, None])
    rows = [
        [
            f"{one + 1} {name}",
            *("" if one == other else f"{both[one, other] / max(1, both[one, one]):.0%}" for other in range(len(largest))),
        ]
        for one, name in enumerate(largest)
    ]
    return rows, kinds.group_by("segments").agg(pl.col("len").sum() / kinds["len"].sum()).sort("segments").rows()


def _queues(frame: pl.DataFrame) -> Facts:
    return {"queues": bars(_counted(frame, "journey_id"), "journey"), "journeys_queued": frame["journey_id"].n_unique()}


def _funnel(frame: pl.DataFrame) -> Facts:
    lost = [name for name in RULINGS if name != "chosen" and frame[name].sum() > 0]
    table = frame.select("journey_id", "queued", "carried", *lost, "chosen", "started").sort(
        "queued", "journey_id", descending=[True, False]
    )
    facts = {
        "funnel": markdown_table(table),
        "lost_at": bars([(name, int(frame[name].sum())) for name in lost], "gate"),
    }
    limited = frame.drop_nulls("places").select("journey_id", "places", "wanted", "started", "price")
    return facts if limited.is_empty() else {**facts, "limited_places": markdown_table(limited.sort("price", descending=True))}


def _state(frame: pl.DataFrame) -> Facts:
    return {"in_flight": frame["ended_on"].null_count()}


def _assignments(frame: pl.DataFrame) -> Facts:
    decisions = frame.group_by("journey_id", "decision").len()
    by_journey = decisions.pivot("decision", index="journey_id", values="len", sort_columns=True).sort("journey_id", nulls_last=True)
    counts = {name: frame.filter(pl.col("decision") == name).height for name in ("start", "continue", "switch", "none")}
    return {"decisions_by_journey": markdown_table(by_journey.with_columns(pl.col("journey_id").fill_null("(none)"))), **counts}


def _messages(frame: pl.DataFrame) -> Facts:
    if frame.is_empty():
        return {"to_send": 0}
    by_channel = frame.group_by("channel", "withheld").len().sort("channel", "withheld")
    return {"to_send": frame["withheld"].null_count(), "by_channel": markdown_table(by_channel)}


def _deliveries(frame: pl.DataFrame) -> Facts:
    return {"by_status": markdown_table(frame.group_by("channel", "status").len().sort("channel", "status"))} if frame.height else {}


_COMPARED: Mapping[str, Callable[[pl.DataFrame, pl.LazyFrame | None], Facts]] = {"micro_segment_memberships": _memberships}

_DESCRIBED: Mapping[str, Callable[[pl.DataFrame], Facts]] = {
    "raw_events": _events,
    "rejected_events": _rejects,
    "feature_coverage": _coverage,
    "identity_changes": _identities,
    "customer_profiles": _profiles,
    "journey_queues": _queues,
    "journey_state": _state,
    "journey_assignments": _assignments,
    "journey_funnel": _funnel,
    "outbound_messages": _messages,
    "activation": _deliveries,
}
