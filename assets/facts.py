"""What the catalog shows of a day of a table: row counts, and a small table or chart where one helps.

What belongs here: metadata of materializations. What does not: checks, and anything that decides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from atc_pipeline.rules import RULINGS

Facts = Mapping[str, Any]

BAR_WIDTH = 24


def facts_of(table: str, frame: pl.DataFrame) -> Facts:
    """Describe a day of a table."""
    described = _DESCRIBED.get(table)
    return {"dagster/row_count": frame.height, **(described(frame) if described else {})}


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


def _profiles(frame: pl.DataFrame) -> Facts:
    return {"new_customers": frame.filter(pl.col("first_seen_on") == pl.col("date")).height}


def _memberships(frame: pl.DataFrame) -> Facts:
    return {
        "segments": bars(_counted(frame, "segment_id"), "segment"),
        "entered_today": frame.filter(pl.col("member_since") == pl.col("date")).height,
    }


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


_DESCRIBED: Mapping[str, Callable[[pl.DataFrame], Facts]] = {
    "raw_events": _events,
    "rejected_events": _rejects,
    "customer_profiles": _profiles,
    "micro_segment_memberships": _memberships,
    "journey_queues": _queues,
    "journey_state": _state,
    "journey_assignments": _assignments,
    "journey_funnel": _funnel,
    "outbound_messages": _messages,
    "activation": _deliveries,
}
